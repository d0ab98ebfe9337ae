"""A small Kafka consumer loop: in order per partition, at least once, nothing lost.

*spellcheck* and *notify* run their handlers in it. It decodes records and
commits offsets; it knows neither what a handler does nor how duplicates are
recognised (`idempotent_consumer` around the handler does that).

A record's offset is committed only after its handler returned. When a handler
raises, the consumer waits, goes back to that record and tries again, so one
failing record holds up its partition but is never skipped. A record that cannot
be decoded would fail for ever: it is logged with its coordinates, counted and
skipped.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.errors import ConsumerStoppedError, IllegalStateError, KafkaError
from aiokafka.structs import ConsumerRecord, TopicPartition
from prometheus_client import Counter
from pydantic import BaseModel, ValidationError

from common_core.events.envelope import EventEnvelope
from essay_pipeline.clock import Sleep, sleep
from huleedu_service_libs.logging_utils import create_service_logger, log_event_processing
from huleedu_service_libs.observability import use_trace_context

__all__ = ["Backoff", "EventConsumer", "Handler", "Received", "Route"]

_logger = create_service_logger("essay_pipeline.consumer")

CONSUMED = Counter(
    "essay_pipeline_consumed",
    "Records by what became of them: processed, duplicate, failed (will be tried again), poison (skipped)",
    ["group", "topic", "outcome"],
)

_POLL_MS = 500  # how long one poll waits for records, and so how long a stop may wait for it
_MAX_RECORDS = 100  # in one round
_START_LIMIT_S = 30.0
_CLOSE_LIMIT_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """One decoded record.

    Attributes:
        record: As Kafka delivered it.
        envelope: The decoded value.
        event: The envelope's ``data``, validated with the model of the route.
    """

    record: ConsumerRecord[bytes, bytes]
    envelope: EventEnvelope[Any]
    event: Any


Handler = Callable[..., Awaitable[Any]]
"""Called as ``handler(record, received)``; ``None`` means that the record was a duplicate."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """Where the records of one topic go.

    Attributes:
        topic: Its name.
        model: Of the envelopes' ``data``.
        handler: Usually wrapped in ``idempotent_consumer``. Whatever it raises makes the record
            come again.
    """

    topic: str
    model: type[BaseModel]
    handler: Handler


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """How long to wait after failures: doubling from ``first`` up to ``longest``.

    Attributes:
        first: Seconds after one failure.
        longest: Seconds, however many there were. Far below the five minutes after which Kafka
            takes the partitions of a consumer that does not poll.
    """

    first: float = 0.2
    longest: float = 10.0

    def seconds(self, failures: int) -> float:
        """The wait after that many failures in a row, at least one."""
        return min(self.longest, self.first * 2.0 ** min(failures - 1, 30))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Progress:
    """What became of one partition's records in one round."""

    partition: TopicPartition
    first_offset: int
    next_offset: int
    failed: bool


