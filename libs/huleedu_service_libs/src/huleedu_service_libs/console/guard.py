"""Who may see the console, and who may act: a callable that is asked at each request.

Without one the console shows, and does nothing. `TokenGuard` is for services without users of their
own; others hand in a function that looks at their session.
"""

import binascii
import hmac
from base64 import b64decode
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["ConsoleRequest", "Guard", "TokenGuard"]

SHORTEST_TOKEN = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsoleRequest:
    """What a guard decides on.

    Attributes:
        method: ``GET``, ``HEAD`` or ``POST``.
        headers: Names in lower case.
        writes: Whether something would be changed.
        scope: The ASGI scope, for what middleware has left there.
    """

    method: str
    headers: Mapping[str, str]
    writes: bool
    scope: Mapping[str, Any]


Guard = Callable[[ConsoleRequest], bool | Awaitable[bool]]
"""Whether the request may pass. One with an attribute ``challenge`` has it sent as ``WWW-Authenticate``."""


class TokenGuard:
    """Lets requests pass that know a token: as ``Authorization: Bearer``, or as the password that a browser asks for.

    Args:
        token: At least 16 characters of ASCII; from the service's secrets.
        open_for_reading: Whether everybody may look.

    Raises:
        ValueError: The token is too short, or no header could carry it.
    """

    challenge = 'Basic realm="console", charset="UTF-8"'

    def __init__(self, token: str, *, open_for_reading: bool = False) -> None:
        if len(token) < SHORTEST_TOKEN or not token.isascii() or not token.isprintable() or token != token.strip():
            raise ValueError(
                f"a console's token needs at least {SHORTEST_TOKEN} printable ASCII characters, this one has {len(token)}"
            )
        self._token = token.encode()
        self._open_for_reading = open_for_reading

    def __repr__(self) -> str:
        return f"TokenGuard(open_for_reading={self._open_for_reading})"

    def __call__(self, request: ConsoleRequest) -> bool:
        """Whether the request may pass."""
        if self._open_for_reading and not request.writes:
            return True
        scheme, _, value = request.headers.get("authorization", "").partition(" ")
        given = value.strip() if scheme.lower() == "bearer" else _password(value) if scheme.lower() == "basic" else ""
        return hmac.compare_digest(given.encode("utf-8", "surrogatepass"), self._token)


def _password(value: str) -> str:
    try:
        return b64decode(value, validate=True).decode("utf-8").partition(":")[2]
    except (binascii.Error, UnicodeDecodeError, ValueError):
        return ""
