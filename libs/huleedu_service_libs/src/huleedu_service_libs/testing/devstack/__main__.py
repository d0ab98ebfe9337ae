"""``make services``: start servers, say where they are, stop them on Ctrl-C.

Exit code 0 after Ctrl-C or SIGTERM, 1 with one line on standard error when a
server cannot be had, or has ended by itself.
"""

import argparse
import shlex
import signal
import sys
import time
from collections.abc import Sequence
from types import FrameType

from huleedu_service_libs.testing.devstack.addresses import ADDRESS_VARIABLES
from huleedu_service_libs.testing.devstack.errors import DevStackError
from huleedu_service_libs.testing.devstack.stack import DevStack

__all__ = ["main"]

_LOOK_S = 1.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        arguments: Command line; that of the process by default.

    Returns:
        The exit code.
    """
    options = _parse(arguments)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    try:
        with DevStack(options.services, kafka_nodes=options.kafka_nodes, progress=_say) as stack:
            _say(_summary(stack))
            while True:
                time.sleep(_LOOK_S)
                stack.check()
    except KeyboardInterrupt:
        _say("\nstopped")
    except (DevStackError, ValueError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m huleedu_service_libs.testing.devstack",
        description="Start real servers, print their addresses, stop them on Ctrl-C.",
    )
    parser.add_argument(
        "--services",
        type=lambda text: text.split(","),
        default=list(ADDRESS_VARIABLES),
        metavar="A,B",
        help=f"which of {','.join(ADDRESS_VARIABLES)} (default: all)",
    )
    parser.add_argument("--kafka-nodes", type=int, choices=(1, 3), default=1, help="brokers (default: %(default)s)")
    return parser.parse_args(arguments)


def _summary(stack: DevStack) -> str:
    rows = [
        (server.name, f"{server.kind.value}: {server.label}", server.address)
        for service in ADDRESS_VARIABLES
        if (server := stack.servers.get(service))
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(2)]
    table = [f"  {name:<{widths[0]}}  {what:<{widths[1]}}  {address}" for name, what, address in rows]
    exports = [f"export {ADDRESS_VARIABLES[name]}={shlex.quote(address)}" for name, _, address in rows]
    return "\n".join(["", *table, "", *exports, "", "Ctrl-C stops them."])


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    # Once is enough; a second one must not cut the stopping short.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
