"""Settings of the Redis clients: defaults, the environment, credentials and TLS. Without a server."""

from pathlib import Path

import pytest
from redis.asyncio import ConnectionPool

from huleedu_service_libs.queue_redis_client import QueueRedisClient
from huleedu_service_libs.redis_access import RedisAccess, RedisTls
from huleedu_service_libs.redis_client import RedisClient, RedisClientConfig


def test_the_defaults_are_these() -> None:
    """What nobody sets holds for every service: a change of it is a decision."""
    config = RedisClientConfig()
    assert (config.max_connections, config.pool_wait_s) == (64, 20.0)
    assert (config.connect_timeout_s, config.socket_timeout_s) == (5.0, 5.0)
    assert (config.start_timeout_s, config.stop_timeout_s) == (10.0, 5.0)
    assert (config.blocking_slice_s, config.health_interval_s) == (20.0, 30.0)
    assert (config.connect_attempts, config.connect_first_delay_s, config.connect_longest_delay_s) == (3, 0.05, 1.0)
    assert config.access == RedisAccess()


def test_the_driver_gets_the_settings() -> None:
    """Time-outs, limits and credentials reach the pools; credentials given apart win over the URL's."""
    config = RedisClientConfig(
        connect_timeout_s=1, socket_timeout_s=2, blocking_slice_s=3, health_interval_s=4, max_connections=5,
        access=RedisAccess(username="essays", password="ny"),
    )  # fmt: skip
    client = RedisClient(client_id="c", redis_url="redis://old:gammal@redis/2", config=config)
    plain, blocking = client._connections.commands.connection_pool, client._connections.blocking.connection_pool
    given = plain.connection_kwargs
    assert plain.max_connections == 5
    assert (given["socket_connect_timeout"], given["socket_timeout"], given["health_check_interval"]) == (1, 2, 4)
    assert (given["username"], given["password"], given["db"]) == ("essays", "ny", 2)
    assert blocking.connection_kwargs["socket_timeout"] == 5


def test_the_environment_sets_every_number(tmp_path: Path) -> None:
    """Each field by its name, a password from a mounted file, and the rest keeps its default."""
    secret = tmp_path / "password"
    secret.write_text("hemlig\n")
    config = RedisClientConfig.from_environment(
        {
            "REDIS_MAX_CONNECTIONS": "7",
            "REDIS_SOCKET_TIMEOUT_S": "1.5",
            "REDIS_CONNECT_ATTEMPTS": "",
            "REDIS_USERNAME": "essays",
            "REDIS_PASSWORD_FILE": str(secret),
            "REDIS_TLS_CA_FILE": str(secret),
            "REDIS_TLS_CHECK_HOSTNAME": "false",
            "REDIS_PORT": "tcp://10.0.0.1:6379",
        }
    )
    assert (config.max_connections, config.socket_timeout_s, config.connect_attempts) == (7, 1.5, 3)
    assert (config.access.username, config.access.password) == ("essays", "hemlig")
    assert config.access.tls == RedisTls(ca_file=str(secret), check_hostname=False)
    assert RedisClientConfig.from_environment({}) == RedisClientConfig()


@pytest.mark.parametrize(
    ("variables", "why"),
    [
        ({"REDIS_MAX_CONNECTIONS": "7.5"}, "REDIS_MAX_CONNECTIONS is '7.5': write a whole number"),
        ({"REDIS_SOCKET_TIMEOUT_S": "soon"}, "REDIS_SOCKET_TIMEOUT_S is 'soon': write a number"),
        ({"REDIS_SOCKET_TIMEOUT_S": "-1"}, "socket_timeout_s must be positive"),
        ({"REDIS_USERNAME": "essays"}, "username 'essays' has no password"),
        ({"REDIS_PASSWORD_FILE": "/none/here"}, "REDIS_PASSWORD_FILE '/none/here' cannot be read: No such file"),
        ({"REDIS_TLS_CA_FILE": "/none/ca.pem"}, "ca_file '/none/ca.pem' is no file"),
        ({"REDIS_TLS_KEY_FILE": "/none/key"}, "has no certificate"),
        ({"REDIS_TLS_CHECK_HOSTNAME": "maybe"}, "REDIS_TLS_CHECK_HOSTNAME is 'maybe': write true or false"),
    ],
)
def test_a_variable_that_cannot_be_used_is_named(variables: dict[str, str], why: str) -> None:
    """The error says which variable or setting, its value, and what to write."""
    with pytest.raises(ValueError, match=r"\S") as caught:
        RedisClientConfig.from_environment(variables)
    assert why in str(caught.value)


def test_tls_without_a_tls_url_is_refused() -> None:
    """Certificates for a connection in clear text are a mistake that would go unnoticed."""
    config = RedisClientConfig(access=RedisAccess(tls=RedisTls()))
    with pytest.raises(ValueError, match=r"'redis://redis': write rediss instead of redis"):
        RedisClient(client_id="c", redis_url="redis://redis", config=config)


@pytest.mark.parametrize("kind", [RedisClient, QueueRedisClient])
@pytest.mark.parametrize(
    "url",
    [
        "redis://essays:hemlig@redis:6379",
        "redis+sentinel://essays:hemlig@s1,s2/primary?sentinel_password=hemlig",
        "rediss://redis?ssl_password=hemlig&password=hemlig",
    ],
)
def test_no_secret_is_in_a_repr(kind: type[RedisClient | QueueRedisClient], url: str) -> None:
    """Neither the client's, nor its settings', nor that of the driver's pools."""
    config = RedisClientConfig(access=RedisAccess(password="hemlig", sentinel_password="hemlig"))
    client = kind(client_id="c", redis_url=url, config=config)
    pool = client.client.connection_pool
    assert isinstance(pool, ConnectionPool)
    for shown in (repr(client), repr(config), repr(client.client), repr(pool)):
        assert "hemlig" not in shown
