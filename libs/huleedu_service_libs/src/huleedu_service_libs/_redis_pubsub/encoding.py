"""Notifications as JSON: ids, dates, models and the like take their usual form. Knows nothing of Redis."""

from decimal import Decimal
from pathlib import PurePath
from typing import Any

from pydantic import SecretBytes, SecretStr
from pydantic_core import to_jsonable_python

from huleedu_service_libs._json import dumps

__all__ = ["notification_text"]


def notification_text(event_type: str, data: dict[str, Any]) -> str:
    """``{"event": event_type, "data": data}``; secrets stay masked.

    Raises:
        TypeError: ``data`` holds something without a JSON form.
    """
    return dumps({"event": event_type, "data": data}, default=_json_form, any_keys=True).decode("utf-8")


def _json_form(value: Any) -> Any:
    """What the encoder does not encode by itself."""
    if isinstance(value, Decimal | PurePath | SecretStr | SecretBytes):
        return str(value)
    try:
        return to_jsonable_python(value)
    except ValueError as error:
        raise TypeError(
            f"{type(value).__name__} has no JSON form; convert it before it goes into a notification"
        ) from error
