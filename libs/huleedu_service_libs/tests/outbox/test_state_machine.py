"""Whatever happens to relays and broker, in whatever order: a list per key is what arrives.

Hypothesis decides what happens next: transactions that commit or roll back, a relay that works, dies in the middle of a
batch or loses its database session, a broker that refuses, is away or loses acknowledgements, time, redrive, purge.
Real PostgreSQL; the broker is a list. The model is a list of committed events per key.
"""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Sequence
from enum import Enum
from functools import partial
from typing import Any, ClassVar, Literal
from uuid import UUID

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.pool import NullPool

from huleedu_service_libs._ids import uuid7
from huleedu_service_libs.outbox import lanes, pipeline, repository
from huleedu_service_libs.outbox.batch import Batch
from huleedu_service_libs.outbox.insertion import NewRow
from huleedu_service_libs.outbox.models import Base
from huleedu_service_libs.outbox.parked import Selection
from huleedu_service_libs.outbox.purge import purge
from huleedu_service_libs.outbox.redrive import redrive
from huleedu_service_libs.outbox.relay import EventRelayWorker, OutboxSettings
from huleedu_service_libs.outbox.wakeup import WakeListener
from huleedu_service_libs.protocols import DeliveryOutcome, OutgoingMessage

pytestmark = pytest.mark.integration

MAX_RETRIES = 2
KEYS = ("a", "b")  # few, so that they meet
RELAYS = st.integers(0, 1)
_STEPS_TO_THE_END = 300


class Fate(Enum):
    """What the broker makes of one message."""

    ARRIVES = "arrives"
    REFUSED = "refused for its content"
    OUTAGE = "never arrives, for no fault of its own"
    LOST_REPLY = "arrives, but the acknowledgement is lost"
    RELAY_DIES_BEFORE = "the relay dies before it is sent"
    RELAY_DIES_AFTER = "the relay dies when it has arrived, before anything is marked"


FATES = st.lists(st.sampled_from([*Fate, Fate.ARRIVES, Fate.ARRIVES, Fate.ARRIVES]), max_size=6)


class Died(BaseException):
    """The process is gone: no handler of any error runs on, only what the database sees of a closed connection."""


class Broker:
    """Keeps what has arrived; draws fates from a script, and when that is used up everything arrives."""

    def __init__(self, model: "Model") -> None:
        self.model = model
        self.fates: list[Fate] = []

    async def start(self) -> None:
        """Nothing to do."""

    async def stop(self) -> None:
        """Nothing to do."""

    async def publish(self, *_: Any, **__: Any) -> None:
        raise AssertionError("batches only")

    async def publish_batch(self, messages: Sequence[OutgoingMessage]) -> list[DeliveryOutcome]:
        """As the port promises: what follows a failure of its key is held back."""
        outcomes: list[DeliveryOutcome] = []
        broken: set[bytes | None] = set()
        for message in messages:
            outcomes.append(self._outcome(message, held_back=message.key in broken))
            if not outcomes[-1].acknowledged:
                broken.add(message.key)
        return outcomes

    def _outcome(self, message: OutgoingMessage, *, held_back: bool) -> DeliveryOutcome:
        if held_back:
            return DeliveryOutcome(error=RuntimeError("held back"), attempted=False)
        event, fate = UUID(dict(message.headers)["event_id"].decode()), self.fates.pop() if self.fates else Fate.ARRIVES
        if fate is Fate.RELAY_DIES_BEFORE:
            raise Died
        if fate in {Fate.ARRIVES, Fate.LOST_REPLY, Fate.RELAY_DIES_AFTER}:
            self.model.arrives((message.key or b"").decode(), event)
        if fate is Fate.RELAY_DIES_AFTER:
            raise Died
        if fate is Fate.REFUSED:
            self.model.refusals[event] += 1
        if fate is Fate.ARRIVES:
            return DeliveryOutcome()
        return DeliveryOutcome(error=ValueError(fate.value), transient=fate is not Fate.REFUSED)


