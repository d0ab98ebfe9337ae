"""Ideas with one home are made nowhere else; what is unbounded says beside it what bounds it."""

import ast
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import huleedu_service_libs

SOURCE = Path(huleedu_service_libs.__file__).parent
MAKES_TASKS = frozenset({"create_task", "ensure_future", "Task", "TaskGroup", "run_coroutine_threadsafe"})
HOME_OF_TASKS = "_tasks.py"
QUEUES = {
    "deque": "maxlen",
    "Queue": "maxsize",
    "LifoQueue": "maxsize",
    "PriorityQueue": "maxsize",
    "SimpleQueue": "no size",
}
BOUND, NO_LIMIT = "bound: ", "no limit: "
"""How a comment begins, on the line or above it, that says what bounds a queue, or why a wait needs no limit."""


def _name_of(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def _has(call: ast.Call, argument: str) -> bool:
    return any(keyword.arg == argument for keyword in call.keywords)


def _findings(find: Callable[[str], list[str]], *, but: frozenset[str] = frozenset()) -> list[str]:
    return [
        f"{path.relative_to(SOURCE)}:{each}"
        for path in sorted(SOURCE.rglob("*.py"))
        if str(path.relative_to(SOURCE)) not in but
        for each in find(path.read_text(encoding="utf-8"))
    ]


def _says(lines: list[str], node: ast.AST, why: str) -> bool:
    number = getattr(node, "lineno", 1)
    beside, above = lines[number - 1], lines[number - 2].strip() if number > 1 else ""
    return why in beside.partition("#")[2] or (above.startswith("#") and why in above)


# --- tasks


def _task_makers(text: str) -> list[str]:
    calls = (node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call))
    return [f"{call.lineno}: {_name_of(call)}" for call in calls if _name_of(call) in MAKES_TASKS]


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


# --- queues


def _makes_a_queue(node: ast.AST) -> bool:
    """Whether it declares a queue without a size; one that is refilled elsewhere has been declared before."""
    if isinstance(node, ast.AnnAssign):
        kinds = {each.id for each in ast.walk(node.annotation) if isinstance(each, ast.Name)}
        kinds |= {each.attr for each in ast.walk(node.annotation) if isinstance(each, ast.Attribute)}
        sized = isinstance(node.value, ast.Call) and _has(node.value, QUEUES.get(_name_of(node.value), ""))
        return bool(kinds & QUEUES.keys()) and node.value is not None and not sized
    name = _name_of(node) if isinstance(node, ast.Call) else ""
    return name in QUEUES.keys() - {"deque"} and isinstance(node, ast.Call) and not _has(node, QUEUES[name])


def _unbounded(text: str) -> list[str]:
    lines = text.splitlines()
    nodes = [node for node in ast.walk(ast.parse(text)) if _makes_a_queue(node) and not _says(lines, node, BOUND)]
    return sorted({f"{getattr(node, 'lineno', 0)}: {lines[getattr(node, 'lineno', 1) - 1].strip()}" for node in nodes})


def test_every_queue_has_a_bound() -> None:
    """A queue has a size, or a comment beside it says what else bounds it."""
    assert _findings(_unbounded) == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("waiting: deque[int] = deque()", 1),
        ("waiting: deque[int] = deque(maxlen=5)", 0),
        ("by_key: dict[str, deque[int]] = {}", 1),
        ("waiting: deque[int] = deque()  # bound: callers", 0),
        ("# Those in line. bound: callers\nwaiting: deque[int] = deque()", 0),
        ("waiting: deque[int] = deque()  # those in line", 1),
        ("work = asyncio.Queue()", 1),
        ("work = asyncio.Queue(maxsize=9)", 0),
        ("work: asyncio.Queue[int] = asyncio.Queue()", 1),
    ],
)
def test_a_queue_without_a_bound_is_found(text: str, found: int) -> None:
    """Declared in whatever form, it is found, unless it has a size or a reason."""
    assert len(_unbounded(text)) == found


# --- waits


def _waits(tree: ast.AST, *, limited: bool = False) -> Iterator[ast.Call]:
    """Calls that may wait for ever: ``x.wait()``, and ``asyncio.wait(…)`` without a time-out, outside of any limit."""
    if isinstance(tree, ast.AsyncWith):
        limited = limited or any("timeout" in ast.unparse(each.context_expr) for each in tree.items)
    elif isinstance(tree, ast.FunctionDef | ast.AsyncFunctionDef):
        limited = False
    if isinstance(tree, ast.Call) and _name_of(tree) == "wait" and not limited and not _has(tree, "timeout"):
        whose = ast.unparse(tree.func)
        if whose == "asyncio.wait" or not tree.args:
            yield tree
    for child in ast.iter_child_nodes(tree):
        yield from _waits(child, limited=limited)


def _endless(text: str) -> list[str]:
    lines = text.splitlines()
    return [
        f"{call.lineno}: {lines[call.lineno - 1].strip()}"
        for call in _waits(ast.parse(text))
        if not _says(lines, call, NO_LIMIT)
    ]


def test_every_wait_has_a_limit() -> None:
    """A wait for something to happen has a time limit, or a comment beside it says why it needs none."""
    assert _findings(_endless) == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("async def f():\n    await event.wait()", 1),
        ("async def f():\n    await event.wait()  # no limit: as long as the process", 0),
        ("async def f():\n    async with asyncio.timeout(3):\n        await event.wait()", 0),
        (
            "async def f():\n    async with asyncio.timeout(3):\n        async def g():\n            await event.wait()",
            1,
        ),
        ("async def f():\n    async with lock:\n        await condition.wait()", 1),
        ("async def f():\n    await asyncio.wait({task})", 1),
        ("async def f():\n    await asyncio.wait({task}, timeout=3)", 0),
        ("async def f():\n    await self._wake.wait(pause)", 0),
    ],
)
def test_a_wait_without_a_limit_is_found(text: str, found: int) -> None:
    """A time limit counts where it surrounds the wait in the same function."""
    assert len(_endless(text)) == found
