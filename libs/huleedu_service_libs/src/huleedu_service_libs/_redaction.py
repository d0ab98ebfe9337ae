"""Takes secrets out of what leaves the process: URLs, texts, values of fields.

The one place that knows what a secret looks like. Settings and drivers mask
their URLs and tell their errors with it; logs, spans, error details and error answers pass through
it. Pure text work that never fails
and takes time in proportion to the text. When it is unclear where a secret ends,
rather too much is hidden than too little.
"""

import re
from base64 import b64decode
from dataclasses import dataclass
from functools import lru_cache
from unicodedata import normalize

__all__ = [
    "MASK",
    "RedactionPolicy",
    "configure_redaction",
    "error_fields",
    "error_text",
    "is_sensitive_name",
    "mask_url_credentials",
    "redact_text",
    "redact_within",
]

MASK = "***"

# --- URLs

_WORD = re.compile(r"\S+")
# Bounded, or a long run of letters would be looked through again from each of them. A longer scheme
# loses nothing: its beginning is copied like any other text.
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]{0,20}://")
_PARAMETER = re.compile(r"([?&])([^=&#?\s]{1,64}+)=([^&#\s]*)")


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
    return _PARAMETER.sub(_mask_parameter, _WORD.sub(_mask_authority, str(url)))


def _mask_parameter(found: re.Match[str]) -> str:
    mark, name, value = found.groups()
    is_secret = bool(value) and (name.lower() in _SECRET_PARAMETERS or _hides_text(name, value))
    return f"{mark}{name}={MASK}" if is_secret else found[0]


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


