"""Signed user tokens: ``<user id>.<signature>``.

*notify* issues them, *intake* and *notify* verify them; both hold the same
secret. A token says who somebody is, nothing more: it does not expire and
carries no rights, which is enough for an example with anonymous users.
"""

import base64
import hashlib
import hmac

__all__ = ["InvalidTokenError", "issue_token", "verify_token"]

_MAX_LENGTH = 200  # characters; longer ones are refused before any hashing


class InvalidTokenError(ValueError):
    """The token is malformed or was signed with another secret. The text never holds the token."""


def issue_token(user_id: str, secret: str) -> str:
    """Sign ``user_id``.

    Args:
        user_id: Whom the token names.
        secret: Shared by all services; not empty.

    Returns:
        Text that is safe in URLs and headers when ``user_id`` is.
    """
    return f"{user_id}.{_signature(user_id, secret)}"


def verify_token(token: str, secret: str) -> str:
    """The user that ``token`` names.

    Args:
        token: As `issue_token` made it.
        secret: Shared by all services.

    Raises:
        InvalidTokenError: It is malformed or not signed with ``secret``.
    """
    user_id, _, signature = token.rpartition(".")
    if not user_id or len(token) > _MAX_LENGTH:
        raise InvalidTokenError("The token is malformed: expected '<user id>.<signature>'")
    # compare_digest takes the same time wherever the texts differ; bytes, since text may be non-ASCII.
    if not hmac.compare_digest(signature.encode(), _signature(user_id, secret).encode()):
        raise InvalidTokenError("The token's signature is wrong")
    return user_id


def _signature(user_id: str, secret: str) -> str:
    if not secret:
        raise ValueError("The secret is empty: set HULEEDU_INTERNAL_API_KEY")
    digest = hmac.new(secret.encode(), user_id.encode(), hashlib.sha256).digest()
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")
