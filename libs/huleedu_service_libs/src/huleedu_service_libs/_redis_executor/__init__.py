"""Commands of many tasks over one connection to Redis, many of them in one round trip.

`RedisClient` sends everything through it that Redis answers at once. ``commands`` says what each command is
and whether it may be repeated, ``line`` is one connection, ``executor`` queues, batches, reconnects and repeats,
``reports`` tells what happened. Knows no keys and no values, and opens no connection by itself: it is given one.
"""

from huleedu_service_libs._redis_executor import commands
from huleedu_service_libs._redis_executor.commands import Command
from huleedu_service_libs._redis_executor.config import PipeliningConfig
from huleedu_service_libs._redis_executor.errors import RedisOverloadedError, ReplyLateError, ReplyLostError
from huleedu_service_libs._redis_executor.executor import Executor
from huleedu_service_libs._redis_executor.line import Opened

__all__ = [
    "Command",
    "Executor",
    "Opened",
    "PipeliningConfig",
    "RedisOverloadedError",
    "ReplyLateError",
    "ReplyLostError",
    "commands",
]
