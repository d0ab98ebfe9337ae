"""Takes secrets out of what leaves the process: URLs, texts, values of fields.

The one place that knows what a secret looks like. Settings and drivers mask
their URLs and tell their errors with it; logs, spans, error details and error answers pass through
it. Pure text work that never fails
and takes time in proportion to the text. When it is unclear where a secret ends,
rather too much is hidden than too little.
"""

import re
from dataclasses import dataclass
from functools import lru_cache

__all__ = [
    "MASK",
    "RedactionPolicy",
    "configure_redaction",
    "error_fields",
    "error_text",
    "is_sensitive_name",
    "mask_url_credentials",
    "redact_text",
]

MASK = "***"

# --- URLs

_WORD = re.compile(r"\S+")
# Bounded, or a long run of letters would be looked through again from each of them. A longer scheme
# loses nothing: its beginning is copied like any other text.
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]{0,20}://")
_SECRET_PARAMETER = re.compile(
    r"(?P<name>[?&](?:(?:ssl|sasl_)?(?:password|passwd|pwd)|secret|token)=)[^&#\s]*", re.IGNORECASE
)


def mask_url_credentials(url: str) -> str:
    """``url`` with ``***`` in place of its password; user, host, port, path and parameters stay.

    Covers passwords that contain ``@``, ``:`` or ``/``, URLs without a user name
    (``redis://:secret@host``) or without a scheme, and passwords among the parameters. When it is
    unclear where a password ends, rather too much is hidden than too little.

    Args:
        url: Anything that may hold ``user:password@``; a text around it is no obstacle.

    Returns:
        The masked text; the same text when there is nothing to hide.
    """
    return _SECRET_PARAMETER.sub(rf"\g<name>{MASK}", _WORD.sub(_mask_authority, str(url)))


def _mask_authority(found: re.Match[str]) -> str:
    word = found[0]
    # Only the last "@" ends the user information: a password may hold "@", and raw "/", "?" and "#" too, illegal
    # yet common. So an "@" in the query hides the host as well, which is the safe side.
    end = word.rfind("@")
    if end < 0:
        return word
    # Without a scheme only a text that begins with the user information counts as a URL.
    scheme = _SCHEME.match(word) if found.start() == 0 else _SCHEME.search(word, 0, end)
    if scheme is None and found.start() != 0:
        return word
    begin = scheme.end() if scheme is not None and scheme.end() <= end else 0
    user, separator, password = word[begin:end].partition(":")
    if not separator or not password:
        return word
    return f"{word[:begin]}{user}:{MASK}{word[end:]}"


# --- what counts as secret


@dataclass(frozen=True, slots=True, kw_only=True)
class RedactionPolicy:
    """What is hidden beyond passwords, tokens, keys, cookies, authorization headers and URL credentials.

    Attributes:
        emails: E-mail addresses too. Off by default, because identity errors are about them.
        names: Further names of fields whose values are hidden, compared without case and separators.
    """

    emails: bool = False
    names: frozenset[str] = frozenset()


@dataclass(slots=True)
class _Chosen:
    emails: bool
    names: frozenset[str]


_chosen = _Chosen(emails=False, names=frozenset())


def configure_redaction(policy: RedactionPolicy) -> None:
    """From now on this process hides what ``policy`` says, in logs, spans, error details and answers."""
    _chosen.emails = policy.emails
    _chosen.names = frozenset(map(_squashed, policy.names))


_PASSWORD_NAMES = r"pass(?:word|wd|phrase|code)|(?<![a-z])pwd"  # noqa: S105  # names, not values
_ALWAYS_SECRET = re.compile(
    rf"{_PASSWORD_NAMES}|secret|authorization|cookie|credential|api_?key|private_?key|access_?key"
    r"|signing_?key|encryption_?key|jwt|bearer|sessionid|session_id|otp(?![a-z])|dsn(?![a-z])"
)
_TOKEN_NAME = re.compile(r"tokens?(?:_?(?:value|hash|plain|raw))?$")
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


