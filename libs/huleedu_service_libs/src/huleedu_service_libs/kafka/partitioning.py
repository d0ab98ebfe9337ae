"""Which partition a key goes to: Kafka's murmur2, as the Java clients and aiokafka have it.

Single and batched sends share it, so that a key has one partition whichever
way its messages take. Clients on librdkafka hash with CRC-32 by default and put
the same key elsewhere; set ``partitioner=murmur2_random`` there when both
write to one topic.
"""

import random
import struct
from collections.abc import Sequence
from functools import lru_cache

__all__ = ["murmur2", "partition_for"]

_MASK = 0xFFFFFFFF
_SEED = 0x9747B28C
_M = 0x5BD1E995
_R = 24
_WORD = 4


@lru_cache(maxsize=16_384)
def murmur2(data: bytes) -> int:
    """MurmurHash2 with Kafka's seed (``org.apache.kafka.common.utils.Utils.murmur2``), unsigned.

    Equal to ``aiokafka.partitioner.murmur2`` (a property test holds it), and faster, because it
    reads whole words: otherwise hashing would be a large part of what a batched message costs. Keys
    come again, hence the cache.
    """
    length = len(data)
    words = length // _WORD
    digest = _SEED ^ length
    for word in struct.unpack_from(f"<{words}I", data):
        mixed = (word * _M) & _MASK
        mixed = ((mixed ^ (mixed >> _R)) * _M) & _MASK
        digest = ((digest * _M) & _MASK) ^ mixed
    tail = data[words * _WORD :]
    if tail:
        digest = ((digest ^ int.from_bytes(tail, "little")) * _M) & _MASK
    digest = ((digest ^ (digest >> 13)) * _M) & _MASK
    return digest ^ (digest >> 15)


def partition_for(key: bytes | None, partitions: Sequence[int], available: Sequence[int]) -> int:
    """The partition of ``key``; a random one that has a leader when there is no key.

    Args:
        key: Encoded key.
        partitions: All partitions of the topic, ascending.
        available: Those that have a leader now.
    """
    if key is None:
        return random.choice(available or partitions)  # noqa: S311  # spreads load, keeps no secret
    return partitions[(murmur2(key) & 0x7FFFFFFF) % len(partitions)]
