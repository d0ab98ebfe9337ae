"""How log lines, metrics and probes of this library tell an error."""

from huleedu_service_libs._redaction.texts import redact_text
from huleedu_service_libs._redaction.urls import mask_url_credentials

__all__ = ["error_fields", "error_text"]


def error_text(error: BaseException) -> str:
    """Class and text of an error, for a log line; a driver's error often has a class only."""
    text = _text_of(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def error_fields(error: BaseException) -> dict[str, str]:
    """The same as two fields of a log line, ``error`` and ``error_type``."""
    return {"error": _text_of(error), "error_type": type(error).__name__}


def _text_of(error: BaseException) -> str:
    try:
        return redact_text(mask_url_credentials(str(error)))
    except Exception:  # noqa: BLE001  # an error that cannot tell its text must not hide itself
        return "<no text>"
