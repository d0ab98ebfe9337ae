"""A Redis Cluster behind the same client: who has a key, and the connections to each node.

``keys`` says which keys a command has, ``slots`` who has them, ``executor`` sends each command to its node and follows
when slots move, ``connections`` does the same for transactions and waiting. Each node has its own `RedisConnections`
and executor. Above it nobody needs to know that there are several nodes.
"""

from huleedu_service_libs._redis_cluster.connections import open_redis
from huleedu_service_libs._redis_cluster.keys import CrossSlotError, NotOnClusterError

__all__ = ["CrossSlotError", "NotOnClusterError", "open_redis"]
