"""The command line, ``huleedu``: looks at running services and mends what is stuck.

A package of rooms: ``main`` is the program, ``groups`` lists the groups of commands, ``output`` prints,
``errors`` names the exit codes. Each group is a module of its own that is imported when it is called,
so that a missing driver keeps only its own commands from working.
"""

import sys

from huleedu_service_libs._extras import MissingExtraError

__all__ = ["program"]


def program() -> int:
    """What the command ``huleedu`` calls: ``main``, or one line that names the extra to install, and code 7.

    Returns:
        The exit code.
    """
    try:
        from huleedu_service_libs.cli.main import main  # noqa: PLC0415  # what it needs may be missing
    except MissingExtraError as error:
        sys.stderr.write(f"huleedu: {error}\n")
        return 7  # ExitCode.MISSING_EXTRA
    return main()
