"""How long to wait after failures in a row: exponential back-off, spread by chance. Pure.

Retries, relays, consumers and connections use it, each with bounds of its own. A wait is the exponential
value, of which a share is left to chance, so that those who failed together don't come back together: all of
it is the "full jitter", half of it the "equal jitter" of M. Brooker, "Exponential Backoff And Jitter", AWS
Architecture Blog, 2015.
"""

__all__ = ["EQUAL_JITTER", "FULL_JITTER", "grown", "spread"]

EQUAL_JITTER = 0.5
FULL_JITTER = 1.0


def grown(failures: int, *, first: float, longest: float, factor: float = 2.0) -> float:
    """``first`` after one failure, ``factor`` times as much after each further one, at most ``longest``.

    Whatever the number of failures: what no float can hold is ``longest``.
    """
    try:
        return min(longest, first * float(factor) ** (failures - 1))
    except OverflowError:
        return longest if first > 0 else 0.0


def spread(whole: float, chance: float, share: float = EQUAL_JITTER) -> float:
    """``whole`` with ``share`` of it left to ``chance``, a number in [0, 1): never more than the whole."""
    return whole * (1 - share + share * chance)
