"""Dishka providers of the Redis and Kafka clients: they start with the container and stop with it.

A service puts them beside its own providers and binds nothing twice::

    container = make_async_container(RedisProvider(settings), KafkaProvider(settings), ServiceProvider())

Names are handed on lazily: a service without Kafka needs no Kafka driver, nor one without Redis that of Redis.
"""

from typing import TYPE_CHECKING

from huleedu_service_libs._extras import check_extra
from huleedu_service_libs._lazy import lazy_exports

if TYPE_CHECKING:
    from huleedu_service_libs.di.kafka import KafkaProvider, KafkaSettings
    from huleedu_service_libs.di.redis import RedisProvider, RedisSettings

check_extra("di", package="dishka", module=__name__)

__all__ = ["KafkaProvider", "KafkaSettings", "RedisProvider", "RedisSettings"]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "KafkaProvider": "huleedu_service_libs.di.kafka",
        "KafkaSettings": "huleedu_service_libs.di.kafka",
        "RedisProvider": "huleedu_service_libs.di.redis",
        "RedisSettings": "huleedu_service_libs.di.redis",
    },
)
