"""How often a connection is tried to be made, and how long the pauses are. Without a server."""

import ssl

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from huleedu_service_libs._redis_patience import Patience


class _Door:
    """Opens at the given attempt."""

    def __init__(self, opens_at: int, error: Exception) -> None:
        self.knocks = 0
        self._opens_at = opens_at
        self._error = error

    async def knock(self) -> None:
        self.knocks += 1
        if self.knocks < self._opens_at:
            raise self._error


def _patience(pauses: list[float], *, attempts: int = 5, draw: float = 0.5) -> Patience:
    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    return Patience(attempts=attempts, first_delay_s=0.1, longest_delay_s=0.3, sleep=sleep, draw=lambda: draw)


async def test_pauses_double_up_to_the_cap_and_are_drawn() -> None:
    """A pause is a random share of the longest one, which doubles up to the cap."""
    pauses: list[float] = []
    door = _Door(5, OSError("refused"))
    await _patience(pauses).insist(door.knock)
    assert door.knocks == 5
    assert pauses == pytest.approx([0.05, 0.1, 0.15, 0.15])


@pytest.mark.parametrize("error", [OSError("refused"), TimeoutError("late"), RedisConnectionError("no primary")])
async def test_the_last_error_is_raised(error: Exception) -> None:
    """When no attempt succeeds the caller gets the error of the last."""
    door = _Door(9, error)
    with pytest.raises(type(error)) as caught:
        await _patience([], attempts=3).insist(door.knock)
    assert caught.value is error
    assert door.knocks == 3


@pytest.mark.parametrize("error", [ssl.SSLCertVerificationError("unknown authority"), ValueError("a mistake")])
async def test_what_will_not_change_is_tried_once(error: Exception) -> None:
    """A certificate that is not trusted is not trusted a moment later, either."""
    door = _Door(9, error)
    with pytest.raises(type(error)):
        await _patience([]).insist(door.knock)
    assert door.knocks == 1
