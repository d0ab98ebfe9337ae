"""The course of one record: decode, pass the steps, run the handler.

`EventConsumer` calls it for each record, again and again until the record is
done. What follows from a failure is decided in ``failures``; knows
neither Kafka's consumer nor lanes.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

from huleedu_service_libs import _clock
from huleedu_service_libs._tasks import is_cancelled
from huleedu_service_libs.kafka.consumer.config import ConsumerConfig
from huleedu_service_libs.kafka.consumer.contexts import NO_SPAN, Contexts, log_fields
from huleedu_service_libs.kafka.consumer.errors import HandlerTimeoutError, UndecodableRecordError
from huleedu_service_libs.kafka.consumer.failures import Failures, coordinates, defer_delay
from huleedu_service_libs.kafka.consumer.letters import trail_of
from huleedu_service_libs.kafka.consumer.limiting import run_limited
from huleedu_service_libs.kafka.consumer.metrics import ConsumerMetrics
from huleedu_service_libs.kafka.consumer.partitions import HANDLING, PUBLISHING, RETRYING, Job, Parcel
from huleedu_service_libs.kafka.consumer.ports import Delivery, ManyStep, Proceed, ProcessingStep
from huleedu_service_libs.kafka.consumer.post import post
from huleedu_service_libs.kafka.consumer.registry import Registration, Registry, data_of, envelope_of
from huleedu_service_libs.logging_utils import bind_log_context, create_service_logger, event_log_context
from huleedu_service_libs.protocols import BatchPublisher
from huleedu_service_libs.store_policy import DeferredError

__all__ = ["Handling"]

_MOST_SKIPPED = 100  # event types that are told; what others send has no bound

logger = create_service_logger("huleedu_service_libs.consumer")


class Handling:
    """Takes records, any number at the same time.

    Args:
        config: What becomes of failures.
        registry: The handlers.
        publisher: Of retry and dead-letter messages; without one a failing event is tried for ever.
        metrics: Of the consumer.
        clock: Monotonic seconds.
        now: Time of day.
        jitter: A number in [0, 1) at each call.
    """

    def __init__(
        self,
        config: ConsumerConfig,
        registry: Registry,
        publisher: BatchPublisher | None,
        metrics: ConsumerMetrics,
        *,
        clock: _clock.Clock,
        now: _clock.Now,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._config = config
        self._registry = registry
        self._publisher = publisher
        self._metrics = metrics
        self._clock = clock
        self._now = now
        self._jitter = jitter
        self._failures = Failures(config, metrics, letters=publisher is not None, clock=clock, now=now, jitter=jitter)
        self._retry_topics = frozenset[str]()
        self._contexts = Contexts(config.group_id, clock=clock)
        self._skipped: set[str] = set()

    def read_retry_topics(self, topics: Sequence[str]) -> None:
        """In records of these topics the headers about failures are believed."""
        self._retry_topics = frozenset(topics)

    async def run(self, job: Job) -> float | None:
        """Take the record one step further.

        Returns:
            ``None`` when it is done, else the seconds after which to call again.
        """
        if job.parcel is None:
            rest_s = await self._attempt(job)
            if rest_s is not None or job.parcel is None:
                return rest_s
        return await self._send(job, job.parcel)

    def step_for_many(self, job: Job) -> ManyStep | None:
        """The step that may take the record together with others; decodes it. Only at its first run."""
        if job.delivery is not None or job.parcel is not None or job.trail or job.record.topic in self._retry_topics:
            return None
        try:
            self._decode(job)
        except Exception:  # noqa: BLE001  # `run` finds out, too, and in a task of the record's own
            return None
        return job.registration.many if job.registration is not None else None

    async def run_admitted(self, job: Job, step: ManyStep, passage: Any) -> float | None:
        """As `run`, for a record that its step has admitted; ``job.returned`` when the step is to conclude it."""
        job.began, registration, delivery = True, job.registration, job.delivery
        assert registration is not None and delivery is not None  # noqa: S101, PT018  # `step_for_many` said so
        call = partial(self._call, job, registration, delivery)
        bind_log_context(**log_fields(delivery))  # for good: the task is this record's own
        span = self._contexts.span(delivery)
        run: Awaitable[None] = step.pass_through(passage, call)
        rest_s = await self._guarded(job, registration, run if span is NO_SPAN else _within(span, run))
        if rest_s is not None:
            return rest_s
        if job.parcel is not None:
            return await self._send(job, job.parcel)
        job.returned = True
        return None

    def concluded(self, job: Job) -> None:
        """The step has concluded the record: it is done."""
        self._done(job, "processed" if job.ran else "duplicate")

    # --- decoding

    async def _attempt(self, job: Job) -> float | None:
        """One run; sets ``job.parcel`` when the record is to be sent elsewhere."""
        job.doing = HANDLING
        if job.trail is None:
            job.trail = trail_of(job.record, from_retry_topic=job.record.topic in self._retry_topics)
        early_s = job.trail.due_at - self._now().timestamp() if job.trail.due_at else 0.0
        if early_s > 0:
            job.doing = RETRYING
            return early_s
        if job.delivery is None:
            try:
                self._decode(job)
            except UndecodableRecordError as error:
                return self._failures.give_up(job, "undecodable", error)
        if job.registration is None:
            return self._unhandled(job)
        rest_s = await self._guarded(job, job.registration, self._run(job, job.registration))
        if rest_s is None and job.parcel is None:
            self.concluded(job)
        return rest_s

    def _decode(self, job: Job) -> None:
        envelope = envelope_of(job.record.value)
        job.event_type = envelope.event_type
        job.registration = self._registry.find(envelope.event_type)
        if job.registration is not None:
            envelope.data = data_of(envelope, job.registration.model)
            job.delivery = Delivery(
                record=job.record,
                envelope=envelope,
                data=envelope.data,
                attempt=1 + (job.trail.attempts if job.trail else 0),
            )

    def _unhandled(self, job: Job) -> float | None:
        if self._config.unhandled == "dead-letter":
            return self._failures.give_up(
                job, "unhandled", LookupError(f"No handler for event type {job.event_type!r}")
            )
        self._tell_skipped(job)
        self._done(job, "skipped")
        return None

    def _tell_skipped(self, job: Job) -> None:
        """Once for each type: in a topic of many types that is usual, and else it is a name that was mistyped."""
        event_type = job.event_type or ""
        if event_type in self._skipped or len(self._skipped) >= _MOST_SKIPPED:
            return
        self._skipped.add(event_type)
        logger.info(
            "event_without_handler",
            group=self._config.group_id,
            event_type=event_type,
            handlers=[registration.event_type for registration in self._registry],
            **coordinates(job.record),
        )

    # --- running

    async def _guarded(self, job: Job, registration: Registration, run: Awaitable[None]) -> float | None:
        job.ran = False
        try:
            await run
        except asyncio.CancelledError:
            if is_cancelled():
                raise  # it is the consumer that ends this run, not something inside the handler
            return self._failures.failed(job, registration, RuntimeError("The handler was cancelled from within"))
        except DeferredError as error:
            return self._failures.deferred(job, error)
        except Exception as error:  # noqa: BLE001  # whatever a handler raises is an attempt that failed
            return self._failures.failed(job, registration, error)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # noqa: BLE001  # such as GeneratorExit, or a group that holds one
            return self._failures.failed(job, registration, RuntimeError(f"The handler raised {error!r}"))
        return None

    async def _run(self, job: Job, registration: Registration) -> None:
        delivery = job.delivery
        assert delivery is not None  # noqa: S101  # a registration was found for it
        proceed: Proceed = partial(self._call, job, registration, delivery)
        for step in registration.steps:
            proceed = partial(_through, step, delivery, proceed)
        await self._in_context(delivery, proceed)

    async def _in_context(self, delivery: Delivery[Any], proceed: Proceed) -> None:
        with event_log_context(**log_fields(delivery)), self._contexts.span(delivery):
            await proceed()

    async def _call(self, job: Job, registration: Registration, delivery: Delivery[Any], **offered: Any) -> None:
        job.ran = True
        started = self._clock()
        limit = asyncio.timeout(registration.timeout_s)
        try:
            await run_limited(registration.handler(delivery, **registration.chosen(offered)), limit)
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise HandlerTimeoutError(registration.event_type, registration.timeout_s) from error
        finally:
            self._metrics.duration(job.record.topic, registration.event_type, self._clock() - started)

    # --- leaving

    async def _send(self, job: Job, parcel: Parcel) -> float | None:
        """Publish the parcel; the record is done only when the broker has it."""
        job.doing = PUBLISHING
        error = await post(self._publisher, parcel)
        if error is None:
            self._done(job, parcel.outcome)
            return None
        parcel.failures += 1
        self._failures.note(job, error, "publish_failed")
        return defer_delay(parcel.failures, self._jitter)

    def _done(self, job: Job, outcome: str) -> None:
        self._metrics.outcome(job.record.topic, job.label, outcome)


async def _within(context: AbstractContextManager[Any], run: Awaitable[None]) -> None:
    with context:
        await run


async def _through(step: ProcessingStep, delivery: Delivery[Any], proceed: Proceed, **offered: Any) -> None:
    """One step; what outer steps offer goes on inwards."""
    await step.process(delivery, partial(proceed, **offered) if offered else proceed)
