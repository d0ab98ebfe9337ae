"""Claims of this process that it could not give back, because Redis was away.

The next delivery of such an event meets a claim that nobody works under; by the token it knows
the claim for one of its own process, and need not wait until it ages. `claim` writes and reads;
this knows keys and tokens only.
"""

from collections import OrderedDict

__all__ = ["leave", "take_left"]

_MOST = 10_000  # the oldest is forgotten; its event waits for the claim to age, as after a crash

_left: "OrderedDict[str, str]" = OrderedDict()


def leave(key: str, token: str) -> None:
    """The claim under ``key`` may still stand, and its work is over."""
    _left[key] = token
    _left.move_to_end(key)
    while len(_left) > _MOST:
        _left.popitem(last=False)


def take_left(key: str) -> str | None:
    """The token of the claim that was left under ``key``, once."""
    return _left.pop(key, None)
