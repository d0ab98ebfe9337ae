"""``huleedu breakers`` against a console on a real server."""

import asyncio
import json
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import uvicorn

from huleedu_service_libs.cli.main import main
from huleedu_service_libs.console import BreakersSection, Console, TokenGuard
from huleedu_service_libs.resilience import CircuitBreaker, CircuitBreakerRegistry

TOKEN = "a-token-of-some-length"
NAME = "llm/eu <1>"


@pytest.fixture(name="service")
async def _service(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[CircuitBreakerRegistry]:
    """A service with a console, whose address and token stand in the environment."""
    registry = CircuitBreakerRegistry()
    registry.register(NAME, CircuitBreaker())
    console = Console([BreakersSection(registry)], guard=TokenGuard(TOKEN))
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        server = uvicorn.Server(uvicorn.Config(console, log_level="error", lifespan="on"))
        task = asyncio.create_task(server.serve(sockets=[listener]))
        port = listener.getsockname()[1]
        monkeypatch.setenv("HULEEDU_ADMIN_URL", f"http://127.0.0.1:{port}")
        monkeypatch.setenv("HULEEDU_ADMIN_TOKEN", TOKEN)
        while not server.started:
            await asyncio.sleep(0.01)  # uvicorn has no event to wait for
        yield registry
        server.should_exit = True
        await task


async def _run(*arguments: str) -> int:
    return await asyncio.to_thread(main, arguments)


async def test_list_isolate_and_reset(service: CircuitBreakerRegistry, capsys: pytest.CaptureFixture[str]) -> None:
    """What the command says is what the service does."""
    assert await _run("breakers", "list") == 0
    assert NAME in capsys.readouterr().out
    assert await _run("breakers", "isolate", NAME) == 0
    assert capsys.readouterr().out.endswith(f"{NAME} refuses every call until it is reset\n"), "after the service's log"
    assert service.get_all_states()[NAME]["state"] == "open"
    assert await _run("breakers", "list", "--json") == 0
    (row,) = json.loads(capsys.readouterr().out)  # reading is not logged
    assert (row["name"], row["hold"], row["retry_after_seconds"]) == (NAME, "isolated", None)
    assert await _run("breakers", "reset", NAME, "--json") == 0
    assert '"action": "reset"' in capsys.readouterr().out
    assert await _run("breakers", "close", NAME) == 0
    assert service.get_all_states()[NAME]["state"] == "closed"


async def test_errors_have_their_codes(
    service: CircuitBreakerRegistry, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unknown breaker 4, wrong token 5, no such address 4, and nothing on standard output."""
    del service
    assert await _run("breakers", "reset", "nobody") == 4
    assert NAME in capsys.readouterr().err, "the names that there are"
    token_file = tmp_path / "token"
    token_file.write_text("another-token-of-length\n")
    assert await _run("breakers", "list", "--token-file", str(token_file)) == 5
    token_file.write_text(f"{TOKEN}\n")
    monkeypatch.delenv("HULEEDU_ADMIN_TOKEN")
    assert await _run("breakers", "list", "--token-file", str(token_file)) == 0
    assert await _run("breakers", "list", "--token-file", str(tmp_path / "none")) == 2
    capsys.readouterr()


@pytest.mark.parametrize("url", ["", "localhost:80", "ftp://host/x", "http://", "http://user:secret@host/"])
def test_an_address_that_is_none_is_said(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """It is the command line's fault, and a password in it is not repeated."""
    assert main(["breakers", "list", "--url", url]) == 2
    assert "secret" not in capsys.readouterr().err


@pytest.fixture(name="stranger")
def _stranger() -> Iterator[tuple[str, list[str | None]]]:
    """A server that redirects, and notes which tokens it gets."""
    tokens: list[str | None] = []

    class Redirects(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            tokens.append(self.headers.get("Authorization"))
            if self.path.startswith("/plain"):
                self.send_response(200)
                self.end_headers()
                self.wfile.write(b"<html>")
                return
            self.send_response(302)
            self.send_header("Location", f"http://localhost:{server.server_port}/elsewhere")
            self.end_headers()

        def log_message(self, *_arguments: object) -> None: ...

    server = HTTPServer(("127.0.0.1", 0), Redirects)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", tokens
    server.shutdown()
    server.server_close()
    thread.join()


def test_the_token_follows_no_redirect(
    stranger: tuple[str, list[str | None]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A redirect ends the command, naming where it led."""
    address, tokens = stranger
    monkeypatch.setenv("HULEEDU_ADMIN_TOKEN", TOKEN)
    assert main(["breakers", "list", "--url", f"{address}/console"]) == 1
    assert "/elsewhere" in capsys.readouterr().err
    assert len(tokens) == 1


def test_an_answer_that_is_no_console_is_said(
    stranger: tuple[str, list[str | None]], capsys: pytest.CaptureFixture[str]
) -> None:
    """Something else on that port is not taken for a console."""
    assert main(["breakers", "list", "--url", f"{stranger[0]}/plain"]) == 1
    assert "is it a console?" in capsys.readouterr().err
