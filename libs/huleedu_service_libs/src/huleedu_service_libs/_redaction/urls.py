"""Takes passwords out of URLs, whatever they are made of. Knows no log lines and no fields."""

import re

from huleedu_service_libs._redaction.names import hides_text

__all__ = ["MASK", "mask_parameters", "mask_url_credentials", "mask_whole_url"]

MASK = "***"
"""Stands for whatever was hidden."""

_SECRET_PARAMETERS = frozenset({"key", "sig", "pass", "signature"})
_PARAMETER = re.compile(r"([?&])([^=&#?\s]{1,64}+)=([^&#\s]*)")
_WORD = re.compile(r"\S+")
# Bounded, or a long run of letters would be looked through again from each of them. A longer scheme
# loses nothing: its beginning is copied like any other text.
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]{0,20}://")

# A keyword of a connection string, dotted in Kafka's, whose value may stand in quotation marks. Without them it ends
# at a blank, not at a semicolon; behind a semicolon, where ODBC has its keywords, blanks belong to it up to the next one.
_NAME = r"([a-z_.]{0,32}(?:password|passphrase|passwd|pwd|secret|token)\s{0,8}+=\s{0,8}+)"
_KEYWORD = re.compile(
    rf"(?:(?<=;){_NAME}(?=[^\s'\"])[^;]*+|(?<![^\s;,]){_NAME}(?:'(?:\\.|[^'\\])*+'?|\"(?:\\.|[^\"\\])*+\"?|[^\s'\"]))\S*+",
    re.DOTALL | re.IGNORECASE,
)
# A URL with nothing around it: whatever stands before its last "@" belongs to it, blanks too.
_WHOLE_URL = re.compile(r"(\s*+[A-Za-z][A-Za-z0-9+.\-]{0,30}://[^:/?#@]*+:).+@", re.DOTALL)


def mask_url_credentials(url: str) -> str:
    """``url`` with ``***`` in place of its password; user, host, port, path and parameters stay.

    Covers passwords that contain ``@``, ``:`` or ``/``, URLs without a user name
    (``redis://:secret@host``) or without a scheme, passwords among the parameters, and libpq's keywords
    (``host=h password=secret``). When it is
    unclear where a password ends, rather too much is hidden than too little.

    Args:
        url: Anything that may hold ``user:password@``; a text around it is no obstacle.

    Returns:
        The masked text; the same text when there is nothing to hide.
    """
    return _KEYWORD.sub(_mask_keyword, mask_parameters(_WORD.sub(_mask_authority, str(url))))


def mask_whole_url(url: str) -> str:
    """As `mask_url_credentials`, for a URL with no text around it: its password may hold blanks, too."""
    return mask_url_credentials(_WHOLE_URL.sub(rf"\1{MASK}@", str(url)))


def _mask_keyword(found: re.Match[str]) -> str:
    return f"{found[1] or found[2]}{MASK}"


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


def mask_parameters(text: str) -> str:
    """``text`` with the mask in place of what stands after ``?name=`` or ``&name=`` where the name tells a secret."""
    return _PARAMETER.sub(_mask_parameter, text)


def _mask_parameter(found: re.Match[str]) -> str:
    mark, name, value = found.groups()
    is_secret = bool(value) and (name.lower() in _SECRET_PARAMETERS or hides_text(name, value))
    return f"{mark}{name}={MASK}" if is_secret else found[0]
