"""Takes secrets out of free text: messages, tracebacks, JSON inside text, printed headers.

Pure text work that never fails and takes time in proportion to the text. When it is unclear where a
secret ends, rather too much is hidden than too little.
"""

import re
from base64 import b64decode

from huleedu_service_libs._redaction.names import hides_text, is_sensitive_name, kind_of_name
from huleedu_service_libs._redaction.policy import CHOSEN
from huleedu_service_libs._redaction.urls import MASK, mask_parameters

__all__ = ["redact_text", "redact_within"]

# Without one of these in it, no rule below could bite on a text: nearly every text ends here.
_SUSPICIOUS = (
    *("@", "eyj", "bearer", "basic", "pass", "pw", "secret", "token", "key", "authorization", "cookie", "sig"),
    *("credential", "jwt", "session", "dsn", "otp", "pin", "conn", "[parameters: ", "failing row contains ("),
)

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
# What a statement was given, as SQLAlchemy shows it, and the row that PostgreSQL refused: somebody's data, on one line.
# To its last end, since a value may look like one; without any, the whole line.
_BOUND = re.compile(
    r"(\[parameters: )[^\n]*(?=\](?:\n|\Z|\\++n\(Background))|(\[parameters: )[^\n]*"
    r"|(Failing row contains \()[^\n]*(?=\)\.(?:\n|\Z|\\++n\[SQL))|(Failing row contains \()[^\n]*"
)
_EMAIL = re.compile(r"(?<![A-Za-z0-9._%+-])[A-Za-z0-9._%+-]++@[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63})+")


_BEYOND = 1_024  # characters that are looked at behind those that are kept


def redact_text(text: str) -> str:
    """``text`` without passwords, tokens, authorization values, URL credentials and, by policy, e-mail addresses."""
    if not CHOSEN.names and not any(map(text.lower().__contains__, _SUSPICIOUS)):
        return text
    if "input_value=" in text:
        text = _FIELD_ERROR.sub(_mask_input, text)
    text = _BOUND.sub(lambda found: f"{found[1] or found[2] or found[3] or found[4]}{MASK}", text)
    text = _URL.sub(lambda found: f"://{_user_of(found[2])}@", text)
    text = _mask_values(mask_parameters(text))
    text = _SHOWN_PAIR.sub(_mask_pair, text)
    text = _SCHEME_VALUE.sub(_mask_scheme_value, text)
    text = _WEB_TOKEN.sub(_mask_web_token, text)
    return _EMAIL.sub(MASK, text) if CHOSEN.emails else text


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


def _mask_values(text: str) -> str:
    """Values that stand after a name that tells a secret: ``password=x``, ``"api_key": "x"``, ``Cookie: a=b``."""
    parts: list[str] = []
    copied = position = 0
    while found := _NAME.search(text, position):
        position = found.end()
        if not hides_text(found["name"], ""):
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
    if kind_of_name(name["name"][-200:]) == "tokens" and text[begin : begin + 1] in "[{(":
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
    if not word or not hides_text(name["name"], word[0]):
        return name.end()
    is_assignment = name["sep"] in ("=", ":") or bool(name["quote"])
    return word.end() if is_assignment or not _is_prose(word) else name.end()


def _is_prose(word: re.Match[str]) -> bool:
    if not _PROSE.match(word[0]):
        return False
    return word[0].lower().strip(".!?") in _SAYS_NOTHING or bool(_FOLLOWED_BY_WORDS.match(word.string, word.end()))


def _mask_pair(found: re.Match[str]) -> str:
    return f"{found[1]}{_mask_like(found[4])}" if hides_text(found[3], "") else found[0]


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
