"""Attributes of a breaker that live in its state machine, readable and assignable alike."""

from typing import Any, Generic, Self, TypeVar, overload

__all__ = ["FromMachine"]

V = TypeVar("V")


class FromMachine(Generic[V]):
    """Hands reads and assignments on to the attribute of the same name of ``_machine``."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...

    @overload
    def __get__(self, instance: Any, owner: type) -> V: ...

    def __get__(self, instance: Any, owner: type) -> Self | V:
        if instance is None:
            return self
        value: V = getattr(instance._machine, self._name)  # noqa: SLF001  # the breaker's own part
        return value

    def __set__(self, instance: Any, value: V) -> None:
        setattr(instance._machine, self._name, value)  # noqa: SLF001  # as above
