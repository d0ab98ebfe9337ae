"""The consumer: takes events from Kafka to their handlers, in parallel over keys, in order per key, losing none.

A service starts one in its lifecycle; any number of processes of one group
share the partitions. What it promises, and where that is kept: order per key
and a bound on what runs (`lanes`), commits of finished prefixes only
(`watermark`), bounded buffers without leaving the group (`partitions`), retries
and dead letters (`handling`). Knows no idempotency store: processing steps are
passed in.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Concatenate, ParamSpec, TypeVar

from pydantic import BaseModel

from huleedu_service_libs import _clock
from huleedu_service_libs._backoff import grown
from huleedu_service_libs._lifecycle import StartStop
from huleedu_service_libs._redaction import error_fields, mask_url_credentials
from huleedu_service_libs._tasks import begin, end
from huleedu_service_libs._troubles import Over, Troubles
from huleedu_service_libs.kafka.consumer.config import ConsumerConfig, RetryPolicy
from huleedu_service_libs.kafka.consumer.driver import create_consumer, joining
from huleedu_service_libs.kafka.consumer.errors import ConsumerSetupError
from huleedu_service_libs.kafka.consumer.handling import Handling
from huleedu_service_libs.kafka.consumer.metrics import ConsumerMetrics
from huleedu_service_libs.kafka.consumer.ports import Delivery, ProcessingStep
from huleedu_service_libs.kafka.consumer.registry import Registry
from huleedu_service_libs.kafka.consumer.session import Session
from huleedu_service_libs.kafka.consumer.status import ConsumerStatus
from huleedu_service_libs.kafka.consumer.topics import TopicNames, make_topics
from huleedu_service_libs.logging_utils import create_service_logger
from huleedu_service_libs.protocols import BatchPublisher

__all__ = ["EventConsumer"]

_T = TypeVar("_T", bound=BaseModel)
_P = ParamSpec("_P")
_Typed = Callable[Concatenate[Delivery[_T], _P], Coroutine[Any, Any, Any]]

_START_LIMIT_S = 30.0
_SLACK_S = 5.0  # beyond the longest handler, for steps around it
_REBUILD_LONGEST_S = 30.0

logger = create_service_logger("huleedu_service_libs.consumer")


class EventConsumer(StartStop):
    """Runs handlers over the events of some topics, as one member of a consumer group.

    Register handlers with `on`, then `start`. Constructing does no I/O and needs no running event loop.

    Args:
        config: What to read, how much at once, how patient.
        bootstrap_servers: Where Kafka is.
        publisher: Of retry and dead-letter messages, a `KafkaBus` for example; started and stopped by whoever made
            it. Without one, an event that cannot be processed holds its key until it can.
        steps: What stands before handlers that name none of their own, outermost first: idempotency, an inbox.
        create_consumer: Makes the driver's consumer; a test passes its own.
        clock: Monotonic seconds.
        now: Time of day.
        sleep: Waits.
    """

    def __init__(
        self,
        config: ConsumerConfig,
        *,
        bootstrap_servers: str,
        publisher: BatchPublisher | None = None,
        steps: Sequence[ProcessingStep] = (),
        create_consumer: Callable[..., Any] = create_consumer,
        clock: _clock.Clock = _clock.monotonic,
        now: _clock.Now = _clock.utc_now,
        sleep: _clock.Sleep = _clock.sleep,
    ) -> None:
        self.config = config
        self.bootstrap_servers = bootstrap_servers
        self._publisher = publisher
        self._steps = tuple(steps)
        self._create_consumer = create_consumer
        self._clock = clock
        self._sleep = sleep
        self._registry = Registry()
        self._metrics = ConsumerMetrics(config.group_id)
        self._handling = Handling(config, self._registry, publisher, self._metrics, clock=clock, now=now)
        self._lifecycle = asyncio.Lock()
        self._session: Session | None = None
        self._task: asyncio.Task[None] | None = None
        self._troubles = Troubles(clock)

    def __repr__(self) -> str:
        servers = mask_url_credentials(self.bootstrap_servers)
        return f"EventConsumer({self.config!r}, bootstrap_servers={servers!r}, running={self.is_running})"

    def on(
        self,
        event_type: str,
        *,
        model: type[_T],
        timeout_s: float | None = None,
        retry: RetryPolicy | None = None,
        steps: Sequence[ProcessingStep] | None = None,
    ) -> Callable[[_Typed[_T, _P]], _Typed[_T, _P]]:
        """Register the decorated ``async def handler(delivery)`` for an event type.

        The handler commits its own work before it returns. It may have further parameters, filled
        by the steps: ``confirm_idempotency`` by idempotency, to confirm before it returns, ``session`` by an inbox.

        Args:
            event_type: Such as ``huleedu.essay.spellcheck.completed.v1``.
            model: Of the event's data.
            timeout_s: Seconds that one run may take; the configuration's by default.
            retry: When it fails; the configuration's by default.
            steps: What stands before it, outermost first; the consumer's by default. What becomes of an event while
                a store is down is declared in the step's own configuration (``store_down``).

        Raises:
            ConsumerSetupError: The type has a handler, it is not async, or the consumer runs already.
        """

        def register(handler: _Typed[_T, _P]) -> _Typed[_T, _P]:
            if self.is_running:
                raise ConsumerSetupError(f"Register the handler of {event_type!r} before start()")
            self._registry.add(
                event_type,
                model,
                handler,
                timeout_s=self.config.handler_timeout_s if timeout_s is None else timeout_s,
                retry=retry or self.config.retry,
                steps=self._steps if steps is None else steps,
            )
            return handler

        return register

    # --- life

    @property
    def is_running(self) -> bool:
        """Whether the loop is alive; for health checks."""
        return self._task is not None and not self._task.done()

    def status(self) -> ConsumerStatus:
        """How it is doing."""
        if self._session is None:
            return ConsumerStatus(running=self.is_running, last_error=self._troubles.summary())
        return self._session.status(running=self.is_running)

    async def ping(self) -> None:
        """Ask a broker for its topics, for health checks.

        Raises:
            RuntimeError: The consumer is not running.
            aiokafka.errors.KafkaError: No broker answers.
        """
        if not self.is_running or self._session is None:
            raise RuntimeError(f"The consumer of group {self.config.group_id!r} is not running")
        await self._session.consumer.topics()

    async def start(self) -> None:
        """Join the group and begin; does nothing when running.

        Raises:
            ConsumerSetupError: No handler is registered, or the group's members share out partitions in another way.
            aiokafka.errors.KafkaError: Kafka cannot be reached.
            TimeoutError: It did not let us join in time: half a minute, and what other members need to hand over.
        """
        async with self._lifecycle:
            if self.is_running:
                return
            if not len(self._registry):
                raise ConsumerSetupError("No handler is registered: decorate one with @consumer.on(...)")
            await self._close_session()  # of a stop that was cancelled
            self._handling.read_retry_topics(self._names().retry)
            await self._make_topics()
            self._session = await self._open()
            self._task = begin(self._run(), name=f"consumer:{self.config.group_id}", died=self._note_death)
        logger.info("consumer_started", group=self.config.group_id, topics=self._names().read)

    async def stop(self) -> None:
        """Let running handlers finish, commit what is done and leave the group; does nothing when not running.

        Handlers that need longer than the drain time-out are cancelled, and their events come again. A stop that
        is itself cancelled is finished by the next one; until then handlers run on, and the group waits.
        """
        async with self._lifecycle:
            task, self._task = self._task, None
            if task is not None:
                await end(task, limit_s=_SLACK_S)
            elif self._session is None or self._session.closed:
                return
            await self._close_session()
        logger.info("consumer_stopped", group=self.config.group_id)

    async def _close_session(self) -> None:
        if self._session is not None and not self._session.closed:
            await self._session.close()

    async def _open(self) -> Session:
        session = Session(
            self.config,
            self._handling,
            self._metrics,
            drain_s=self._drain_s(),
            clock=self._clock,
            sleep=self._sleep,
        )
        session.consumer = self._create_consumer(
            self.config, self.bootstrap_servers, self._names().read, drain_s=self._drain_s(), listener=session.listener
        )
        try:
            # Joining waits until the other members have drained.
            async with asyncio.timeout(_START_LIMIT_S + self._drain_s() + self.config.session_timeout_s):
                with joining(self.config):
                    await session.consumer.start()
                if not self.config.from_beginning:
                    await session.keep_place()  # what comes from now on is ours
        except BaseException:
            await session.close()
            raise
        return session

    async def _run(self) -> None:
        """Keep a session; a driver that is broken for good is replaced, with what was not committed read again."""
        failures = 0
        while True:
            session = self._session
            if session is not None:
                await session.run()  # ends only when its driver is beyond help
                failures = 0 if session.was_healthy else failures
                await session.close()
                self._session = None
            failures += 1
            self._metrics.swallowed("rebuild")
            await self._sleep(grown(failures, first=1.0, longest=_REBUILD_LONGEST_S))
            try:
                self._session = await self._open()
            except Exception as error:  # noqa: BLE001  # tried again, counted above
                self._note_failed_rebuild(error)
            else:
                over = self._troubles.worked("connect") or Over(failures=0, seconds=0.0)
                logger.warning("consumer_rebuilt", group=self.config.group_id, **over._asdict())

    def _note_failed_rebuild(self, error: Exception) -> None:
        if failures := self._troubles.failed("connect", error):
            fields = error_fields(error)
            logger.error("consumer_rebuild_failed", group=self.config.group_id, failures=failures, **fields)

    def _note_death(self, error: BaseException) -> None:
        self._metrics.swallowed("died")
        logger.error("consumer_died", group=self.config.group_id, error=repr(error), exc_info=error)

    # --- small

    def _names(self) -> TopicNames:
        return TopicNames(self.config, self._registry, letters=self._publisher is not None)

    def _drain_s(self) -> float:
        if self.config.drain_timeout_s is not None:
            return self.config.drain_timeout_s
        return max(each.timeout_s for each in self._registry) + _SLACK_S

    async def _make_topics(self) -> None:
        if self._publisher is not None and self.config.create_topics:
            await make_topics(self.config, self.bootstrap_servers, self._names().to_make(), self._metrics)
