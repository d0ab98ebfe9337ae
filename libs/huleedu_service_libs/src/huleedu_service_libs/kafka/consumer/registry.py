"""Which handler takes which event, and how a record becomes that event. Knows no driver."""

import inspect
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from pydantic import BaseModel, ValidationError

from common_core.events.envelope import EventEnvelope
from huleedu_service_libs._redaction import error_text
from huleedu_service_libs.kafka.consumer.config import RetryPolicy
from huleedu_service_libs.kafka.consumer.errors import ConsumerSetupError, UndecodableRecordError
from huleedu_service_libs.kafka.consumer.ports import ManyStep, ProcessingStep
from huleedu_service_libs.protocols import concrete_capability

__all__ = ["Handler", "Registration", "Registry", "data_of", "envelope_of"]

Handler = Callable[..., Coroutine[Any, Any, Any]]
"""``async def handler(delivery)``, with further parameters that a processing step offers."""

_MOST_FAULTS = 5
_ENVELOPE = EventEnvelope[Any]  # once: looking it up costs as much as the decoding


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration:
    """One event type's handler and how it is run.

    Attributes:
        event_type: What it takes.
        model: Of the event's ``data``.
        handler: Runs.
        timeout_s: Seconds that one run may take.
        retry: When it fails.
        steps: What stands before it, innermost first.
        accepts: Names that it has parameters for; ``None`` for all.
        many: Its only step, if that takes many events at once.
    """

    event_type: str
    model: type[BaseModel]
    handler: Handler
    timeout_s: float
    retry: RetryPolicy
    steps: tuple[ProcessingStep, ...]
    accepts: frozenset[str] | None
    many: ManyStep | None = None

    def chosen(self, offered: Mapping[str, Any]) -> Mapping[str, Any]:
        """What of the offered keywords the handler takes."""
        if self.accepts is None or not offered:
            return offered
        return {name: value for name, value in offered.items() if name in self.accepts}


class Registry:
    """The handlers of one consumer, by event type."""

    def __init__(self) -> None:
        self._registrations: dict[str, Registration] = {}

    def __iter__(self) -> Iterator[Registration]:
        return iter(self._registrations.values())

    def __len__(self) -> int:
        return len(self._registrations)

    def find(self, event_type: str) -> Registration | None:
        """The handler of an event type, if there is one."""
        return self._registrations.get(event_type)

    def add(
        self,
        event_type: str,
        model: type[BaseModel],
        handler: Handler,
        *,
        timeout_s: float,
        retry: RetryPolicy,
        steps: Sequence[ProcessingStep],
    ) -> None:
        """Register a handler.

        Raises:
            ConsumerSetupError: The type has one, the model or a step is none, the handler is not async, or it has a
                parameter that nothing fills.
        """
        if event_type in self._registrations:
            raise ConsumerSetupError(
                f"Event type {event_type!r} has a handler already: "
                f"{_name_of(self._registrations[event_type].handler)}; one event type has one handler"
            )
        if timeout_s <= 0:
            raise ConsumerSetupError(f"timeout_s of the handler of {event_type!r} must be positive, got {timeout_s}")
        _check_model(event_type, model)
        _check_steps(event_type, steps)
        self._registrations[event_type] = Registration(
            event_type=event_type,
            model=model,
            handler=handler,
            timeout_s=timeout_s,
            retry=retry,
            steps=tuple(reversed(steps)),
            accepts=_further_parameters(event_type, handler, steps),
            many=_many_of(steps),
        )


def envelope_of(value: bytes | None) -> EventEnvelope[Any]:
    """Decode a record's value.

    Raises:
        UndecodableRecordError: It is no envelope.
    """
    if value is None:
        raise UndecodableRecordError("The record has no value")
    try:
        return _ENVELOPE.model_validate_json(value)
    except ValidationError as error:
        raise UndecodableRecordError(f"The value is no event envelope: {_faults(error)}") from None


def data_of(envelope: EventEnvelope[Any], model: type[BaseModel]) -> BaseModel:
    """The envelope's data as the handler's model.

    Raises:
        UndecodableRecordError: It does not fit.
    """
    try:
        return model.model_validate(envelope.data)
    except ValidationError as error:
        raise UndecodableRecordError(f"The event's data is no {model.__name__}: {_faults(error)}") from None
    except Exception as error:
        # A validator of the service's own that fails, instead of saying no.
        raise UndecodableRecordError(
            f"The event's data could not be looked at: a validator of {model.__name__} raised {error_text(error)}; "
            "a validator says no with ValueError"
        ) from error


def _many_of(steps: Sequence[ProcessingStep]) -> ManyStep | None:
    # Whoever overrides `process` wants it called.
    if len(steps) == 1 and concrete_capability(steps[0], "admit", beside=["process"]) is not None:
        return cast("ManyStep", steps[0])
    return None


def _faults(error: ValidationError) -> str:
    """What is wrong, without the input, which may be long and personal."""
    faults = error.errors(include_input=False, include_url=False, include_context=False)
    texts = [f"{'.'.join(map(str, fault['loc'])) or 'value'}: {fault['msg']}" for fault in faults[:_MOST_FAULTS]]
    more = [f"and {len(faults) - _MOST_FAULTS} more"] if len(faults) > _MOST_FAULTS else []
    return "; ".join([*texts, *more])


def _check_model(event_type: str, model: object) -> None:
    if not (isinstance(model, type) and issubclass(model, BaseModel)):
        raise ConsumerSetupError(
            f"model of the handler of {event_type!r} must be a class derived from pydantic's BaseModel, got {model!r}"
        )


def _check_steps(event_type: str, steps: Sequence[object]) -> None:
    for step in steps:
        if not callable(getattr(step, "process", None)):
            raise ConsumerSetupError(
                f"A step of the handler of {event_type!r} has no process(): {type(step).__name__}; "
                "wrap a Redis client in an IdempotentStep, an Inbox in an InboxStep"
            )


def _further_parameters(event_type: str, handler: Handler, steps: Sequence[object]) -> frozenset[str] | None:
    if not (inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(getattr(handler, "__call__", None))):  # noqa: B004  # objects with an async __call__
        raise ConsumerSetupError(f"The handler of {event_type!r} must be async def, {_name_of(handler)} is not")
    parameters = list(inspect.signature(handler).parameters.values())
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    if not positional and not any(p.kind is p.VAR_POSITIONAL for p in parameters):
        raise ConsumerSetupError(
            f"The handler of {event_type!r} must take the delivery as its first parameter, {_name_of(handler)} does not"
        )
    _check_needs(event_type, handler, [p for p in parameters if p not in positional[:1]], steps)
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return None
    return frozenset(p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY))


def _check_needs(
    event_type: str, handler: Handler, further: Sequence[inspect.Parameter], steps: Sequence[object]
) -> None:
    offers = [concrete_capability(step, "offers", beside=["process"]) for step in steps]
    if None in offers:
        return  # a step of the service's own may offer anything
    offered = frozenset[str]().union(*cast("list[frozenset[str]]", offers))
    for parameter in further:
        optional = parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        if optional or parameter.default is not parameter.empty or parameter.name in offered:
            continue
        raise ConsumerSetupError(
            f"Nothing fills the parameter {parameter.name!r} of {_name_of(handler)}, the handler of {event_type!r}: an "
            f"IdempotentStep offers confirm_idempotency, an InboxStep session, and its steps are "
            f"{[type(step).__name__ for step in steps]}; add the step, or give the parameter a default"
        )


def _name_of(handler: object) -> str:
    return getattr(handler, "__qualname__", type(handler).__qualname__)
