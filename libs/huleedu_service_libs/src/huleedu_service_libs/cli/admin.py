"""Speaks to the JSON side of a running service's console; the groups about services use it.

Blocking, with the standard library only: a command makes one request and ends. A redirect is an
error, because the token must not follow it.
"""

import json
import os
from collections.abc import Mapping
from http.client import HTTPException, HTTPMessage
from pathlib import Path
from typing import IO, Annotated, Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, OpenerDirector, ProxyHandler, Request, build_opener

from huleedu_service_libs._extras import requires_extra
from huleedu_service_libs.cli.errors import CliError, ExitCode

with requires_extra("cli", module=__name__):
    import typer

__all__ = ["AdminClient", "TimeoutOption", "TokenFileOption", "UrlOption"]

TOKEN_VARIABLE = "HULEEDU_ADMIN_TOKEN"  # noqa: S105  # a name
LARGEST_ANSWER = 16 * 1024 * 1024  # bytes; whatever answers on that port

UrlOption = Annotated[
    str,
    typer.Option("--url", envvar="HULEEDU_ADMIN_URL", help="Where the service has its console: http://host:port/path"),
]
TokenFileOption = Annotated[
    Path | None,
    typer.Option("--token-file", help=f"Holds the token of the console; without it {TOKEN_VARIABLE} is used."),
]
TimeoutOption = Annotated[float, typer.Option("--timeout", min=0.1, max=300, help="Seconds to wait for an answer.")]

_LOOPBACK = ("localhost", "127.0.0.1", "::1")

_CODES = {401: ExitCode.REFUSED, 403: ExitCode.REFUSED, 404: ExitCode.NOT_FOUND}
_HINTS = {
    401: f"set {TOKEN_VARIABLE} or --token-file to the token of its console",
    403: "its console is read-only, or does not allow this to you",
    404: "check the path in --url, and the name",
}


class AdminClient:
    """One service's console.

    Args:
        url: Where the console is mounted.
        token_file: Holds its token; else the environment's ``HULEEDU_ADMIN_TOKEN``, else none is sent.
        timeout_s: For each request.

    Raises:
        CliError: The address makes no sense, or the file cannot be read.
    """

    def __init__(self, url: str, token_file: Path | None, timeout_s: float) -> None:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise CliError(
                f"--url {url!r} is no address: http://host:port/path is needed, or HULEEDU_ADMIN_URL", ExitCode.USAGE
            )
        if parts.username or parts.password:
            raise CliError(f"--url must hold no user and password: use {TOKEN_VARIABLE}", ExitCode.USAGE)
        self._url = url.rstrip("/")
        self._token = _token(token_file)
        self._timeout_s = timeout_s
        self._opener = _opener(parts.hostname)

    def read(self, section: str) -> Any:
        """The data of a section of the console.

        Raises:
            CliError: Not reached, refused, or no such section.
        """
        return self._ask("GET", section, None)

    def act(self, section: str, action: str, target: str) -> Any:
        """Have the console do something; what it says about it.

        Raises:
            CliError: As `read`; or the target is unknown.
        """
        return self._ask("POST", section, {"action": action, "target": target})

    def _ask(self, method: str, section: str, body: Mapping[str, Any] | None) -> Any:
        headers = {"Accept": "application/json"}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        if body is not None:
            headers["Content-Type"] = "application/json"
        data = None if body is None else json.dumps(body).encode()
        request = Request(f"{self._url}/api/{section}", data=data, headers=headers, method=method)  # noqa: S310  # http(s) only, see above
        try:
            with self._opener.open(request, timeout=self._timeout_s) as answer:
                return _decoded(answer.read(LARGEST_ANSWER + 1), self._url)
        except HTTPError as error:
            with error:
                raise _refused(error, self._url) from error
        except (URLError, OSError, HTTPException) as error:
            reason = getattr(error, "reason", None) or error
            raise CliError(
                f"{self._url} did not answer: {reason or type(reason).__name__}", ExitCode.UNREACHABLE
            ) from error


class _NoRedirect(HTTPRedirectHandler):
    def redirect_request(
        self,
        req: Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: HTTPMessage,
        newurl: str,
    ) -> None:
        """Leave the redirect as the error that it is here."""


def _opener(host: str) -> OpenerDirector:
    # Nobody's proxy leads to this machine.
    return build_opener(_NoRedirect, ProxyHandler({})) if host in _LOOPBACK else build_opener(_NoRedirect)


def _token(path: Path | None) -> str:
    if path is None:
        token = os.environ.get(TOKEN_VARIABLE, "")
    else:
        try:
            token = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise CliError(f"--token-file {path} cannot be read: {error}", ExitCode.USAGE) from error
    token = token.strip()
    if not token.isprintable() or not token.isascii():
        raise CliError("the token holds characters that no header can carry", ExitCode.USAGE)
    return token


def _decoded(answer: bytes, url: str) -> Any:
    if len(answer) > LARGEST_ANSWER:
        raise CliError(f"{url} answered with more than {LARGEST_ANSWER} bytes: is it a console?")
    try:
        return json.loads(answer)
    except ValueError as error:
        raise CliError(f"{url} did not answer with JSON: is it a console?") from error


def _refused(error: HTTPError, url: str) -> CliError:
    said = ""
    try:
        answer = json.loads(error.read(LARGEST_ANSWER))
        said = str(answer.get("error", "")) if isinstance(answer, dict) else ""
    except (ValueError, OSError, HTTPException):
        pass  # the status says enough
    if 300 <= error.code < 400:  # noqa: PLR2004  # redirects
        hint = f"it redirects to {error.headers.get('Location')!r}; give that as --url if it is meant"
    else:
        hint = said or _HINTS.get(error.code, "see its log")
    return CliError(f"{url} answered {error.code}: {hint}", _CODES.get(error.code, ExitCode.FAILED))