class EventConsumer:
    """Run handlers over the records of some topics, as one member of a consumer group.

    Partitions are handled at the same time, the records of one partition in order. Topics with
    equally many partitions are co-partitioned: whoever gets partition *n* of one gets it of all,
    so everything that has one key is handled in one process.

    Args:
        bootstrap_servers: Where Kafka is.
        group_id: The consumer group.
        client_id: Name in Kafka's logs.
        routes: One a topic.
        backoff: Waits after failures.
        drain_seconds: How long ``stop()`` lets running handlers finish.
        sleep: Waits; a test passes its own.
        create_consumer: Makes Kafka's consumer; a test passes its own.
    """

    def __init__(
        self,
        *,
        bootstrap_servers: str,
        group_id: str,
        client_id: str,
        routes: Sequence[Route],
        backoff: Backoff | None = None,
        drain_seconds: float = 8.0,
        sleep: Sleep = sleep,
        create_consumer: Callable[..., Any] = AIOKafkaConsumer,
    ) -> None:
        self.group_id = group_id
        self._bootstrap_servers = bootstrap_servers
        self._client_id = client_id
        self._routes = {route.topic: route for route in routes}
        self._backoff = backoff or Backoff()
        self._drain_seconds = drain_seconds
        self._sleep = sleep
        self._create_consumer = create_consumer
        self._stopping = asyncio.Event()
        self._round_lock = asyncio.Lock()
        self._failures = 0
        self._consumer: Any = None
        self._task: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"EventConsumer(group_id={self.group_id!r}, topics={sorted(self._routes)})"

    @property
    def is_running(self) -> bool:
        """Whether the loop is alive."""
        return self._task is not None and not self._task.done()

    async def ping(self) -> None:
        """Ask a broker for its topics.

        Raises:
            KafkaError: None answers.
            RuntimeError: The loop is not running.
        """
        if not self.is_running:
            raise RuntimeError("The consumer is not running")
        await self._consumer.topics()

    async def start(self) -> None:
        """Join the group and begin; returns once Kafka has answered. A second call does nothing.

        Raises:
            KafkaError: Kafka cannot be reached.
            TimeoutError: It did not answer within half a minute.
        """
        if self._task is not None:
            return
        self._stopping.clear()
        self._consumer = self._create_consumer(
            bootstrap_servers=self._bootstrap_servers,
            group_id=self.group_id,
            client_id=self._client_id,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            isolation_level="read_committed",
            partition_assignment_strategy=(RangePartitionAssignor,),
        )
        self._consumer.subscribe(list(self._routes), listener=_FinishRoundFirst(self._round_lock))
        try:
            async with asyncio.timeout(_START_LIMIT_S):
                await self._consumer.start()
        except BaseException:
            await self._close()
            raise
        self._task = asyncio.create_task(self._run(), name=f"consumer-{self.group_id}")
        _logger.info("consumer_started", group_id=self.group_id, topics=sorted(self._routes))

    async def stop(self) -> None:
        """Let running handlers finish, commit what is done and leave the group.

        Handlers that need longer than ``drain_seconds`` are cancelled; their records come again.
        Nothing happens when the consumer was not started or is stopped already.
        """
        task, self._task = self._task, None
        if task is None:
            return
        self._stopping.set()
        _, late = await asyncio.wait({task}, timeout=self._drain_seconds)
        if late:
            _logger.warning("consumer_drain_deadline", group_id=self.group_id, drain_seconds=self._drain_seconds)
            task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await self._close()
        _logger.info("consumer_stopped", group_id=self.group_id)

    async def _close(self) -> None:
        try:
            async with asyncio.timeout(_CLOSE_LIMIT_S):
                await self._consumer.stop()
        except (KafkaError, TimeoutError) as error:
            _logger.warning("consumer_close_failed", group_id=self.group_id, error=repr(error))

    async def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                succeeded = await self._round()
            except ConsumerStoppedError:
                return
            except Exception:
                # Of Kafka's client or of this loop; handlers' errors do not get here.
                _logger.exception("consumer_round_failed", group_id=self.group_id)
                succeeded = False
            self._failures = 0 if succeeded else self._failures + 1
            if self._failures:
                await self._pause(self._backoff.seconds(self._failures))

    async def _round(self) -> bool:
        """Fetch, handle, commit; False when a handler failed."""
        batch = await self._consumer.getmany(timeout_ms=_POLL_MS, max_records=_MAX_RECORDS)
        async with self._round_lock:
            try:
                async with asyncio.TaskGroup() as group:
                    tasks = [group.create_task(self._handle_all(*records)) for records in batch.items()]
            except Exception:
                # A fault of this loop: what was fetched must come again, whatever was done with it.
                self._go_back({partition: records[0].offset for partition, records in batch.items()})
                raise
            outcomes = [task.result() for task in tasks]
            self._go_back({each.partition: each.next_offset for each in outcomes if each.failed})
            await self._commit(outcomes)
        return not any(outcome.failed for outcome in outcomes)

    async def _handle_all(
        self, partition: TopicPartition, records: Sequence[ConsumerRecord[bytes, bytes]]
    ) -> _Progress:
        """Handle the records of one partition in order, up to the first that fails or until the stop."""
        next_offset, failed = records[0].offset, False
        for record in records:
            if self._stopping.is_set():
                break
            # A task of its own, so that the context that its log lines carry ends with it.
            outcome = await asyncio.create_task(self._handle(record))
            CONSUMED.labels(group=self.group_id, topic=record.topic, outcome=outcome).inc()
            if outcome == "failed":
                failed = True
                break
            next_offset = record.offset + 1
        return _Progress(partition=partition, first_offset=records[0].offset, next_offset=next_offset, failed=failed)

    async def _handle(self, record: ConsumerRecord[bytes, bytes]) -> str:
        route = self._routes[record.topic]
        place = {"kafka_topic": record.topic, "kafka_partition": record.partition, "kafka_offset": record.offset}
        try:
            received = _decode(record, route.model)
        except (ValidationError, ValueError) as error:
            _logger.error("poison_skipped", **place, error_type=type(error).__name__, error=_short(error))  # noqa: TRY400  # the traceback says nothing more
            return "poison"
        with use_trace_context(received.envelope.metadata or {}):
            log_event_processing(logger=_logger, message="event_received", envelope=received.envelope, **place)
            try:
                result = await route.handler(record, received)
            except (Exception, asyncio.CancelledError):
                task = asyncio.current_task()
                if task is not None and task.cancelling():
                    raise  # it is this consumer that is being stopped, not something inside the handler
                _logger.exception("handler_failed", **place, failures_before=self._failures)
                return "failed"
        return "duplicate" if result is None else "processed"

    async def _commit(self, outcomes: Collection[_Progress]) -> None:
        mine = self._consumer.assignment()
        offsets = {
            outcome.partition: outcome.next_offset
            for outcome in outcomes
            if outcome.next_offset > outcome.first_offset and outcome.partition in mine
        }
        if not offsets:
            return
        try:
            await self._consumer.commit(offsets)
        except (KafkaError, IllegalStateError) as error:
            # The group was rebalanced meanwhile: the records come again, to us or to another member.
            _logger.warning("commit_failed", group_id=self.group_id, error=repr(error))

    def _go_back(self, offsets: Mapping[TopicPartition, int]) -> None:
        mine = self._consumer.assignment()
        for partition, offset in offsets.items():
            if partition in mine:
                self._consumer.seek(partition, offset)

    async def _pause(self, seconds: float) -> None:
        """Wait, but not beyond the stop."""
        waits = {asyncio.ensure_future(self._sleep(seconds)), asyncio.ensure_future(self._stopping.wait())}
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)


class _FinishRoundFirst(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka has no types
    """Hand partitions over only after what is being handled was committed."""

    def __init__(self, round_lock: asyncio.Lock) -> None:
        self._round_lock = round_lock

    async def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        """Wait for the end of the running round."""
        async with self._round_lock:
            _logger.info("partitions_revoked", count=len(revoked))

    async def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        """Say which came."""
        _logger.info("partitions_assigned", partitions=sorted(f"{tp.topic}/{tp.partition}" for tp in assigned))


def _decode(record: ConsumerRecord[bytes, bytes], model: type[BaseModel]) -> Received:
    """Read envelope and event.

    Raises:
        ValidationError: The value is not an envelope, or its data is not a ``model``.
        ValueError: The record has no value.
    """
    if record.value is None:
        raise ValueError("The record has no value")
    envelope = EventEnvelope[Any].model_validate_json(record.value)
    return Received(record=record, envelope=envelope, event=model.model_validate(envelope.data))


def _short(error: Exception) -> str:
    """The error without the input that caused it, which may be long and personal."""
    if isinstance(error, ValidationError):
        return "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors(include_input=False))
    return str(error)
