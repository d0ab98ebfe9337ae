"""What one code and one factory consist of; the families are written in these terms.

Factories, status table, documentation page and OpenAPI description are all made
from them. Knows no framework.
"""

import re
from dataclasses import dataclass

from common_core.models.error_models import ErrorCodeType

__all__ = ["CodeDescription", "FactoryDescription", "Family", "Parameter"]

_PARAMETER = re.compile(r"(?P<name>\w+): (?P<type>[^=]+?)(?P<optional> = None)?")


@dataclass(frozen=True, slots=True)
class CodeDescription:
    """One error code.

    Attributes:
        code: The member of its enum.
        status: The HTTP status that it is answered with.
        meaning: What happened, in one sentence, for who reads the answer.
        advice: What to do about it.
        retry_after: Seconds after which trying again makes sense; ``None`` for codes that waiting does not cure.
    """

    code: ErrorCodeType
    status: int
    meaning: str
    advice: str
    retry_after: int | None = None


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of a factory, as in its signature.

    Attributes:
        name: Also the key in the error's details.
        type: As written in the signature.
        optional: Whether it may be left out; it is ``None`` then.
    """

    name: str
    type: str
    optional: bool

    @classmethod
    def parse(cls, text: str) -> "Parameter":
        """Read ``name: type`` or ``name: type = None``.

        Raises:
            ValueError: It is neither.
        """
        found = _PARAMETER.fullmatch(text)
        if found is None:
            raise ValueError(f"A parameter is written 'name: type' or 'name: type = None', not {text!r}")
        return cls(found["name"], found["type"], optional=found["optional"] is not None)


@dataclass(frozen=True, slots=True, init=False)
class FactoryDescription:
    """One function that raises an error.

    Args:
        name: Of the function.
        code: What it raises.
        *parameters: In the form that `Parameter.parse` reads.
        message: Template over the parameters; without one, and where it names ``{message}``, the caller
            gives the message.
        constants: Put into the details as they are.
        keeps_none: Optional parameters that are ``None`` stand in the details all the same.
        about: The docstring's first line where the code's meaning does not fit.
    """

    name: str
    code: ErrorCodeType
    parameters: tuple[Parameter, ...]
    message: str | None
    constants: tuple[tuple[str, str], ...]
    keeps_none: bool
    about: str | None

    def __init__(
        self,
        name: str,
        code: ErrorCodeType,
        *parameters: str,
        message: str | None = None,
        constants: tuple[tuple[str, str], ...] = (),
        keeps_none: bool = False,
        about: str | None = None,
    ) -> None:
        values = (name, code, tuple(map(Parameter.parse, parameters)), message, constants, keeps_none, about)
        for field, value in zip(self.__slots__, values, strict=True):
            object.__setattr__(self, field, value)

    @property
    def takes_message(self) -> bool:
        """Whether the caller gives the message, or a part of it."""
        return self.message is None or "{message}" in self.message


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """Codes and factories that belong together and fill one module.

    Attributes:
        title: Heading in the documentation.
        module: Name of the module of factories in ``error_handling``; ``None`` for codes without any.
        codes: In the order of the documentation.
        factories: In the order of the module.
        not_exported: Factories that the package ``error_handling`` does not hand on.
    """

    title: str
    module: str | None
    codes: tuple[CodeDescription, ...]
    factories: tuple[FactoryDescription, ...]
    not_exported: frozenset[str] = frozenset()
