"""Pings Redis over a connection made for the question."""

import asyncio
import dataclasses

from huleedu_service_libs._redaction import error_text
from huleedu_service_libs._redis_cluster import open_redis
from huleedu_service_libs._redis_config import RedisClientConfig
from huleedu_service_libs.health.findings import ComponentDownError, Finding, Impact, Probe
from huleedu_service_libs.redis_client import RedisClient

__all__ = ["redis_probe"]

_TIMEOUT_S = 3.0


def redis_probe(
    redis: RedisClient | str, *, name: str = "redis", impact: Impact = Impact.DEGRADES, interval_s: float = 5.0
) -> Probe:
    """The server of ``redis``.

    Args:
        redis: A client, for its address and access; or the address.
        name: Of the component.
        impact: What its failure means.
        interval_s: Seconds between looks.
    """
    url, usual = (redis, RedisClientConfig()) if isinstance(redis, str) else (redis.redis_url, redis.config)
    patience = dataclasses.replace(  # credentials, TLS and Sentinels stay the client's
        usual, max_connections=1, connect_timeout_s=_TIMEOUT_S, socket_timeout_s=_TIMEOUT_S, stop_timeout_s=1.0
    )

    async def look() -> Finding:
        connections, _ = open_redis(url, patience)  # one server, Sentinels or a cluster
        began = asyncio.get_running_loop().time()
        try:
            await connections.commands.ping()
        except Exception as error:
            raise ComponentDownError(f"Redis does not answer: {error_text(error)}") from error
        finally:
            await connections.aclose()
        return Finding(details={"response_time_seconds": round(asyncio.get_running_loop().time() - began, 6)})

    return Probe(name=name, look=look, impact=impact, kind="datastore", interval_s=interval_s, timeout_s=_TIMEOUT_S)
