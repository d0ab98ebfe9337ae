"""What no module of the example does, and which names all settings have."""

import ast
from pathlib import Path

import pytest

from .example import EXAMPLE, ROOT, SERVICES, SOURCES


@pytest.mark.parametrize("name", SERVICES)
def test_settings_have_the_common_names(name: str) -> None:
    """Whoever reads the settings of one service knows those of all; only who publishes names a producer."""
    names = {"SERVICE_NAME", "REDIS_URL", "KAFKA_BOOTSTRAP_SERVERS", "CIRCUIT_BREAKER_ENABLED"}
    assert names | ({"PRODUCER_CLIENT_ID"} if name != "notify" else set()) <= set(SERVICES[name][1].model_fields)


def test_no_module_has_another_logger() -> None:
    """Loggers come from `create_service_logger`; the standard library's are only given a level or handed to a server."""
    made = [line.strip() for path in SOURCES for line in _lines(path) if "getLogger(" in line]
    assert len(made) == 2, made
    assert all("TID251" in line for line in made), "each says why it is needed"
    services = [path for path in SOURCES if path.parent.name in SERVICES and path.name in {"app.py", "service.py"}]
    assert len(services) == 6
    assert all("create_service_logger(" in path.read_text(encoding="utf-8") for path in services)


def test_no_module_has_a_client_of_its_own() -> None:
    """Services make neither producer nor Redis nor HTTP client: all they have come from the container."""
    own = [path for path in SOURCES if "demo" not in path.parts]
    clients = ("KafkaBus(", "AIOKafka", "RedisClient(", "Redis.from_url", "httpx.", "aiohttp.", "CircuitBreaker(")
    assert [(path.name, one) for path in own for one in clients if one in path.read_text(encoding="utf-8")] == []


def test_errors_have_their_context() -> None:
    """Each factory gets service, operation and correlation id from an `ErrorContext`, and no detail is put together by hand."""
    services = [path for path in SOURCES if "demo" not in path.parts]
    raised = 0
    for path in services:
        source = path.read_text(encoding="utf-8")
        for call in (each for each in ast.walk(ast.parse(source)) if isinstance(each, ast.Call)):
            name = ast.unparse(call.func)
            if name.startswith("raise_"):
                raised += 1
                spread = [ast.unparse(keyword.value) for keyword in call.keywords if keyword.arg is None]
                assert any("context(" in one and one.endswith(").arguments()") for one in spread), ast.unparse(call)
            assert name not in {"ErrorDetail", "create_error_detail_with_context"}, f"{path.name}: {ast.unparse(call)}"
        if "HuleEduError(" in source or "raise_" in source:
            assert "ErrorContext.current(" in source, path.name
    assert raised >= 3


def test_doubles_have_a_specification() -> None:
    """Every double of the example's tests that stands for something is made from a class."""
    for path in sorted((ROOT / EXAMPLE / "tests").rglob("*.py")):
        calls = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
        for call in (each for each in calls if ast.unparse(each.func) in {"AsyncMock", "Mock", "MagicMock"}):
            words = {keyword.arg for keyword in call.keywords}
            # A bare one is a function, such as `confirm_idempotency`: it has nothing but its being called.
            assert "spec" in words or not words - {"side_effect", "return_value"}, f"{path.name}: {ast.unparse(call)}"


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()
