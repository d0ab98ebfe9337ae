"""Sends the essays, the failures and the duplicates, and gathers the evidence.

`__main__` starts it on running services. It acts like the page does, over HTTP
and WebSocket only, except for the duplicates, which it puts into Kafka itself.
"""

import asyncio
import secrets
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from itertools import cycle, islice
from typing import Any
from uuid import uuid4

import httpx

from essay_pipeline.contracts import ACCEPTED_NOTIFICATION, CHECKED_NOTIFICATION, Language
from essay_pipeline.demo.clients import Arrival, User, send_fences
from essay_pipeline.demo.display import Counts, Display
from essay_pipeline.demo.oracle import Evidence, Submitted
from essay_pipeline.demo.processes import PipelineProcesses
from essay_pipeline.demo.readback import as_event, read_database, read_topic, replay, wait_until_consumed
from essay_pipeline.slips import make_slips
from essay_pipeline.spelling import SpellChecker
from essay_pipeline.texts import load_essays

__all__ = ["Driver", "Outcome", "Plan"]

_AT_ONCE = 8  # requests
_HTTP_LIMIT_S = 30.0
_STALL_S = 30.0  # without any arrival
_SETTLE_S = 60.0  # until the consumers have committed everything
_FENCE_S = 15.0
_LOOK_S = 0.5
_UNPUBLISHED = "SELECT count(*) FROM event_outbox WHERE published_at IS NULL"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to send.

    Attributes:
        essays: Essays to be accepted, at least one.
        users: Who sends them, in turn.
        rollbacks: Further essays whose transaction is rolled back.
        replays: Delivered messages of each topic that are sent again.
    """

    essays: int
    users: int
    rollbacks: int
    replays: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of it.

    Attributes:
        evidence: For the oracle.
        counts: As they stood at the end.
        seconds: From the first request to the last "checked" in a browser.
        stages: For each essay the times of its stages; ``browser_at`` is the last.
    """

    evidence: Evidence
    counts: Counts
    seconds: float
    stages: list[dict[str, datetime]]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Job:
    """One request."""

    user: User
    body: dict[str, str]
    slips: frozenset[tuple[int, str]]
    roll_back: bool


