"""What importing the package costs, and what a missing extra says. Each in an interpreter of its own."""

import importlib
import pkgutil
import subprocess
import sys

import pytest

import huleedu_service_libs

DRIVERS = ("aiokafka", "redis", "sqlalchemy", "asyncpg", "quart", "fastapi", "starlette", "dishka", "opentelemetry.sdk")
LIGHT = (
    "huleedu_service_libs",
    "huleedu_service_libs.protocols",
    "huleedu_service_libs.event_utils",
    "huleedu_service_libs.logging_utils",
    "huleedu_service_libs.config",
    "huleedu_service_libs.observability",
    "huleedu_service_libs.error_handling",
    "huleedu_service_libs.error_handling.factories",
    "huleedu_service_libs.error_handling.fastapi",
    "huleedu_service_libs.error_handling.fastapi_handlers",
    "huleedu_service_libs.error_handling.quart",
    "huleedu_service_libs.error_handling.quart_handlers",
    "huleedu_service_libs.error_handling.testing",
    "huleedu_service_libs.di",
    "huleedu_service_libs.health",
    "huleedu_service_libs.health.answers",
    "huleedu_service_libs.health.gate",
    "huleedu_service_libs.idempotency_v2",
    "huleedu_service_libs.inbox",
    "huleedu_service_libs.middleware.request_context",
    "huleedu_service_libs.outbox",
    "huleedu_service_libs.database",
    "huleedu_service_libs.testing",
    "huleedu_service_libs.testing.pytest_plugin",
)


def _python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)  # noqa: S603  # our own code


@pytest.mark.parametrize("module", LIGHT)
def test_a_light_module_loads_no_driver_and_no_framework(module: str) -> None:
    """Importing it leaves every driver and web framework unloaded."""
    done = _python(f"import sys, {module}; print(*[name for name in {DRIVERS!r} if name in sys.modules])")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []


@pytest.mark.parametrize(
    ("module", "missing", "extra"),
    [
        ("kafka_client", "aiokafka", "kafka"),
        ("redis_client", "redis", "redis"),
        ("inbox.processing", "sqlalchemy", "outbox"),
        ("outbox.manager", "sqlalchemy", "outbox"),
        ("outbox.di", "dishka", "di"),
        ("database", "sqlalchemy", "database"),
        ("di", "dishka", "di"),
        ("quart_app", "quart", "quart"),
        ("middleware.frameworks.quart_errors", "quart", "quart"),
        ("middleware.frameworks.fastapi_errors", "fastapi", "fastapi"),
        ("middleware.frameworks.fastapi_openapi", "fastapi", "fastapi"),
        ("testing.fakes", "fakeredis", "testing"),
    ],
)
def test_a_missing_driver_names_the_extra(module: str, missing: str, extra: str) -> None:
    """Without the package the error says which extra brings it."""
    # A finder in front of all others behaves as if the package were not there.
    done = _python(
        "import sys\n"
        "class Absent:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name.split('.')[0] == {missing!r}: raise ModuleNotFoundError(name, name={missing!r})\n"
        "sys.meta_path.insert(0, Absent())\n"
        f"import huleedu_service_libs.{module}"
    )
    assert done.returncode != 0
    assert f"pip install 'huleedu-service-libs[{extra}]'" in done.stderr


@pytest.mark.parametrize(("name", "foreign"), [("RedisProvider", "aiokafka"), ("KafkaProvider", "redis")])
def test_a_provider_loads_only_its_own_driver(name: str, foreign: str) -> None:
    """A service without Kafka needs no Kafka driver for its container, nor one without Redis that of Redis."""
    done = _python(
        "import sys\n"
        "class Absent:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name.split('.')[0] == {foreign!r}: raise ModuleNotFoundError(name, name={foreign!r})\n"
        "sys.meta_path.insert(0, Absent())\n"
        f"from huleedu_service_libs.di import {name}; print({name}.__name__)"
    )
    assert (done.returncode, done.stdout.strip()) == (0, name), done.stderr


def _modules() -> list[str]:
    found = pkgutil.walk_packages(huleedu_service_libs.__path__, "huleedu_service_libs.")
    return [one.name for one in found if not one.name.endswith("__main__")]


@pytest.mark.parametrize("name", _modules())
def test_exported_names_exist_and_are_sorted(name: str) -> None:
    """Every module says what it exports, in alphabetical order, and has it."""
    module = importlib.import_module(name)
    exported = getattr(module, "__all__", None)
    if exported is None:
        assert (module.__file__ or "").endswith("__init__.py"), "a module without __all__"
        return
    assert list(exported) == sorted(exported, key=lambda one: (not one.isupper(), not one[0].isupper(), one))
    assert [one for one in exported if not hasattr(module, one)] == []
    assert (module.__doc__ or "").strip(), "a module without docstring"


def test_the_root_hands_on_its_names() -> None:
    """The root's names are those of their home modules; an unknown one is an AttributeError."""
    from huleedu_service_libs import KafkaBus, trace_operation  # noqa: PLC0415  # the import is what is tested

    assert KafkaBus.__module__ == "huleedu_service_libs.kafka_client"
    assert trace_operation.__module__ == "huleedu_service_libs.observability.tracing"
    assert "RedisClient" in dir(huleedu_service_libs)
    with pytest.raises(AttributeError, match="no attribute 'Nonsense'"):
        _ = huleedu_service_libs.Nonsense