def _squashed(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def is_sensitive_name(name: str, value: object = None) -> bool:
    """Whether what stands under ``name`` is to be hidden, whatever it is.

    Args:
        name: Of a field, header or parameter, in any spelling: ``apiKey``, ``X-Api-Key``, ``api_key``.
        value: Numbers are secrets under names like ``otp`` and ``pin`` only; ``None`` and truth values hide
            nothing; texts under ``tokens`` are secret, lists and counts are a language model's.
    """
    if value is None or value is True or value is False:
        return False
    if _chosen.names and _squashed(name) in _chosen.names:
        return True
    kind = _kind_of_name(name)
    if kind in ("", "number"):
        return bool(kind)
    of = type(value)  # not isinstance, which asks the object itself
    return issubclass(of, str | bytes) if kind == "tokens" else not issubclass(of, int | float)


@lru_cache(maxsize=2048)  # names of fields are few, and asked for on every log line
def _kind_of_name(name: str) -> str:
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


# --- texts

# Without one of these in it, no rule below could bite on a text: nearly every text ends here.
_SUSPICIOUS = (
    *("@", "eyj", "bearer", "basic", "pass", "pw", "secret", "token", "key", "authorization", "cookie", "sig"),
    *("credential", "jwt", "session", "dsn", "otp", "pin", "conn"),
)
_SECRET_PARAMETERS = frozenset({"key", "sig", "pass", "signature"})

# Every rule looks at a character a bounded number of times: a run is only looked at from its beginning, and
# never given back (``++``). Otherwise a long text would hold the process up.

# A name and what separates it from its value; the quotation marks may be escaped, in JSON inside JSON.
_NAME = re.compile(r"(?<![\w.\-\[\]])(?P<name>[\w.\-\[\]]++)(?P<quote>\\*+[\"']?+)(?P<sep>\s*+[:=]\s*+)")
_ESCAPED = re.compile(r"(\\++)([\"'])")
_QUOTED = re.compile(r"[bruf]{0,2}(?:\"(?:\\.|[^\"\\])*+\"?|'(?:\\.|[^'\\])*+'?)", re.IGNORECASE | re.DOTALL)
# A header as a pair, as Python shows it.
_SHOWN_PAIR = re.compile(rf"(\([bru]?([\"'])([\w.\-]{{1,64}}+)\2, ?)({_QUOTED.pattern})", re.IGNORECASE | re.DOTALL)
# The end of a structure is not looked for: all to the end of the line goes.
_STRUCTURE = re.compile(r"[^\s,;&})\]\"'\[{(]{0,200}[\[{(][^\r\n]*+")
_BARE = re.compile(r"[^\s,;&}\])]++")
_REST_OF_LINE = re.compile(r"[^\"'\r\n]++")
_HEADER_NAME = re.compile(r"(?:authorization|cookie2?)$", re.IGNORECASE)
_HEADER = re.compile(
    r"(?:bearer|basic|digest|negotiate|ntlm|token|apikey|hmac|aws4\S{0,40}|signature)\s+\S"
    r"|[^\s=;,]{1,200}+=|\S++\s*+$|[^\s.,;]{1,40}\s+(?=\S{0,200}[0-9=])\S++\s*+$",
    re.IGNORECASE,
)
# After "name: " prose may follow. It is a value when it stands alone or does not look like a word.
_PROSE = re.compile(r"[A-Za-z]?[a-z]*+(?:'[a-z]+)?[.!?]?\Z")
_SAYS_NOTHING = frozenset(
    [
        "required",
        "missing",
        "invalid",
        "expired",
        "unknown",
        "wrong",
        "none",
        "null",
        "true",
        "false",
        "empty",
        "incorrect",
        "unset",
        "set",
        "weak",
        "ok",
    ]
)
_FOLLOWED_BY_WORDS = re.compile(r"[ \t]+[A-Za-z(]")

_URL = re.compile(r"(://)((?:[^\s\"'<>:]|:(?!//)|[\"'](?=\w))*)@")
_SCHEME_VALUE = re.compile(
    r"\b(bearer|basic)(\s++)(?=[^\s\"']{0,64}[0-9=]|[^\s\"']{20})([A-Za-z0-9._~+/=-]{4,})", re.IGNORECASE
)
_WEB_TOKEN = re.compile(r"(?<![A-Za-z0-9_-])([A-Za-z0-9_-]{7,}+)\.[A-Za-z0-9_-]{4,}+\.?[A-Za-z0-9_-]*+")
# A field's errors as pydantic prints them: its name, then an indented line with what was given.
_FIELD_ERROR = re.compile(r"^(\S[^\n]{0,300})\n([ \t]+[^\n]{0,2000}?input_value=)([^\n]*)", re.MULTILINE)
_INPUT_TYPE = re.compile(r", input_type=\w+\]?\Z")
_EMAIL = re.compile(r"(?<![A-Za-z0-9._%+-])[A-Za-z0-9._%+-]++@[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63})+")


_BEYOND = 1_024  # characters that are looked at behind those that are kept


def redact_text(text: str) -> str:
    """``text`` without passwords, tokens, authorization values, URL credentials and, by policy, e-mail addresses."""
    if not _chosen.names and not any(map(text.lower().__contains__, _SUSPICIOUS)):
        return text
    if "input_value=" in text:
        text = _FIELD_ERROR.sub(_mask_input, text)
    text = _URL.sub(lambda found: f"://{_user_of(found[2])}@", text)
    text = _mask_values(_PARAMETER.sub(_mask_parameter, text))
    text = _SHOWN_PAIR.sub(_mask_pair, text)
    text = _SCHEME_VALUE.sub(_mask_scheme_value, text)
    text = _WEB_TOKEN.sub(_mask_web_token, text)
    return _EMAIL.sub(MASK, text) if _chosen.emails else text


def redact_within(text: str, limit: int) -> str:
    """`redact_text` of what UTF-8 can hold of ``text``, cut behind ``limit`` characters, with a note.

    Cut afterwards, and between words: half a URL or half a pair no longer tells that it holds a secret.
    """
    safe = redact_text(_encodable(text[: limit + _BEYOND]))
    if len(text) <= limit:
        return safe
    kept = safe[:limit]
    end = max(kept.rfind(" "), kept.rfind("\n"), kept.rfind("\t")) + 1
    if len(kept) - end <= _BEYOND or any(map(kept[end:].__contains__, "=:@")):
        kept = kept[:end]
    return f"{kept}… ({len(text)} characters)"


def _encodable(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:  # lone surrogates
        return text.encode("utf-8", "backslashreplace").decode()
    return text


def _hides_text(name: str, value: str) -> bool:
    """Whether a value in a text is to be hidden; digits under ``token`` are counts, under ``password`` hardly."""
    is_count = value.isdigit() and "token" in _kind_of_name(name[-200:])
    return not is_count and is_sensitive_name(name[-200:], value)


def _mask_values(text: str) -> str:
    """Values that stand after a name that tells a secret: ``password=x``, ``"api_key": "x"``, ``Cookie: a=b``."""
    parts: list[str] = []
    copied = position = 0
    while found := _NAME.search(text, position):
        position = found.end()
        if not _hides_text(found["name"], ""):
            continue
        end, shown = _hidden(text, found)
        if end > position:
            parts += (text[copied:position], shown)
            copied = position = end
    return "".join((*parts, text[copied:])) if parts else text


def _hidden(text: str, name: re.Match[str]) -> tuple[int, str]:
    """Where the value after ``name`` ends, and what is shown for it; where it begins when it is to stay."""
    begin = name.end()
    if escaped := _ESCAPED.match(text, begin):
        closing = re.compile(rf"(?<!\\){re.escape(escaped[0])}").search(text, escaped.end())
        return (closing.end() if closing else len(text)), f"{escaped[0]}{MASK}{escaped[0]}"
    if quoted := _QUOTED.match(text, begin):
        return quoted.end(), _mask_like(quoted[0])
    if _kind_of_name(name["name"][-200:]) == "tokens" and text[begin : begin + 1] in "[{(":
        return begin, ""
    if structure := _STRUCTURE.match(text, begin):
        return structure.end(), MASK
    end = _end_of_header(text, begin) if _HEADER_NAME.search(name["name"]) else _end_of_word(text, name)
    return end, MASK


def _end_of_header(text: str, begin: int) -> int:
    line = _REST_OF_LINE.match(text, begin)
    return line.end() if line and _HEADER.match(line[0]) else begin


def _end_of_word(text: str, name: re.Match[str]) -> int:
    word = _BARE.match(text, name.end())
    if not word or not _hides_text(name["name"], word[0]):
        return name.end()
    is_assignment = name["sep"] in ("=", ":") or bool(name["quote"])
    return word.end() if is_assignment or not _is_prose(word) else name.end()


def _is_prose(word: re.Match[str]) -> bool:
    if not _PROSE.match(word[0]):
        return False
    return word[0].lower().strip(".!?") in _SAYS_NOTHING or bool(_FOLLOWED_BY_WORDS.match(word.string, word.end()))


def _mask_pair(found: re.Match[str]) -> str:
    return f"{found[1]}{_mask_like(found[4])}" if _hides_text(found[3], "") else found[0]


def _mask_input(found: re.Match[str]) -> str:
    if not any(is_sensitive_name(part, "") for part in found[1].split(".")):
        return found[0]
    kind = _INPUT_TYPE.search(found[3][-200:])
    return f"{found[1]}\n{found[2]}{MASK}{kind[0] if kind else ''}"


def _mask_scheme_value(found: re.Match[str]) -> str:
    # Basic credentials are user:password in base 64; else it is an adjective, as in "Basic understanding2".
    is_secret = found[1].lower() == "bearer" or _is_pair_in_base64(found[3])
    return f"{found[1]} {MASK}" if is_secret else found[0]


def _is_pair_in_base64(value: str) -> bool:
    whole = value.rstrip("=").replace("-", "+").replace("_", "/")
    try:
        return b":" in b64decode(whole + "=" * (-len(whole) % 4), validate=True)
    except ValueError:
        return False


def _mask_web_token(found: re.Match[str]) -> str:
    begin = found[1].find("eyJ", 0, len(found[1]) - 3)
    return found[0] if begin < 0 else f"{found[1][:begin]}{MASK}"


def _mask_like(value: str) -> str:
    """The mask, in the quotation marks of what it hides, so that JSON stays JSON."""
    quote = value.lstrip("brufBRUF")[:1]
    return f"{quote}{MASK}{quote}"


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