class Model:
    """A list per key, and what has become of its events."""

    def __init__(self) -> None:
        self.committed: defaultdict[str, list[UUID]] = defaultdict(list)
        self.arrived: defaultdict[str, list[UUID]] = defaultdict(list)
        self.refusals: Counter[UUID] = Counter()
        self.parked: set[UUID] = set()  # at any time: out of the order of its key, and no obstacle to others

    def arrives(self, key: str, event: UUID) -> None:
        """Only what was committed, and for the first time only behind all earlier ones of its key."""
        order = self.committed[key]
        assert event in order, f"{event} of {key} was never committed"
        if event not in self.arrived[key] and event not in self.parked:
            earlier = [one for one in order[: order.index(event)] if one not in self.parked]
            missing = [one for one in earlier if one not in self.arrived[key]]
            gone = [one for one in missing if self.refusals[one] >= MAX_RETRIES]  # parked, and not looked at yet
            assert missing == gone, f"{event} of {key} has overtaken {missing}"
        self.arrived[key].append(event)

    @property
    def all_arrived(self) -> set[UUID]:
        """Over all keys."""
        return {event for events in self.arrived.values() for event in events}

    @property
    def all_committed(self) -> set[UUID]:
        """The same."""
        return {event for events in self.committed.values() for event in events}


class Relay:
    """One relay process: dies and is started again."""

    def __init__(self, engine: AsyncEngine, broker: Broker, clock: Any) -> None:
        self._engine, self._broker, self._clock = engine, broker, clock
        self.start()

    def start(self) -> None:
        """A new process knows nothing of the old one."""
        self.store = lanes.PostgreSQLBatchStore(
            self._engine, service_name="svc", max_error_length=1000, clock=self._clock
        )
        self.worker = EventRelayWorker(
            repository.PostgreSQLOutboxRepository(self._engine, "svc"),
            self._broker,
            OutboxSettings(batch_size=4, max_retries=MAX_RETRIES, enable_metrics=False),
            "svc",
            clock=self._clock,
            jitter=lambda: 0.5,
        )
        self.worker._running = True  # reads ahead; without a listener its back-offs end at once
        self.pipeline = self.worker._pipeline(self.store)
        self.wake = WakeListener(None, "key", None)

    async def work(self) -> None:
        """One cycle, as the relay's loop does it."""
        try:
            await self.worker._guarded_cycle(self.pipeline, self.store, self.wake)
        except Died:
            await self.store.close()  # what is left of a dead process: the server sees its connection closed
            self.start()

    async def end(self) -> None:
        """SIGTERM."""
        await self.worker._finish_pipeline(self.pipeline)
        await self.store.close()
        self.start()


