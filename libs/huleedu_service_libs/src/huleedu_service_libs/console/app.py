"""The console as an ASGI application: a page, forms that act, and the same as JSON.

::

    GET  /              the page
    POST /act           a button of the page, then back to it
    GET  /api           which sections there are
    GET  /api/SECTION   what the section has read
    POST /api/SECTION   {"action": ..., "target": ...}

Services mount it; ``huleedu`` on the command line reads ``/api``. Knows its sections by their port only.
"""

import asyncio
import inspect
from collections.abc import Mapping, Sequence

from huleedu_service_libs import _clock
from huleedu_service_libs._asgi import Receive, Scope, Send
from huleedu_service_libs._redaction import error_text
from huleedu_service_libs.console.form_tokens import FormTokens
from huleedu_service_libs.console.guard import ConsoleRequest, Guard
from huleedu_service_libs.console.http import Answer, BodyTooLargeError, headers_of, read_body, route_of
from huleedu_service_libs.console.messages import (
    RefusedError,
    from_form,
    from_json,
    json_answer,
    refusal_of,
    set_cookie,
)
from huleedu_service_libs.console.metrics import CONSOLE_ERRORS
from huleedu_service_libs.console.rendering import STYLE, Page, SectionShown, render
from huleedu_service_libs.console.sections import (
    ActionRefusedError,
    Reading,
    Section,
    UnknownTargetError,
    check_section,
)
from huleedu_service_libs.logging_utils import create_service_logger
from huleedu_service_libs.protocols import concrete_capability

__all__ = ["Console"]

SECTION_S = 5.0  # for a section to read or to act

logger = create_service_logger("huleedu_service_libs.console")


