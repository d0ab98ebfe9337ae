"""URLs of Redis: what is read from them, what is refused, and that no secret is told."""

import pytest

from huleedu_service_libs._redis_address import Topology, read_address


def test_a_single_server() -> None:
    """The URLs of today mean what they meant; TLS is in the scheme."""
    address = read_address("rediss://essays:hemlig@redis:6380/2?socket_keepalive=true")
    assert (address.topology, address.tls, address.url) == (
        Topology.SINGLE,
        True,
        "rediss://essays:hemlig@redis:6380/2?socket_keepalive=true",
    )
    assert read_address("unix:///run/redis.sock").topology is Topology.SINGLE


def test_sentinels() -> None:
    """Several hosts with the Sentinels' port as the default, the service, the database, and two kinds of credentials."""
    address = read_address("redis+sentinel://essays:hemlig@s1,s2:26380,[::1]/primary/3?sentinel_password=djup")
    assert address.topology is Topology.SENTINEL
    assert address.hosts == (("s1", 26379), ("s2", 26380), ("::1", 26379))
    assert (address.service, address.sentinel_username, address.sentinel_password) == ("primary", None, "djup")
    assert address.url.startswith("redis://essays:hemlig@")
    assert "/3" in address.url
    assert "hemlig" not in repr(address)
    assert "djup" not in repr(address)


def test_a_cluster() -> None:
    """The nodes to begin with; encrypted when the scheme says so."""
    address = read_address("rediss+cluster://n1:7000,n2")
    assert (address.topology, address.tls, address.hosts) == (Topology.CLUSTER, True, (("n1", 7000), ("n2", 6379)))


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("redis:6379", "must begin with"),
        ("http://:hemlig@redis", "must begin with"),
        ("redis+ring://:hemlig@redis", "there is no 'ring'"),
        ("redis+sentinel://:hemlig@s1,s2", "does not name the service"),
        ("redis+sentinel://:hemlig@s1:port/primary", "must name its hosts like redis+sentinel://"),
        ("redis+cluster://:hemlig@n1,/0", "must name its hosts like redis+cluster://"),
        ("redis+cluster://:hemlig@n1/2", "database 0 only, not '2'"),
        ("redis://:hem/lig@redis:6379", "percent-encode the password"),
        ("redis://:hem#lig@redis:6379", "percent-encode the password"),
    ],
)
def test_what_cannot_be_used_says_why(url: str, why: str) -> None:
    """The error names the problem and shows the URL without its password, not even a part of it."""
    with pytest.raises(ValueError, match="cannot be used") as caught:
        read_address(url)
    assert why in str(caught.value)
    for part in ("hemlig", "hem", "lig"):
        assert part not in str(caught.value).replace("redis+cluster://[user:password@]", "")
    assert caught.value.__cause__ is None
