"""What a command ends with: exit codes, and the error that carries one. Every group of commands uses it."""

from enum import IntEnum

__all__ = ["CliError", "ExitCode"]


class ExitCode(IntEnum):
    """Exit codes of ``huleedu``; scripts rely on them, so a number never changes its meaning."""

    OK = 0
    FAILED = 1  # it was tried, and did not work
    USAGE = 2  # the command line makes no sense
    UNREACHABLE = 3  # service, database or broker did not answer
    NOT_FOUND = 4  # no breaker, event or message of that name
    REFUSED = 5  # the other side does not allow it
    FINDINGS = 6  # a check worked, and found something
    MISSING_EXTRA = 7  # an optional dependency is not installed


class CliError(Exception):
    """Ends the program with one line on standard error.

    Args:
        text: What went wrong, with which value, and the likely fix.
        code: The exit code.
    """

    def __init__(self, text: str, code: ExitCode = ExitCode.FAILED) -> None:
        super().__init__(text)
        self.code = code
