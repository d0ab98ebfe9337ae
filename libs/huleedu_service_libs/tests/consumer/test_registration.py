"""What a consumer refuses when handlers are registered, and what it does with events that no handler can take."""

from typing import Any
from unittest.mock import Mock

import pytest
from pydantic import field_validator

from huleedu_service_libs.idempotency_v2 import IdempotencyConfig, IdempotentStep
from huleedu_service_libs.inbox import InboxStep
from huleedu_service_libs.kafka.consumer import ConsumerConfig, ConsumerSetupError, Delivery, EventConsumer
from huleedu_service_libs.testing.fakes import FakeRedisClient

from ..waiting import until
from .conftest import EVENT_TYPE, Numbered
from .doubles import P0, FakeDriver, Letters, consuming, record


class Own(InboxStep):
    """A step of a service's own."""

    async def process(self, delivery: Any, proceed: Any) -> None:
        """Whatever it likes."""


async def test_what_cannot_work_is_told_at_registration() -> None:
    """No handler, two for one type, one that is not async or takes nothing, one too late: each names the fix."""
    driver = FakeDriver({P0: []})
    config = ConsumerConfig(group_id="g", topics=("t",))
    consumer = EventConsumer(config, bootstrap_servers="nowhere:1", create_consumer=driver)

    async def handle(delivery: Delivery[Numbered]) -> None: ...

    async def takes_nothing() -> None: ...

    with pytest.raises(ConsumerSetupError, match=r"decorate one with @consumer\.on"):
        await consumer.start()
    with pytest.raises(ConsumerSetupError, match="must be async def"):
        consumer.on("a", model=Numbered)(lambda delivery: None)  # type: ignore[arg-type,return-value]
    with pytest.raises(ConsumerSetupError, match="must take the delivery"):
        consumer.on("a", model=Numbered)(takes_nothing)  # type: ignore[arg-type]
    consumer.on(EVENT_TYPE, model=Numbered)(handle)
    with pytest.raises(ConsumerSetupError, match="has a handler already"):
        consumer.on(EVENT_TYPE, model=Numbered)(handle)
    await consumer.start()
    with pytest.raises(ConsumerSetupError, match=r"before start\(\)"):
        consumer.on("late", model=Numbered)(handle)
    await consumer.stop()


async def test_a_parameter_that_nothing_fills_is_told_at_registration() -> None:
    """Not by dead letters: what a handler asks for must come from one of its steps, or have a default."""
    consumer = EventConsumer(ConsumerConfig(group_id="g", topics=("t",)), bootstrap_servers="nowhere:1")
    inbox, idempotent = InboxStep(Mock()), IdempotentStep(Mock(), IdempotencyConfig("svc", in_progress="wait"))

    async def wants_session(delivery: Delivery[Numbered], session: object) -> None: ...

    async def wants_both(delivery: Delivery[Numbered], session: object, *, confirm_idempotency: object) -> None: ...

    async def has_defaults(
        delivery: Delivery[Numbered], session: object = None, *rest: object, **named: object
    ) -> None: ...

    with pytest.raises(ConsumerSetupError, match=r"Nothing fills the parameter 'session'.*an InboxStep session"):
        consumer.on("a", model=Numbered)(wants_session)
    with pytest.raises(ConsumerSetupError, match=r"'confirm_idempotency'.*\['InboxStep'\]"):
        consumer.on("a", model=Numbered, steps=[inbox])(wants_both)
    consumer.on("a", model=Numbered)(has_defaults)  # type: ignore[arg-type]
    consumer.on("b", model=Numbered, steps=[idempotent, inbox])(wants_both)

    # Whoever writes a step, or overrides one of ours, may offer what he likes.
    for own in (Own(Mock()), Mock(spec=["process"])):
        consumer.on(f"c-{type(own).__name__}", model=Numbered, steps=[own])(wants_both)


async def test_a_model_or_step_that_is_none_is_told_at_registration() -> None:
    """A model that is no pydantic model and a step without `process` are refused by name."""
    consumer = EventConsumer(ConsumerConfig(group_id="g", topics=("t",)), bootstrap_servers="nowhere:1")

    async def handle(delivery: Delivery[Numbered]) -> None: ...

    models: list[Any] = [dict, "Numbered", Numbered(number=1)]
    for model in models:
        with pytest.raises(ConsumerSetupError, match="derived from pydantic's BaseModel, got"):
            consumer.on("a", model=model)(handle)
    with pytest.raises(ConsumerSetupError, match=r"has no process\(\): str; wrap a Redis client in an IdempotentStep"):
        consumer.on("a", model=Numbered, steps=["redis"])(handle)  # type: ignore[list-item]


@pytest.mark.parametrize("steps", [(), "idempotent"], ids=["bare", "idempotent"])
async def test_a_validator_that_fails_is_a_dead_letter(steps: Any) -> None:
    """A model whose own validator raises anything stops nothing: that event is dead-lettered, all others are processed."""

    class Picky(Numbered):
        @field_validator("number")
        @classmethod
        def known(cls, number: int) -> int:
            return {0: 0, 2: 2, 3: 3}[number]

    if steps:
        redis = FakeRedisClient()
        await redis.start()
        steps = [IdempotentStep(redis, IdempotencyConfig("svc", in_progress="wait"))]
    driver = FakeDriver({P0: [record(P0, n, key=b"%d" % n) for n in range(4)]})
    letters = Letters()
    seen: list[int] = []

    async def handle(delivery: Delivery[Numbered]) -> None:
        seen.append(delivery.data.number)

    async with consuming(driver, handle, publisher=letters, steps=steps, model=Picky) as consumer:
        await until(lambda: driver.committed == {P0: 4})
        assert consumer.status().last_error is None
    assert sorted(seen) == [0, 2, 3]
    (letter,) = letters.sent
    headers = {name: value.decode() for name, value in letter.headers}
    assert headers["failure_reason"] == "undecodable"
    assert "a validator of Picky raised KeyError: 1; a validator says no with ValueError" in headers["failure_error"]


async def test_an_event_type_without_a_handler_is_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    """A type that nobody registered, often a mistyped one, is passed over with one line that says which there are."""
    driver = FakeDriver({P0: [record(P0, n) for n in range(3)]})

    async def handle(delivery: Delivery[Numbered]) -> None: ...

    async with consuming(driver, handle, event_type="some.other.v1"):
        await until(lambda: driver.committed == {P0: 3})
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "event_without_handler" in line]
    assert f"event_type={EVENT_TYPE}" in line
    assert "handlers=['some.other.v1']" in line