class Console:
    """The application. Mount it where only operators come.

    Args:
        sections: What it shows, from top to bottom.
        title: The service's name.
        guard: Asked at every request. Without one everybody who reaches it may look, and nobody may act.
        signing_key: For the forms; processes behind one address need the same one.
        now: The time of day.

    Raises:
        ValueError: Two sections have one name, or a name does not fit into an address.
    """

    def __init__(
        self,
        sections: Sequence[Section],
        *,
        title: str = "Service",
        guard: Guard | None = None,
        signing_key: bytes | None = None,
        now: _clock.Now = _clock.utc_now,
    ) -> None:
        self._sections = {check_section(section).name: section for section in sections}
        if len(self._sections) != len(sections):
            raise ValueError(f"two sections have one name: {[section.name for section in sections]}")
        self._title = title
        self._guard = guard
        self._forms = FormTokens(signing_key)
        self._now = now

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] == "lifespan":
            await _live(receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1000})
        elif scope["type"] == "http":
            try:
                answer = await self._answer(scope, receive)
            except ConnectionError:
                return  # nobody is there to read an answer
            await answer.send(send, with_body=scope["method"] != "HEAD")

    async def _answer(self, scope: Scope, receive: Receive) -> Answer:
        route, headers = route_of(scope), headers_of(scope)
        as_json = route.startswith("/api")
        try:
            writes = scope["method"] not in {"GET", "HEAD"}
            await self._let_in(ConsoleRequest(method=scope["method"], headers=headers, writes=writes, scope=scope))
            if writes:
                return await self._do(route, headers, await read_body(receive))
            return await self._show(route, headers, scope)
        except BodyTooLargeError:
            return refusal_of(413, "the request is too large", as_json=as_json)
        except RefusedError as refusal:
            return refusal_of(refusal.status, str(refusal), as_json=as_json, headers=refusal.headers)

    async def _let_in(self, request: ConsoleRequest) -> None:
        if self._guard is None:
            if request.writes:
                raise RefusedError(403, "this console is read-only: give it a guard to act through it")
            return
        allowed = self._guard(request)
        if inspect.isawaitable(allowed):
            allowed = await allowed
        if allowed is not True:
            challenge = getattr(self._guard, "challenge", None)
            if challenge is None:
                raise RefusedError(403, "not allowed")
            raise RefusedError(401, "the console's token is needed", {"www-authenticate": challenge})

    # Showing

    async def _show(self, route: str, headers: Mapping[str, str], scope: Scope) -> Answer:
        if route == "":
            return Answer(status=307, headers={"location": scope.get("root_path", "").rstrip("/") + "/"})
        if route == "/":
            return await self._page(headers, scope)
        if route == "/style.css":
            return Answer(body=STYLE, kind="text/css; charset=utf-8")
        if route == "/api":
            found = [
                {"name": each.name, "title": each.title, "acts": self._acts(each)} for each in self._sections.values()
            ]
            return json_answer({"title": self._title, "sections": found})
        section = self._section(route)
        reading, error = await _read(section)
        return json_answer({"error": error}, status=503) if reading is None else json_answer(reading.data)

    async def _page(self, headers: Mapping[str, str], scope: Scope) -> Answer:
        read = await asyncio.gather(*(_read(section) for section in self._sections.values()))
        shown = [
            SectionShown(name=each.name, title=each.title, reading=reading, error=error, acts=self._acts(each))
            for each, (reading, error) in zip(self._sections.values(), read, strict=True)
        ]
        visitor, new = self._forms.visit(headers)
        token = self._forms.token(visitor)
        page = Page(title=self._title, at=self._now(), sections=shown, form_token=token)
        cookie = {"set-cookie": set_cookie(visitor, scope)} if new and self._guard is not None else {}
        return Answer(body=render(page), kind="text/html; charset=utf-8", headers=cookie)

    def _acts(self, section: Section) -> bool:
        return self._guard is not None and concrete_capability(section, "act") is not None

    def _section(self, route: str) -> Section:
        name = route.removeprefix("/api/")
        section = self._sections.get(name) if route.startswith("/api/") else None
        if section is None:
            raise RefusedError(404, f"there is nothing at {route!r}; sections: {', '.join(self._sections) or 'none'}")
        return section

    # Acting

    async def _do(self, route: str, headers: Mapping[str, str], body: bytes) -> Answer:
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        if route == "/act":
            return await self._do_form(headers, kind, body)
        if headers.get("sec-fetch-site", "same-origin") != "same-origin" or kind != "application/json":
            raise RefusedError(415, "send JSON (content-type: application/json), not from another site's page")
        action, target = from_json(body)
        said = await self._act(self._section(route), action, target)
        return json_answer({"action": action, "target": target, "message": said})

    async def _do_form(self, headers: Mapping[str, str], kind: str, body: bytes) -> Answer:
        fields = from_form(body) if kind == "application/x-www-form-urlencoded" else {}
        if not self._forms.fits(headers, fields.get("token", "")):
            raise RefusedError(403, "this form is not from this page, or too old: go back, reload, and try again")
        section = self._section(f"/api/{fields.get('section', '')}")
        await self._act(section, fields.get("action", ""), fields.get("target", ""))
        return Answer(status=303, headers={"location": "./"})

    async def _act(self, section: Section, action: str, target: str) -> str:
        act = concrete_capability(section, "act")
        if act is None:
            raise RefusedError(405, f"section {section.name!r} only shows")
        try:
            async with asyncio.timeout(SECTION_S):
                said = str(await act(action, target))
        except UnknownTargetError as error:
            raise RefusedError(404, str(error)) from error
        except ActionRefusedError as error:
            raise RefusedError(409, str(error)) from error
        except Exception as error:
            raise RefusedError(503, f"{section.title}: {_told(error, section.name, 'act')}") from error
        logger.warning("console_action", section=section.name, action=action, target=target)
        return said


async def _read(section: Section) -> tuple[Reading | None, str]:
    """What it has to show; or nothing, and why."""
    try:
        async with asyncio.timeout(SECTION_S):
            return await section.read(), ""
    except Exception as error:  # noqa: BLE001  # one section must not take the others with it
        return None, _told(error, section.name, "read")


def _told(error: Exception, section: str, operation: str) -> str:
    CONSOLE_ERRORS.labels(section=section, operation=operation).inc()
    logger.error("console_section_failed", section=section, operation=operation, error=error_text(error))
    return f"no answer within {SECTION_S:g} s" if isinstance(error, TimeoutError) else error_text(error)


async def _live(receive: Receive, send: Send) -> None:
    """Alone under a server there is nothing to start or stop."""
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
