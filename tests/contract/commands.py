"""Commands of the Redis clients with arguments to call them with, as sections 3.1 and 3.4 name them. The library's own tests read them, too."""

from typing import Any

__all__ = ["OF_THE_CLIENT", "OF_THE_QUEUE"]

OF_THE_CLIENT: list[tuple[str, tuple[Any, ...]]] = [
    ("delete_key", ("k",)),
    ("delete", ("k",)),
    ("create_transaction_pipeline", ()),
    ("sadd", ("k", "m")),
    ("srem", ("k", "m")),
    ("scard", ("k",)),
    ("spop", ("k",)),
    ("smembers", ("k",)),
    ("zadd", ("k", {"m": 1.0})),
    ("zrem", ("k", "m")),
    ("hset", ("k", "f", "v")),
    ("hget", ("k", "f")),
    ("hlen", ("k",)),
    ("hgetall", ("k",)),
    ("hexists", ("k", "f")),
    ("expire", ("k", 1)),
    ("rpush", ("k", "v")),
    ("lpush", ("k", "v")),
    ("llen", ("k",)),
    ("lrange", ("k", 0, -1)),
    ("blpop", (["k"], 0.1)),
    ("ttl", ("k",)),
    ("exists", ("k",)),
    ("register_script", ("return 1",)),
    ("execute_script", ("sha", [], [])),
]
OF_THE_QUEUE: list[tuple[str, tuple[Any, ...]]] = [
    ("zadd", ("k", {"m": 1.0})),
    ("zrem", ("k", "m")),
    ("zcard", ("k",)),
    ("zrange", ("k", 0, -1)),
    ("get_queue_items", ("k", 1)),
    ("get_queue_items_with_priorities", ("k", 1)),
    ("hset", ("k", "f", "v")),
    ("hget", ("k", "f")),
    ("hmget", ("k", "f")),
    ("hdel", ("k", "f")),
    ("hexists", ("k", "f")),
    ("hkeys", ("k",)),
    ("hgetall", ("k",)),
    ("exists", ("k",)),
    ("delete", ("k",)),
    ("setex", ("k", 1, "v")),
    ("pipeline", ()),
]