def _squashed(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def is_sensitive_name(name: str, value: object = None) -> bool:
    """Whether what stands under ``name`` is to be hidden, whatever it is.

    Args:
        name: Of a field, header or parameter, in any spelling: ``apiKey``, ``X-Api-Key``, ``api_key``.
        value: Numbers under ``…token`` are counts, not secrets; ``None`` and truth values hide nothing.
    """
    if value is None or value is True or value is False:
        return False
    kind = _kind_of_name(name)
    if kind == "token":
        return not issubclass(type(value), int | float)  # not isinstance, which asks the object itself
    return kind == "secret" or (bool(_chosen.names) and _squashed(name) in _chosen.names)


@lru_cache(maxsize=2048)  # names of fields are few, and asked for on every log line
def _kind_of_name(name: str) -> str:
    text = _CAMEL.sub("_", name[:200]).lower().replace("-", "_").replace(" ", "_").replace(".", "_")
    if _ALWAYS_SECRET.search(text):
        return "secret"
    return "token" if _TOKEN_NAME.search(text) else ""


# --- texts

_NAMES_IN_TEXT = (
    r"(?:[a-z0-9_.-]{0,40}(?:password|passwd|passphrase|secret|api[_-]?key|private[_-]?key|access[_-]?key"
    r"|(?:proxy-)?authorization|cookie|token)|pwd)"
)
# A quotation, a structure (its end is not looked for: all to the end of the line goes), or a bare word.
_VALUE_IN_TEXT = (
    r"(?:[bruf]{0,2}\"(?:\\.|[^\"\\])*\"?|[bruf]{0,2}'(?:\\.|[^'\\])*'?"
    r"|[^\s,;&})\]\"'\[{(]{0,200}[\[{(][^\r\n]*|[^\s,;&}\])]+)"
)
# Without one of these in it, no rule below could bite on a text: nearly every text ends here.
_SUSPICIOUS = ("@", "eyj", "bearer", "basic", "pass", "pwd", "secret", "token", "key", "authorization", "cookie")
_RULES = (
    # user:password@ of a URL inside a text; bounded, so that no text takes more than linear time
    (re.compile(r"(://)([^\s\"'<>]{0,512})@"), lambda found: f"://{_user_of(found[2])}@"),
    # Authorization: Bearer abc · 'Cookie': 'a=b; c=d' · up to the end of the quotation or the line
    (
        re.compile(
            r"((?:authorization|cookie)[\"']?\s*[:=]\s*+)([\"']?+)(?![\[{(])([^\"'\r\n]{1,4096})", re.IGNORECASE
        ),
        lambda found: f"{found[1]}{found[2]}{MASK}",
    ),
    # "password": "x" · 'api_key'='x'
    (
        re.compile(rf"([\"']{_NAMES_IN_TEXT}[\"']\s*[:=]\s*)({_VALUE_IN_TEXT})", re.IGNORECASE),
        lambda found: f"{found[1]}{_mask_like(found[2])}",
    ),
    # password=x · ?token=x · token='x'
    (
        re.compile(rf"((?<![a-z0-9]){_NAMES_IN_TEXT}=)({_VALUE_IN_TEXT})", re.IGNORECASE),
        lambda found: f"{found[1]}{_mask_like(found[2])}",
    ),
    # Bearer abc123 · Basic dXNlcjpw: something with a digit or long, so that "bearer authentication" stays
    (
        re.compile(r"\b(bearer|basic)\s+(?=[^\s\"']{0,64}[0-9=]|[^\s\"']{20})[A-Za-z0-9._~+/=-]{4,}", re.IGNORECASE),
        lambda found: f"{found[1]} {MASK}",
    ),
    # a JSON web token, wherever it stands
    (re.compile(r"eyJ[A-Za-z0-9_-]{4,512}\.[A-Za-z0-9_-]{4,}\.?[A-Za-z0-9_-]*"), lambda _: MASK),
)
_EMAIL = re.compile(r"[A-Za-z0-9._%+-]{1,64}@[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63})+")


def redact_text(text: str) -> str:
    """``text`` without passwords, tokens, authorization values, URL credentials and, by policy, e-mail addresses."""
    if not any(map(text.lower().__contains__, _SUSPICIOUS)):
        return text
    for pattern, replacement in _RULES:
        text = pattern.sub(replacement, text)
    return _EMAIL.sub(MASK, text) if _chosen.emails else text


def _mask_like(value: str) -> str:
    """The mask, in the quotation marks of what it hides, so that JSON stays JSON."""
    return f"{value[0]}{MASK}{value[0]}" if value[0] in "\"'" else MASK


def _user_of(userinfo: str) -> str:
    user, separator, _ = userinfo.partition(":")
    return f"{user}:{MASK}" if separator else userinfo


# --- errors in log lines of ours


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
