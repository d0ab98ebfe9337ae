"""The little of HTTP that the console needs, on bare ASGI, so that it fits under every framework."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from huleedu_service_libs._asgi import Receive, Scope, Send

__all__ = ["Answer", "BodyTooLargeError", "headers_of", "read_body", "route_of"]

LARGEST_BODY = 16 * 1024  # bytes; a name and an action need a hundred

_HEADERS = {
    "cache-control": "no-store",
    "content-security-policy": (
        "default-src 'none'; style-src 'self'; img-src data:; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    ),
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}


class BodyTooLargeError(Exception):
    """A request brings more than any of ours would."""


@dataclass(slots=True, kw_only=True)
class Answer:
    """What is sent back."""

    status: int = 200
    body: bytes = b""
    kind: str = "text/plain; charset=utf-8"
    headers: Mapping[str, str] = field(default_factory=dict)

    async def send(self, send: Send, *, with_body: bool = True) -> None:
        """Send it; with ``with_body`` unset only the head, as HEAD asks for."""
        headers = {**_HEADERS, "content-type": self.kind, "content-length": str(len(self.body)), **self.headers}
        encoded = [(name.encode("latin-1"), value.encode("latin-1", "replace")) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": self.status, "headers": encoded})
        await send({"type": "http.response.body", "body": self.body if with_body else b""})


def headers_of(scope: Scope) -> dict[str, str]:
    """The request's headers, names in lower case; of two with one name the last."""
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope.get("headers", [])}


def route_of(scope: Scope) -> str:
    """The path below the place where we are mounted, whether or not the server has cut it off."""
    path: str = scope["path"]
    root: str = scope.get("root_path", "").rstrip("/")
    return path[len(root) :] if root and (path == root or path.startswith(f"{root}/")) else path


async def read_body(receive: Receive) -> bytes:
    """The request's body.

    Raises:
        BodyTooLargeError: It is too large; the rest is not read.
        ConnectionError: The client is gone.
    """
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ConnectionError("the client has gone")
        body += message.get("body", b"")
        if len(body) > LARGEST_BODY:
            raise BodyTooLargeError
        if not message.get("more_body", False):
            return bytes(body)
