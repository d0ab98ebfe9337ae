"""The pipeline on real servers, shared by all tests that only use it."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from uuid import uuid4

import httpx
import pytest

from essay_pipeline.demo.clients import User
from essay_pipeline.demo.processes import PipelineProcesses, Servers
from essay_pipeline.demo.service import Log
from huleedu_service_libs.testing.devstack.servers import KafkaServer, PostgresServer, RedisServer

ENGLISH = "Yesterday I recieved a letter from my freind, who lives in a small village by the sea."


@pytest.fixture(scope="session", name="servers")
def _servers(postgres_server: PostgresServer, redis_server: RedisServer, kafka_server: KafkaServer) -> Servers:
    """The session's servers."""
    return Servers(postgres=postgres_server, redis=redis_server, kafka=kafka_server)


@pytest.fixture(scope="session", name="pipeline")
def _pipeline(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PipelineProcesses]:
    """The three services, started once a session; ``notify_url``, ``intake_url``, ``logs`` and more."""
    folder = tmp_path_factory.mktemp("services")
    with PipelineProcesses(
        servers=servers,
        make_log=lambda name: Log(folder / f"{name}.log"),
        namespace=f"test-{uuid4().hex[:8]}.",
    ) as processes:
        yield processes


@pytest.fixture(name="connect")
async def _connect(pipeline: PipelineProcesses) -> AsyncIterator[Callable[[], Awaitable[User]]]:
    """A function that makes a new user with an open WebSocket, which is closed after the test."""
    async with AsyncExitStack() as stack:

        async def connect() -> User:
            return await stack.enter_async_context(User.connected(pipeline.notify_url))

        yield connect


@pytest.fixture(name="intake")
async def _intake(pipeline: PipelineProcesses) -> AsyncIterator[httpx.AsyncClient]:
    """An HTTP client for *intake*."""
    async with httpx.AsyncClient(base_url=pipeline.intake_url, timeout=20, trust_env=False) as client:
        yield client


@pytest.fixture(name="submit")
def _submit(intake: httpx.AsyncClient) -> Callable[..., Awaitable[httpx.Response]]:
    """A function that sends a user's essay: ``await submit(user, text, language, headers)``."""

    async def submit(
        user: User, text: str = ENGLISH, language: str = "en", headers: dict[str, str] | None = None
    ) -> httpx.Response:
        body = {"title": "A letter", "language": language, "text": text}
        return await intake.post("/v1/essays", json=body, headers={"X-User-Token": user.token, **(headers or {})})

    return submit
