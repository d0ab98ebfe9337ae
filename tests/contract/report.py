"""Lines that the tests of the contract leave for the end of the run. Knows nothing about what they say."""

__all__ = ["REPORT"]

REPORT: set[str] = set()
