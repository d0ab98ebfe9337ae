"""What can go wrong with the servers.

::

    DevStackError
    ├── ServiceUnavailableError   no way to get the server on this machine
    ├── AddressError              a HULEEDU_TEST_... variable names no server
    ├── JavaMissingError          Apache Kafka cannot be run on this machine
    ├── ServerEndedError          a running server has ended or does not answer any more
    ├── ServerStartError          it ended while starting, or did not answer in time
    ├── CommandError              a helper program (initdb, Maven, ...) failed
    │   └── JarsError             Maven could not resolve Apache Kafka
    ├── NotOursError              asked to stop or start a server that somebody else runs
    ├── NotStartedError           asked for a server before the start
    └── WardenError               the process that holds the servers is gone
        └── RefusedError          it could not do what it was asked
"""

from pathlib import Path

__all__ = [
    "AddressError",
    "CommandError",
    "DevStackError",
    "JarsError",
    "JavaMissingError",
    "NotOursError",
    "NotStartedError",
    "RefusedError",
    "ServerEndedError",
    "ServerStartError",
    "ServiceUnavailableError",
    "WardenError",
    "log_tail",
]

_TAIL_LINES = 15


class DevStackError(Exception):
    """Root of everything that ``devstack`` raises itself."""


class ServiceUnavailableError(DevStackError):
    """No way to get the server on this machine; the text says what to install.

    Attributes:
        service: ``postgres``, ``redis`` or ``kafka``.
        reason: One line: what was looked for, what to install.
    """

    def __init__(self, service: str, reason: str) -> None:
        super().__init__(reason)
        self.service = service
        self.reason = reason


class AddressError(DevStackError):
    """A variable of the environment is malformed, or nothing answers where it points.

    Attributes:
        service: ``postgres``, ``redis`` or ``kafka``.
        reason: One line: the variable, its value without credentials, what to do.
    """

    def __init__(self, service: str, reason: str) -> None:
        super().__init__(reason)
        self.service = service
        self.reason = reason


class JavaMissingError(DevStackError):
    """Java or Maven is missing or too old; the text says which and is part of a sentence."""


class ServerEndedError(DevStackError):
    """A server that ran has ended, or does not answer any more.

    Attributes:
        server: Its name.
        address: Where it was, without credentials.
    """

    def __init__(self, server: str, address: str, what: str) -> None:
        super().__init__(f"{server} ({address}) {what}")
        self.server = server
        self.address = address


class ServerStartError(DevStackError):
    """A server ended while starting, or did not answer within its limit.

    Attributes:
        server: Its name.
        address: Where it should have answered.
        log: The last lines of its log file.
    """

    def __init__(self, server: str, address: str, problem: str, log: str) -> None:
        super().__init__(f"{server} on {address} {problem}; the end of its log:\n{log}")
        self.server = server
        self.address = address
        self.log = log


class CommandError(DevStackError):
    """A helper program failed or took too long.

    Attributes:
        program: Its name.
        problem: What happened (``ended with code 1``).
        log: The last lines that it wrote.
    """

    def __init__(self, program: str, problem: str, log: str) -> None:
        super().__init__(f"{program} {problem}; its last lines:\n{log}")
        self.program = program
        self.problem = problem
        self.log = log


class JarsError(CommandError):
    """Maven could not resolve Apache Kafka's jars; without network it cannot the first time."""


class NotOursError(DevStackError):
    """The server runs elsewhere: it can be used, but not stopped or started.

    Attributes:
        server: Its name.
        kind: Where it comes from.
    """

    def __init__(self, server: str, kind: str) -> None:
        super().__init__(
            f"{server} comes from {kind!r}: devstack did not start it and cannot stop or start it. "
            "Unset its HULEEDU_TEST_... variable to get one that it can.",
        )
        self.server = server
        self.kind = kind


class NotStartedError(DevStackError):
    """A server was asked for before it was started, or after the stop."""

    def __init__(self, service: str) -> None:
        super().__init__(f"{service} is not running: name it in DevStack(services=...) and call start() first")
        self.service = service


class WardenError(DevStackError):
    """The process that holds the servers is gone, because the stack was stopped or it was killed."""


class RefusedError(WardenError):
    """The process that holds the servers could not do what it was asked, such as start a missing program."""


def log_tail(log: Path) -> str:
    """Return the last lines of a log file.

    Args:
        log: The file; it may be missing.

    Returns:
        At most fifteen lines, indented.
    """
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    return "\n".join(f"  {line}" for line in lines[-_TAIL_LINES:]) or "  (empty)"
