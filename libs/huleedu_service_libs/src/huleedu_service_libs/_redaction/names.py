"""Which names tell that a secret stands under them. Knows names only, no texts."""

import re
from functools import lru_cache
from unicodedata import normalize

from huleedu_service_libs._redaction.policy import CHOSEN, squashed

__all__ = ["hides_text", "is_plain_name", "is_sensitive_name", "kind_of_name"]

# What says something about a secret without being one.
_ABOUT = re.compile(
    r"(?:length|len|size|count|attempts|requested|accepted|required|enabled|policy|type|ttl|lifetime|strength|min|max"
    r"|expir(?:y|es|ed)|changed|updated|created)(?:_(?:at|in|on|seconds|days|min|max))?$"
    r"|(?:page|continuation|next|prev|previous|first|last|max|min|num|total)_tokens?$"
    r"|(?:first|second|third|last|single|multi|one|two|boarding)_pass$"
)
_SECRET_NAME = re.compile(
    r"password(?!less)|passwd|passphrase|(?:^|_)pass_word|(?:^|_)(?:pass|pw)(?:_?\d+)?$|(?<![a-z])pwd"
    r"|secret(?!ar[yi])|authorization|cookie|credential|jwt|bearer|session_?id|dsn(?![a-z])|connection_?string|conn_?str"
    r"|^sig$|^(?:x_[a-z_]*)?signature(?:_\d+)?$"
    r"|(?:api|private|access|signing|encryption|auth|client|account|shared|master)_?key(?!w)"
)
_SECRET_NUMBER = re.compile(r"passcode|otp(?![a-z])|(?:^|_)pin(?:_?code)?$")
_TOKEN_NAME = re.compile(
    r"token(?:_?(?:value|hash|plain|raw|v?\d+))*$"
    r"|(?:access|refresh|auth|bearer|api|id|session|csrf|xsrf|user|reset|device|personal)_?tokens$"
)
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_NOT_OF_NAMES = re.compile(r"[^a-z0-9]+")


def is_sensitive_name(name: str, value: object = None) -> bool:
    """Whether what stands under ``name`` is to be hidden, whatever it is.

    Args:
        name: Of a field, header or parameter, in any spelling: ``apiKey``, ``X-Api-Key``, ``api_key``.
        value: Numbers are secrets under names like ``otp`` and ``pin`` only; ``None`` and truth values hide
            nothing; texts under ``tokens`` are secret, lists and counts are a language model's.
    """
    if value is None or value is True or value is False:
        return False
    if CHOSEN.names and squashed(name) in CHOSEN.names:
        return True
    kind = kind_of_name(name)
    if kind in ("", "number"):
        return bool(kind)
    of = type(value)  # not isinstance, which asks the object itself
    return issubclass(of, str | bytes) if kind == "tokens" else not issubclass(of, int | float)


@lru_cache(maxsize=2048)  # names of fields are few, and asked for on every log line
def kind_of_name(name: str) -> str:
    """What stands under ``name``: ``secret``, ``number``, ``token``, ``tokens``, or nothing to hide (empty)."""
    text = normalize("NFKC", name[-200:])
    kinds = [
        _kind_of_words(_NOT_OF_NAMES.sub("_", words.lower()).strip("_")) for words in (_CAMEL.sub("_", text), text)
    ]
    return kinds[0] or kinds[1]


def _kind_of_words(words: str) -> str:
    if _ABOUT.search(words):
        return ""
    if _SECRET_NUMBER.search(words):
        return "number"
    if _SECRET_NAME.search(words):
        return "secret"
    return "tokens" if words == "tokens" else "token" if _TOKEN_NAME.search(words) else ""


def is_plain_name(name: str) -> bool:
    """Whether nothing that stands under ``name`` is hidden for the name's sake."""
    return not kind_of_name(name) and not (CHOSEN.names and squashed(name) in CHOSEN.names)


def hides_text(name: str, value: str) -> bool:
    """Whether a value in a text is to be hidden; digits under ``token`` are counts, under ``password`` hardly."""
    is_count = value.isdigit() and "token" in kind_of_name(name[-200:])
    return not is_count and is_sensitive_name(name[-200:], value)
