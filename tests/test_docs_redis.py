"""The page on Redis is as true as the code: its snippets run, and its table is the code's."""

import re

import pytest

from huleedu_service_libs._redis_executor.commands import COMMANDS
from huleedu_service_libs.redis_client import RedisClient
from tests.snippets import DOCS, names_of

PAGE = DOCS / "concepts/redis.md"

WIRE = {
    "delete": "DEL",
    "delete_key": "DEL",
    "execute_script": "EVALSHA",
    "register_script": "SCRIPT LOAD",
    "scan_pattern": "SCAN",
    "server_info": "INFO",
    "setex": "SET",
}
INTERNAL = {"SET NX", "PTTL", "PUBLISH"}  # a section of its own, its helper, and what publish/subscribe sends


@pytest.mark.integration
async def test_the_snippets_run(redis_url: str, redis_prefix: str) -> None:
    """The first claims, writes and reads; the others move an amount and add."""
    names = names_of(PAGE)
    assert await names["work"](redis_url) == "marked"
    source, target = f"{redis_prefix}a", f"{redis_prefix}b"
    async with RedisClient(client_id="docs", redis_url=redis_url) as redis:
        assert await names["add"](redis, source, 10) == 10
        await names["pay"](redis, source, target, 4)
        assert (await redis.get(source), await redis.get(target)) == ("6", "4")


def test_the_table_of_repeated_commands_is_the_codes() -> None:
    """Each command stands in the column that the code has for it."""
    rows = re.search(r"\| sent again \|.*?\n\n", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert rows is not None
    cells = [line.split("|")[1:3] for line in rows[0].strip().splitlines()[2:]]
    for column, repeatable in enumerate((True, False)):
        methods = re.findall(r"`(\w+)`", " ".join(cell[column] for cell in cells))
        told = {WIRE.get(method, method.upper()) for method in methods}
        assert told == {each.name for each in COMMANDS if each.repeatable is repeatable} - INTERNAL
