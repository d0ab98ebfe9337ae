"""Transactions, waiting and subscriptions on a cluster, and the driver's own client of it.

`open_redis` makes the parts that a `RedisClient` or `QueueRedisClient` uses in place of those for one server.
"""

import asyncio
from collections.abc import Sequence
from typing import Any, cast

from huleedu_service_libs._clock import Clock, monotonic
from huleedu_service_libs._extras import requires_extra
from huleedu_service_libs._redis_address import RedisAddress, Topology, read_address
from huleedu_service_libs._redis_cluster.executor import ClusterExecutor
from huleedu_service_libs._redis_cluster.keys import NotOnClusterError, keys_of, shared_slot
from huleedu_service_libs._redis_cluster.nodes import Node, Nodes
from huleedu_service_libs._redis_config import RedisClientConfig
from huleedu_service_libs._redis_connections import RedisConnections
from huleedu_service_libs._redis_executor import Executor
from huleedu_service_libs._redis_executor.reports import NO_LISTENER, ExecutorListener
from huleedu_service_libs._redis_executor.spans import CommandSpans

with requires_extra("redis", module=__name__):
    from redis.asyncio import ConnectionPool, Redis, RedisCluster
    from redis.asyncio.cluster import ClusterNode
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff
    from redis.exceptions import MovedError

__all__ = ["Transactions", "open_redis"]


class ClusterClient(RedisCluster):
    """The driver's client; callers beyond its connections queue instead of failing, and nothing is repeated.

    Args:
        limit: Commands under way at the same time.
        settings: The driver's.
    """

    def __init__(self, *, limit: int, **settings: Any) -> None:
        super().__init__(max_connections=limit, retry=Retry(NoBackoff(), 0), **settings)
        self._turn = asyncio.Semaphore(limit)

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        """See the driver. Raises `CrossSlotError` before anything is sent."""
        shared_slot(keys_of(args))
        async with self._turn:
            return await super().execute_command(*args, **options)

    def pipeline(self, transaction: Any = None, shard_hint: Any = None) -> Any:
        """See the driver, whose transactions here start a thread and an event loop for every command.

        Raises:
            NotOnClusterError: A transaction was asked for.
        """
        if transaction:
            raise NotOnClusterError(
                "pipeline(transaction=True) of the raw client",
                "use create_transaction_pipeline() or watch() of RedisClient",
            )
        return super().pipeline(transaction, shard_hint)


class Transactions(Redis):
    """What a `TransactionPipeline` is made from: it tells which node's pool a transaction with these keys needs.

    Args:
        nodes: The nodes.
        pool: Of any node; for what the driver wants to know of a client.
    """

    def __init__(self, nodes: Nodes, pool: ConnectionPool) -> None:
        super().__init__(connection_pool=pool)
        self._nodes = nodes

    def keys_of(self, words: Sequence[Any]) -> tuple[str, ...]:
        """The keys of a command."""
        return keys_of(words)

    def check(self, keys: Sequence[str]) -> None:
        """Raise `CrossSlotError` when they do not share a slot."""
        shared_slot(keys)

    async def pool_for(self, keys: Sequence[str]) -> ConnectionPool:
        """The pool of the node that has the keys.

        Raises:
            CrossSlotError: They do not share a slot.
            ClusterDownError: Nobody has that slot.
        """
        node = await self._nodes.owner(shared_slot(keys))
        return node.connections.transactions.connection_pool

    def doubt(self) -> None:
        """Ask who has what before the next transaction."""
        self._nodes.doubt()


class ClusterConnections:
    """In place of `RedisConnections`.

    Args:
        nodes: The nodes.
        redis_url: Of the cluster.
        address: The same, read.
        config: Sizes and time-outs.

    Attributes:
        commands: The driver's client.
        transactions: For `TransactionPipeline`.
        subscriptions: A client of whichever node answers first: messages reach all of them.
    """

    def __init__(self, nodes: Nodes, redis_url: str, address: RedisAddress, config: RedisClientConfig) -> None:
        self._nodes = nodes
        self._redis_url = redis_url
        self._address = address
        self._config = config
        self._anywhere = RedisConnections(redis_url, config)
        self.subscriptions = self._anywhere.subscriptions
        self.transactions = Transactions(nodes, self._anywhere.transactions.connection_pool)
        self.commands = self._make_client()

    def spans(self) -> CommandSpans:
        """What makes spans of commands; they name the first node of the URL."""
        return CommandSpans(*self._address.hosts[0], 0, enabled=self._config.spans)

    def forget(self) -> None:
        """Drop all connections unclosed, and begin anew: their event loop is closed."""
        self._anywhere.forget()
        self._nodes.forget()

    async def first_item(self, keys: list[str], timeout_s: float) -> tuple[str, str] | None:
        """Wait for an item at the head of one of several lists, which must share a slot.

        Raises:
            CrossSlotError: They do not.
        """
        slot = shared_slot(keys)
        try:
            return await (await self._nodes.owner(slot)).connections.first_item(keys, timeout_s)
        except MovedError as error:  # nothing was taken there
            self._nodes.moved(error.slot_id, (error.host, error.port))
            return await (await self._nodes.owner(slot)).connections.first_item(keys, timeout_s)

    async def aclose(self) -> None:
        """Close every connection to every node, whatever happens.

        Raises:
            Exception: The first error that there was.
        """
        parts: list[Any] = [self._anywhere, *(node.connections for node in self._nodes.all()), self.commands]
        outcomes = await asyncio.gather(*(part.aclose() for part in parts), return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome

    def _make_client(self) -> ClusterClient:
        config = self._config
        return ClusterClient(
            limit=config.max_connections,
            startup_nodes=[ClusterNode(host, port) for host, port in self._address.hosts],
            decode_responses=True,
            socket_connect_timeout=config.connect_timeout_s,
            socket_timeout=config.socket_timeout_s,
            health_check_interval=config.health_interval_s,
            **config.endpoint(self._redis_url).cluster_settings(),
        )


def open_redis(
    redis_url: str,
    config: RedisClientConfig,
    clock: Clock = monotonic,
    listener: ExecutorListener = NO_LISTENER,
) -> tuple[RedisConnections, Executor]:
    """What a client of the server or cluster that a URL names is made of; opens nothing.

    Those of a cluster are other classes with the same methods, as far as clients call them.

    Args:
        redis_url: Where.
        config: Sizes and time-outs, for each node.
        clock: Monotonic seconds.
        listener: Is told what happens to commands, at every node.

    Raises:
        ValueError: The URL cannot be read, or does not fit the configuration.
    """
    address = read_address(redis_url)
    if address.topology is not Topology.CLUSTER:
        node = _open_server(redis_url, config, clock, listener)
        return node.connections, node.executor
    nodes = Nodes(address.hosts, lambda place: _open_server(address.of_node(place), config, clock, listener))
    connections = ClusterConnections(nodes, redis_url, address, config)
    return cast("RedisConnections", connections), cast("Executor", ClusterExecutor(nodes))


def _open_server(redis_url: str, config: RedisClientConfig, clock: Clock, listener: ExecutorListener) -> Node:
    connections = RedisConnections(redis_url, config, clock=clock)
    executor = Executor(
        connections.open_for_pipelining,
        config.pipelining,
        reply_limit_s=config.socket_timeout_s,
        wait_limit_s=config.pool_wait_s,
        keep_alive_s=config.health_interval_s,
        listener=listener,
    )
    return Node(connections, executor)
