"""What comes in to the console and goes out: JSON, forms, refusals, the visitor's cookie.

``app`` uses it between ``http``, which knows bytes, and the sections.
"""

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs

from huleedu_service_libs import _json
from huleedu_service_libs._asgi import Scope
from huleedu_service_libs.console.form_tokens import COOKIE
from huleedu_service_libs.console.http import Answer

__all__ = ["RefusedError", "from_form", "from_json", "json_answer", "refusal_of", "set_cookie"]


class RefusedError(Exception):
    """Ends a request with a status and a sentence."""

    def __init__(self, status: int, text: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(text)
        self.status = status
        self.headers = headers or {}


def set_cookie(visitor: str, scope: Scope) -> str:
    """The header that makes a browser come back as ``visitor``, to this console alone."""
    secure = "; Secure" if scope.get("scheme") == "https" else ""
    return f"{COOKIE}={visitor}; Path={scope.get('root_path', '').rstrip('/')}/; HttpOnly; SameSite=Strict{secure}"


def json_answer(data: Any, *, status: int = 200) -> Answer:
    """``data`` as JSON; what JSON has no form for as its text."""
    try:
        body = _json.dumps(data, default=str, any_keys=True)
    except TypeError:  # text that UTF-8 cannot hold
        body = json.dumps(data, default=str).encode()
    return Answer(status=status, body=body, kind="application/json")


def refusal_of(status: int, text: str, *, as_json: bool, headers: Mapping[str, str] | None = None) -> Answer:
    """The sentence of a refusal, for a person or as ``{"error": ...}``."""
    answer = (
        json_answer({"error": text}, status=status) if as_json else Answer(status=status, body=f"{text}\n".encode())
    )
    answer.headers = headers or {}
    return answer


def from_json(body: bytes) -> tuple[str, str]:
    """Action and target of a request.

    Raises:
        RefusedError: The body is something else; the text shows the form.
    """
    try:
        fields = json.loads(body)
    except ValueError as error:
        raise RefusedError(400, f"no JSON: {error}") from error
    action, target = (fields.get("action"), fields.get("target")) if isinstance(fields, dict) else (None, None)
    if not isinstance(action, str) or not isinstance(target, str):
        raise RefusedError(400, 'send {"action": "...", "target": "..."}')
    return action, target


def from_form(body: bytes) -> dict[str, str]:
    """The fields of a form, of two with one name the last; none when it cannot be read."""
    try:
        fields = parse_qs(body.decode("ascii"), strict_parsing=True, keep_blank_values=True, max_num_fields=16)
    except (ValueError, UnicodeDecodeError):
        return {}
    return {name: values[-1] for name, values in fields.items()}
