"""Claims of this process that it could not give back, because Redis was away.

The next delivery of such an event meets a claim that nobody works under; by the token it knows
the claim for one of its own process, and need not wait until it ages. An event that is tried again
and again during an outage may leave many tokens, of which Redis holds at most one: all are kept.
`claim` writes and reads; this knows keys and tokens only.
"""

from collections import OrderedDict

__all__ = ["forget", "leave", "left_under"]

_MOST_KEYS = 10_000  # the oldest is forgotten; its event waits for the claim to age, as after a crash
_MOST_TOKENS = 32  # of one key; those of the begin and of the end of an outage may have reached Redis, and stay

_left: "OrderedDict[str, list[str]]" = OrderedDict()


def leave(key: str, token: str) -> None:
    """The claim under ``key`` may still stand, and its work is over."""
    tokens = _left.setdefault(key, [])
    _left.move_to_end(key)
    if token not in tokens:
        tokens.append(token)
    if len(tokens) > _MOST_TOKENS:
        del tokens[_MOST_TOKENS // 2]
    while len(_left) > _MOST_KEYS:
        _left.popitem(last=False)


def left_under(key: str, stored: str) -> str | None:
    """The token of the claim ``stored`` under ``key``, if it is one that was left."""
    return next((token for token in _left.get(key, ()) if token in stored), None)


def forget(key: str) -> None:
    """Nothing of this process stands under ``key``, or what does is worked under."""
    _left.pop(key, None)