class Relays(RuleBasedStateMachine):
    """Two relays on one outbox."""

    address: ClassVar[str]

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.engine = create_async_engine(self.address, poolclass=NullPool)
        self.repository = repository.PostgreSQLOutboxRepository(self.engine, "svc")
        self.now = 0.0
        self.model = Model()
        self.broker = Broker(self.model)
        self.relays = [Relay(self.engine, self.broker, lambda: self.now) for _ in range(2)]
        self._run(self._sql("TRUNCATE event_outbox"))

    def _run(self, work: Any) -> Any:
        return self.loop.run_until_complete(work)

    async def _sql(self, statement: str, **values: Any) -> Sequence[Any]:
        async with self.engine.begin() as connection:
            result = await connection.execute(text(statement), values)
            return result.all() if result.returns_rows else ()

    # --- what may happen

    @rule(keys=st.lists(st.sampled_from(KEYS), min_size=1, max_size=5), commits=st.booleans())
    def append(self, keys: list[str], commits: bool) -> None:  # noqa: FBT001  # a rule's argument
        """A transaction adds events, and changes its mind or not."""

        async def transaction() -> None:
            rows = [
                NewRow(
                    id=uuid7(),
                    aggregate_id=key,
                    aggregate_type="t",
                    event_type="e.v1",
                    event_data={"data": {}},
                    topic="t",
                )
                for key in keys
            ]
            async with AsyncSession(self.engine) as session:
                await self.repository.add_events(rows, session=session)
                await (session.commit() if commits else session.rollback())
            if commits:
                for row in rows:
                    self.model.committed[row.aggregate_id].append(row.id)

        self._run(transaction())

    @rule(which=RELAYS, fates=FATES)
    def a_relay_works(self, which: int, fates: list[Fate]) -> None:
        """One cycle, in which the broker does as it likes and the relay may die."""
        self.broker.fates = list(fates)
        self._run(self.relays[which].work())
        self.broker.fates = []

    @rule(which=RELAYS)
    def a_relay_loses_its_session(self, which: int) -> None:
        """The server ends it; the relay goes on with what it has in hand, and finds out at its next statement."""
        connection = self.relays[which].store._session._connection
        if connection is None:
            return

        async def terminate() -> None:
            driver = (await connection.get_raw_connection()).driver_connection
            assert driver is not None
            await self._sql("SELECT pg_terminate_backend(:pid, 1000)", pid=driver.get_server_pid())

        self._run(terminate())

    @rule(which=RELAYS)
    def a_relay_ends(self, which: int) -> None:
        """In order: its lanes are free at once."""
        self._run(self.relays[which].end())

    @rule(seconds=st.sampled_from([0.2, 1.1, 11.0, 60.0]))
    def time_passes(self, seconds: float) -> None:
        """Lanes are counted every second, what was read ahead is stale after ten, back-offs end within a minute."""
        self.now += seconds

    @precondition(lambda self: self.model.parked)
    @rule(mode=st.sampled_from(["in-place", "appended"]))
    def redriven(self, mode: Literal["in-place", "appended"]) -> None:
        """Somebody gives all parked events new attempts."""
        self._note_parked()
        done = self._run(
            redrive(self.engine, Selection(everything=True), mode=mode, actor="a", reason="r", max_retries=MAX_RETRIES)
        )
        for event in done.moved:
            self.model.refusals[event] = 0

    @rule()
    def purged(self) -> None:
        """What was published is deleted, whatever its age."""
        self._run(purge(self.engine, retention_seconds=0.0, sleep=partial(asyncio.sleep, 0)))

    # --- what must hold

    @invariant()
    def only_what_has_arrived_is_marked_or_gone(self) -> None:
        """A row that is published, or was purged, has arrived; no row is there that was not committed."""
        rows = {row.id: row for row in self._run(self._sql("SELECT id, published_at, retry_count FROM event_outbox"))}
        assert rows.keys() <= self.model.all_committed
        unpublished = {event for event, row in rows.items() if row.published_at is None}
        assert self.model.all_committed - unpublished <= self.model.all_arrived
        assert all(row.retry_count <= self.model.refusals[event] for event, row in rows.items())

    @invariant()
    def _note_parked(self) -> None:
        rows = self._run(self._sql("SELECT id FROM event_outbox WHERE retry_count >= :most", most=MAX_RETRIES))
        self.model.parked |= {row.id for row in rows}

    def teardown(self) -> None:
        """With a broker that is well, all that is not parked arrives, and nothing waits any longer."""
        try:
            self._run(self._until_nothing_waits())
            left = {row.id for row in self._run(self._sql("SELECT id FROM event_outbox WHERE published_at IS NULL"))}
            assert left <= self.model.parked
            assert self.model.all_committed - left == self.model.all_arrived - left
        finally:
            for relay in self.relays:
                self._run(relay.store.close())
            self._run(self.engine.dispose())
            self.loop.close()

    async def _until_nothing_waits(self) -> None:
        for _ in range(_STEPS_TO_THE_END):
            for relay in self.relays:
                await relay.work()
            self.now += 0.01 if any(relay.pipeline.has_read_ahead for relay in self.relays) else 61.0
            waiting = await self._sql(
                "SELECT 1 FROM event_outbox WHERE published_at IS NULL AND retry_count < :most LIMIT 1",
                most=MAX_RETRIES,
            )
            if not waiting and not any(relay.pipeline.has_read_ahead for relay in self.relays):
                for relay in self.relays:
                    await relay.worker._finish_pipeline(relay.pipeline)
                return
        raise AssertionError("the relays do not come to an end")


@pytest.fixture(name="machine")
def _machine(postgres_database: str) -> type[Relays]:
    """Machines on a database with the table."""

    async def make_table() -> None:
        engine = create_async_engine(postgres_database)
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)
        await engine.dispose()

    asyncio.run(make_table())
    return type("RelaysHere", (Relays,), {"address": postgres_database})


def _settings(examples: int) -> settings:
    return settings(
        max_examples=examples,
        stateful_step_count=25,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        print_blob=False,
    )


@pytest.mark.timeout(300)
def test_a_list_per_key_arrives_whatever_happens(machine: type[Relays]) -> None:
    """Nothing is lost, made up or marked unsent, and the order of each key stays, in every course of events."""
    run_state_machine_as_test(machine, settings=_settings(15))


def _mark_all(events: Sequence[Any], _: Sequence[DeliveryOutcome]) -> Batch:
    return Batch(size=len(events), published=list(events))


@pytest.mark.timeout(300)
def test_the_machine_finds_a_relay_that_is_wrong(machine: type[Relays], monkeypatch: pytest.MonkeyPatch) -> None:
    """One that marks what the broker has refused."""
    monkeypatch.setattr(pipeline, "judge", _mark_all)
    with pytest.raises((AssertionError, ExceptionGroup)):
        run_state_machine_as_test(
            machine, settings=settings(_settings(150), phases=[Phase.generate], report_multiple_bugs=False)
        )
