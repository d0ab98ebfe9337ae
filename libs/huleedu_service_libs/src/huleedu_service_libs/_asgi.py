"""The words of ASGI, as types: what an application is called with.

Layers around applications, the drain's gate and the console share them. Knows no framework and no server.
Source: the ASGI specification, version 3 (asgi.readthedocs.io/en/latest/specs).
"""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

__all__ = ["Application", "Message", "Receive", "Scope", "Send"]

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]
