"""What pydantic finds wrong with a request, as the answer may show it: without secrets, and not without end.

``error_answers`` uses it. Knows neither framework nor answer.
"""

from typing import Any, get_args

from pydantic_core.core_schema import ErrorType

from huleedu_service_libs._json import dumps
from huleedu_service_libs._plain import plain, secrets_within
from huleedu_service_libs._redaction import MASK, is_sensitive_name

__all__ = ["shown_faults"]

_NEUTRAL = "The value is not valid"
# Of these pydantic words the text itself, without the input; a validator's own text may repeat it.
_HARMLESS_FAULTS = frozenset(get_args(ErrorType)) - {"value_error", "assertion_error", "union_tag_invalid"}
_INPUT = 200  # characters of what was sent
_NODES = 1_500  # below what the encoder of answers takes, so that it cuts no fault in two


def shown_faults(given: list[Any]) -> list[dict[str, Any]]:
    """Pydantic's list without secrets, long inputs shortened, cut behind the last fault that fits into an answer."""
    shown: list[dict[str, Any]] = []
    left = _NODES
    for each in given:
        fault = _fault(each)
        left -= _size(fault)
        if left < 0 and shown:
            break
        shown.append(fault)
    return shown


def _fault(given: Any) -> dict[str, Any]:
    """One entry of pydantic's list; what was typed into a secret field is hidden, in the validator's own text too."""
    fault: dict[str, Any] = plain(dict(given))
    if any(is_sensitive_name(str(part), "text") for part in fault.get("loc") or ()):
        fault |= {name: MASK for name in ("input", "ctx") if name in fault}
        if fault.get("type") not in _HARMLESS_FAULTS:
            fault["msg"] = _NEUTRAL
    elif fault.get("type") not in _HARMLESS_FAULTS and _repeats_a_secret(given):  # a model's validator sees all fields
        fault |= {"msg": _NEUTRAL} | {name: MASK for name in ("ctx",) if name in fault}
    if "input" in fault:
        fault["input"] = _short(fault["input"])
    return fault


def _repeats_a_secret(given: Any) -> bool:
    said = f"{given.get('msg')} {given.get('ctx')}"
    try:
        return any(secret in said for secret in secrets_within(given.get("input")))
    except Exception:  # noqa: BLE001  # an input's own code, or nested beyond measure: rather neutral than leaking
        return True


def _short(value: Any) -> Any:
    text = value if isinstance(value, str) else dumps(value).decode()
    return value if len(text) <= _INPUT else f"{text[:_INPUT]}… ({len(text)} characters)"


def _size(value: Any) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + sum(_size(each) for each in inner)
