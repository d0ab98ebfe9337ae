"""How long topics keep their events, asked from the broker. For start-up checks.

Callable as what ``idempotency_v2.window.check_dedupe_window`` asks. Opens a
connection for each call and keeps none.
"""

import asyncio
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from huleedu_service_libs._extras import requires_extra

with requires_extra("kafka", module=__name__):
    from aiokafka.admin import AIOKafkaAdminClient
    from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
    from aiokafka.errors import for_code

__all__ = ["TopicRetention"]

_WANTED = ("retention.ms", "cleanup.policy")


class TopicRetention:
    """Asks a cluster.

    Args:
        bootstrap_servers: ``host:port``, comma-separated.
        timeout_s: Seconds for the whole answer.
        client_options: Further arguments of `aiokafka.admin.AIOKafkaAdminClient`, such as those for TLS and SASL.
    """

    def __init__(
        self, bootstrap_servers: str, *, timeout_s: float = 10.0, client_options: Mapping[str, Any] | None = None
    ) -> None:
        self._bootstrap_servers = bootstrap_servers
        self._timeout_s = timeout_s
        self._client_options = dict(client_options or {})

    async def __call__(self, topics: Sequence[str]) -> dict[str, float]:
        """Seconds for which each topic keeps its events; infinity when it deletes none by age.

        Raises:
            aiokafka.errors.KafkaError: No connection, no such topic, or no permission.
            TimeoutError: No answer in time.
        """
        if not topics:
            return {}
        admin = AIOKafkaAdminClient(bootstrap_servers=self._bootstrap_servers, **self._client_options)
        async with asyncio.timeout(self._timeout_s):
            try:
                await admin.start()
                resources = [
                    ConfigResource(ConfigResourceType.TOPIC, topic, dict.fromkeys(_WANTED)) for topic in topics
                ]
                responses = await admin.describe_configs(resources)
            finally:
                await admin.close()
        return dict(_retention(resource) for response in responses for resource in response.resources)


def _retention(resource: Any) -> tuple[str, float]:
    error_code, error_message, _, topic, entries, *_ = resource
    if error_code:
        raise for_code(error_code)(f"topic {topic!r}: {error_message or 'its settings cannot be read'}")
    return topic, _seconds(_values(entries))


def _values(entries: Iterable[Any]) -> dict[str, str]:
    return {entry[0]: entry[1] or "" for entry in entries}


def _seconds(values: Mapping[str, str]) -> float:
    milliseconds = values.get("retention.ms", "-1")
    if "delete" not in values.get("cleanup.policy", "delete") or int(milliseconds) < 0:
        return math.inf
    return int(milliseconds) / 1000
