"""What may be told of URLs and errors in logs and texts: enough to find the fault, and no secrets.

The one place that knows how; settings, drivers, clients and logs call it. Pure
text work: it knows no scheme and no error in particular, never fails, and takes
time in proportion to the text.
"""

import re

__all__ = ["error_fields", "error_text", "mask_url_credentials"]

_MASK = "***"
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
    return _SECRET_PARAMETER.sub(rf"\g<name>{_MASK}", _WORD.sub(_mask_authority, str(url)))


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
    return f"{word[:begin]}{user}:{_MASK}{word[end:]}"


def error_text(error: BaseException) -> str:
    """Class and text of an error, for a log line; a driver's error often has a class only."""
    text = _text_of(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def error_fields(error: BaseException) -> dict[str, str]:
    """The same as two fields of a log line, ``error`` and ``error_type``."""
    return {"error": _text_of(error), "error_type": type(error).__name__}


def _text_of(error: BaseException) -> str:
    try:
        return mask_url_credentials(str(error))
    except Exception:  # noqa: BLE001  # an error that cannot tell its text must not hide itself
        return "<no text>"
