"""Ideas with one home are made nowhere else."""

import ast
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import huleedu_service_libs

SOURCE = Path(huleedu_service_libs.__file__).parent
MAKES_TASKS = frozenset({"create_task", "ensure_future", "Task", "TaskGroup", "run_coroutine_threadsafe"})
HOME_OF_TASKS = "_tasks.py"


def _name_of(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def _calls(text: str) -> Iterator[ast.Call]:
    return (node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call))


def _task_makers(text: str) -> list[str]:
    return [f"{call.lineno}: {_name_of(call)}" for call in _calls(text) if _name_of(call) in MAKES_TASKS]


def _findings(find: Callable[[str], list[str]], *, but: frozenset[str]) -> list[str]:
    return [
        f"{path.relative_to(SOURCE)}:{each}"
        for path in sorted(SOURCE.rglob("*.py"))
        if str(path.relative_to(SOURCE)) not in but
        for each in find(path.read_text(encoding="utf-8"))
    ]


def test_tasks_are_made_in_their_home() -> None:
    """Nothing but ``_tasks`` makes a task, so each has a name, is held, and its death is counted and logged."""
    assert _findings(_task_makers, but=frozenset({HOME_OF_TASKS})) == []


@pytest.mark.parametrize(
    "text",
    [
        "asyncio.create_task(work())",
        "loop.create_task(work())",
        "from asyncio import ensure_future\nensure_future(work())",
        "async def f():\n    async with asyncio.TaskGroup() as group: ...",
    ],
)
def test_a_task_made_elsewhere_is_found(text: str) -> None:
    """Every way to make a task is found, whoever it is asked of."""
    assert len(_task_makers(text)) == 1
