"""Owner tokens of claims: no two claims of any process have the same, and none contains another."""

import itertools
import os
from uuid import uuid4

__all__ = ["new_token"]


class _Tokens:
    """A part that is this process' own, and a number: cheaper than a random id for each claim."""

    def __init__(self) -> None:
        self._of_process = ""
        self._numbers = itertools.count()
        self.renew()
        os.register_at_fork(after_in_child=self.renew)

    def renew(self) -> None:
        """A forked child is another process."""
        self._of_process = uuid4().hex[:24]

    def __call__(self) -> str:
        return f"{self._of_process}{next(self._numbers):012x}"


_tokens = _Tokens()


def new_token() -> str:
    """A token, 36 hex digits."""
    return _tokens()