@dataclass(slots=True)
class Driver:
    """One run over running services.

    Args:
        pipeline: The services.
        plan: What to send.
        display: Shows how far it is.
    """

    pipeline: PipelineProcesses
    plan: Plan
    display: Display
    counts: Counts = field(init=False)
    _submitted: dict[str, Submitted] = field(default_factory=dict)
    _rolled_back: set[str] = field(default_factory=set)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _enough_for_replay: asyncio.Event = field(default_factory=asyncio.Event)
    _checked_ids: set[str] = field(default_factory=set)
    _window: asyncio.Semaphore = field(init=False)
    _last_at: float = 0.0

    def __post_init__(self) -> None:
        self.counts = Counts(essays=self.plan.essays, rollbacks=self.plan.rollbacks)
        # One essay a user on its way, as at the page; more would measure the queue before the check.
        self._window = asyncio.Semaphore(self.plan.users)

    async def run(self) -> Outcome:
        """Send everything, wait for what comes of it, and read it back.

        Raises:
            ExceptionGroup: Of `DevStackError` when a server ended, `ServiceFailedError` when a service did,
                `httpx.HTTPError` when *intake* does not answer, or not as it should.
        """
        async with asyncio.TaskGroup() as group:
            # At once, whatever is being waited for: most clients wait half a minute for a server that has gone.
            watching = group.create_task(self._watch())
            outcome = await self._run()
            watching.cancel()
        return outcome

    async def _watch(self) -> None:
        while True:
            await asyncio.to_thread(self.pipeline.check_alive)
            await asyncio.sleep(_LOOK_S)  # noqa: TID251  # there is nothing to be woken by

    async def _run(self) -> Outcome:
        async with AsyncExitStack() as stack:
            users = [
                await stack.enter_async_context(User.connected(self.pipeline.notify_url, self._arrived))
                for _ in range(self.plan.users)
            ]
            jobs = await asyncio.to_thread(self._jobs, users)
            self.display.show(self.counts)
            began = time.monotonic()
            replaying = asyncio.create_task(self._replay_delivered())
            try:
                await self._deliver(jobs)
                self._enough_for_replay.set()
                replayed = await replaying
            finally:
                replaying.cancel()
                await asyncio.gather(replaying, return_exceptions=True)
            seconds = self._last_at - began
            self.display.line("waiting until all consumers have seen everything, duplicates included")
            await self._settle(users)
            self.display.line("reading Kafka and PostgreSQL back")
            evidence = await self._evidence(users, replayed)
        return Outcome(evidence=evidence, counts=self.counts, seconds=seconds, stages=_stages(users))

    def _jobs(self, users: list[User]) -> list[_Job]:
        """Essays with slips of their own, and among them, evenly, those to be rolled back."""
        spelling, texts, plan = SpellChecker(), load_essays(), self.plan
        total = plan.essays + plan.rollbacks
        jobs = []
        for number, (essay, user) in enumerate(islice(zip(cycle(texts), cycle(users), strict=False), total)):
            slipped = make_slips(
                essay.text,
                seed=number,
                language=essay.language,
                is_word=partial(_knows, spelling, essay.language),
            )
            body = {"title": f"{essay.title} ({number})", "language": essay.language, "text": slipped.text}
            slips = frozenset((slip.start, slip.written) for slip in slipped.slips)
            roll_back = (number + 1) * plan.rollbacks // total > number * plan.rollbacks // total
            jobs.append(_Job(user=user, body=body, slips=slips, roll_back=roll_back))
        return jobs

    async def _deliver(self, jobs: list[_Job]) -> None:
        """Send all and wait until all are checked, or until nothing arrives any more."""
        sending = asyncio.create_task(self._send_all(jobs))
        try:
            await self._until_all_checked(sending)
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)

    async def _send_all(self, jobs: list[_Job]) -> None:
        waiting = iter(jobs)
        async with (
            httpx.AsyncClient(base_url=self.pipeline.intake_url, timeout=_HTTP_LIMIT_S, trust_env=False) as http,
            asyncio.TaskGroup() as senders,
        ):
            for _ in range(_AT_ONCE):
                senders.create_task(self._send_some(http, waiting))

    async def _send_some(self, http: httpx.AsyncClient, waiting: Any) -> None:
        for job in waiting:
            if not job.roll_back:
                await self._window.acquire()
            headers = {
                "X-User-Token": job.user.token,
                "X-Correlation-ID": str(uuid4()),
                "traceparent": f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01",
            }
            if job.roll_back:
                headers["X-Demo-Rollback"] = "1"
            response = await http.post("/v1/essays", json=job.body, headers=headers)
            answer = response.json()
            if job.roll_back and response.status_code == httpx.codes.CONFLICT:
                self._rolled_back.add(answer["error"]["details"]["essay_id"])
                self.counts.rolled_back += 1
            else:
                response.raise_for_status()
                self._submitted[answer["essay_id"]] = Submitted(user_id=job.user.user_id, slips=job.slips)
                self.counts.stored += 1
            self.display.changed()

    def _arrived(self, arrival: Arrival) -> None:
        if arrival.event == ACCEPTED_NOTIFICATION:
            self.counts.announced += 1
        else:
            self.counts.checked += 1
            if arrival.essay_id not in self._checked_ids:
                self._checked_ids.add(arrival.essay_id)
                self._window.release()
            self._last_at = time.monotonic()
            if self.counts.checked * 3 >= self.plan.essays:
                self._enough_for_replay.set()
        self._changed.set()
        self.display.changed()

    async def _replay_delivered(self) -> dict[str, int]:
        """Once a third is through, put messages of checked essays into Kafka a second time."""
        await self._enough_for_replay.wait()
        sent: dict[str, int] = {}
        kafka = self.pipeline.servers.kafka
        for topic in self.pipeline.topics:
            delivered = [
                record
                for record in await read_topic(kafka.address, topic)
                if as_event(record).essay_id in self._checked_ids
            ]
            copies = await replay(
                kafka.address, delivered[: self.plan.replays], idempotent=kafka.supports_idempotent_producer
            )
            sent.update(copies)
            self.counts.replayed += len(copies)
            self.display.changed()
        return sent

    async def _until_all_checked(self, sending: asyncio.Task[None]) -> None:
        """Wait while something arrives; what is missing after a silence is for the oracle to name."""
        quiet_since = time.monotonic()
        while self.counts.checked < self.plan.essays or not sending.done():
            if sending.done():
                sending.result()
            self._changed.clear()
            try:
                async with asyncio.timeout(1.0):
                    await self._changed.wait()
            except TimeoutError:
                if time.monotonic() - quiet_since > _STALL_S:
                    self.display.line(f"nothing arrived for {_STALL_S:g} s: giving up")
                    return
            else:
                quiet_since = time.monotonic()

    async def _settle(self, users: list[User]) -> None:
        """Until every message is consumed, and what the services published has reached the clients."""
        submitted, checked = self.pipeline.topics
        spellcheck, notify = self.pipeline.groups
        groups = {spellcheck: [submitted], notify: [submitted, checked]}
        try:
            async with asyncio.timeout(_SETTLE_S):
                await wait_until_consumed(self.pipeline.servers.kafka.address, groups, check=self.pipeline.check_alive)
            async with asyncio.timeout(_FENCE_S):
                await send_fences(self.pipeline.servers.redis.address, self.pipeline.namespace, users)
                await asyncio.gather(*(user.fenced.wait() for user in users))
        except TimeoutError:
            self.display.line("the consumers did not come to the end in time: judging what is there")

    async def _evidence(self, users: list[User], replayed: dict[str, int]) -> Evidence:
        databases, kafka = self.pipeline.databases, self.pipeline.servers.kafka
        submitted, checked = [await read_topic(kafka.address, topic) for topic in self.pipeline.topics]
        intake = await read_database(
            databases["intake"], {"essays": "SELECT id::text FROM essays", "unpublished": _UNPUBLISHED}
        )
        spellcheck = await read_database(
            databases["spellcheck"],
            {
                "runs": "SELECT essay_id::text, count(*) FROM spellcheck_runs GROUP BY essay_id",
                "results": "SELECT essay_id::text FROM spellcheck_results",
                "unpublished": _UNPUBLISHED,
            },
        )
        return Evidence(
            planned=self.plan.essays,
            submitted=self._submitted,
            rolled_back=frozenset(self._rolled_back),
            submitted_events=[as_event(record) for record in submitted],
            checked_events=[as_event(record) for record in checked],
            replayed=replayed,
            stored_essays=frozenset(row[0] for row in intake["essays"]),
            runs={row[0]: row[1] for row in spellcheck["runs"]},
            results=frozenset(row[0] for row in spellcheck["results"]),
            unpublished={"intake": intake["unpublished"][0][0], "spellcheck": spellcheck["unpublished"][0][0]},
            notifications={user.user_id: user.notifications() for user in users},
        )


def _knows(spelling: SpellChecker, language: Language, word: str) -> bool:
    return spelling.knows(word, language)


def _stages(users: list[User]) -> list[dict[str, datetime]]:
    return [
        {
            **{name: datetime.fromisoformat(text) for name, text in arrival.message["data"]["stages"].items()},
            "browser_at": arrival.at,
        }
        for user in users
        for arrival in user.arrivals
        if arrival.event == CHECKED_NOTIFICATION
    ]
