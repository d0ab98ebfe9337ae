"""Takes the secrets out of a URL before it reaches a log line or an error's text.

The one place that knows how; settings, drivers and logs call it. Pure text
work: it knows no scheme in particular, and never fails.
"""

import re

__all__ = ["mask_url_credentials"]

_MASK = "***"
# Only the last "@" ends the user information: a password may hold "@", and raw "/", "?" and "#" too, illegal
# yet common. So an "@" in the query hides the host as well, which is the safe side.
_AUTHORITY = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.\-]*://|\A)(?P<userinfo>\S*)@")
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
    return _SECRET_PARAMETER.sub(rf"\g<name>{_MASK}", _AUTHORITY.sub(_mask_authority, str(url)))


def _mask_authority(found: re.Match[str]) -> str:
    user, separator, password = found["userinfo"].partition(":")
    if not separator or not password:
        return found[0]
    return f"{found['scheme']}{user}:{_MASK}@"
