"""Tells forms of the console's own page from forms of other sites: a cookie, and a token that fits it."""

import hashlib
import hmac
import secrets
from collections.abc import Mapping

__all__ = ["COOKIE", "FormTokens"]

COOKIE = "huleedu_console"


class FormTokens:
    """Makes and checks tokens.

    Args:
        key: Processes that serve one address need the same; by default a random one.
    """

    def __init__(self, key: bytes | None) -> None:
        self._key = key or secrets.token_bytes(32)

    def visit(self, headers: Mapping[str, str]) -> tuple[str, bool]:
        """The visitor's number, and whether it is a new one that must be set as a cookie."""
        known = _cookie(headers)
        return (known, False) if known else (secrets.token_urlsafe(24), True)

    def token(self, visitor: str) -> str:
        """What the forms of that visitor carry."""
        return hmac.new(self._key, visitor.encode(), hashlib.sha256).hexdigest()

    def fits(self, headers: Mapping[str, str], token: str) -> bool:
        """Whether a form came from our page, as the visitor's browser has it."""
        if headers.get("sec-fetch-site", "same-origin") != "same-origin":
            return False
        visitor = _cookie(headers)
        return bool(visitor) and hmac.compare_digest(self.token(visitor).encode(), token.encode())


def _cookie(headers: Mapping[str, str]) -> str:
    """Ours among the cookies; `http.cookies` would stop at the first odd one of somebody else."""
    for part in headers.get("cookie", "").split(";"):
        name, _, value = part.strip().partition("=")
        if name == COOKIE:
            return value
    return ""
