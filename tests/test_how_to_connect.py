"""The page on connecting to Redis is as true as the code: its snippets run, and its defaults are the code's."""

import re
from dataclasses import fields
from typing import Any

import pytest

from huleedu_service_libs.redis_client import RedisClient, RedisClientConfig
from huleedu_service_libs.testing.devstack import RedisNodesServer, RedisTlsServer
from tests.snippets import DOCS, names_of

PAGE = DOCS / "how-to/connect-to-redis.md"


@pytest.mark.integration
async def test_the_snippets_run(redis_url: str, redis_sentinel: RedisNodesServer) -> None:
    """The first connects to whatever the URL names; the last works in memory."""
    names = names_of(PAGE)
    assert await names["connect"](redis_url) is True
    assert await names["connect"](redis_sentinel.address) is True
    assert await names["in_memory"]() == [True, False, False]


@pytest.mark.integration
async def test_keys_go_together(redis_cluster: RedisNodesServer, unique_name: str) -> None:
    """The snippet on clusters runs its transaction, and the other keys are refused."""
    async with RedisClient(client_id="docs", redis_url=redis_cluster.address) as redis:
        assert await names_of(PAGE)["together"](redis, unique_name) is True


@pytest.mark.integration
def test_certificates_are_files_in_a_folder(redis_tls: RedisTlsServer) -> None:
    """The snippet on TLS takes files as they are mounted."""
    config: RedisClientConfig = names_of(PAGE)["secured"](redis_tls.certificates.authority.parent)
    assert config.access.tls is not None
    assert "…" not in repr(config)


def test_the_defaults_are_the_codes() -> None:
    """Each setting in the table of patience has the default that the code has."""
    defaults = {each.name: each.default for each in fields(RedisClientConfig)}
    page = PAGE.read_text(encoding="utf-8")
    section = page[page.index("## Patience") : page.index("## Sentinel")]
    told: dict[str, Any] = {}
    for names, values in re.findall(r"^\| (`[^|]*) \| ([\d., ]+) \|", section, flags=re.MULTILINE):
        told |= dict(zip(re.findall(r"`(\w+)`", names), map(float, values.split(",")), strict=True))
    assert len(told) == 11
    assert told == {name: defaults[name] for name in told}
