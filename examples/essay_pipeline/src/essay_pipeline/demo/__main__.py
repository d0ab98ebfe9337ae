"""``python -m essay_pipeline.demo``: the whole pipeline on real servers, verified.

Exit codes: 0 all promises hold; 1 one is broken; 2 wrong arguments; 3 servers or
services did not come up, or one ended; 130 interrupted.
"""

import argparse
import asyncio
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from types import FrameType

import asyncpg
import httpx
from aiokafka.errors import KafkaError
from redis.exceptions import RedisError
from websockets.exceptions import WebSocketException

from essay_pipeline.demo.display import Display, make_display
from essay_pipeline.demo.driver import Driver, Plan
from essay_pipeline.demo.oracle import find_faults
from essay_pipeline.demo.processes import PipelineProcesses, Servers
from essay_pipeline.demo.service import ServiceFailedError
from essay_pipeline.demo.summary import counted, summary_lines
from huleedu_service_libs.logging_utils import configure_service_logging
from huleedu_service_libs.testing.devstack import DevStack, DevStackError

__all__ = ["main"]

BROKEN_PROMISE = 1
CANNOT_RUN = 3
INTERRUPTED = 130

_LOOK_S = 0.2
_END_S = 1.0
_TROUBLE = (
    httpx.HTTPError,
    OSError,
    WebSocketException,
    KafkaError,
    RedisError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo.

    Args:
        arguments: Instead of the command line's.

    Returns:
        The exit code.
    """
    options = _parser().parse_args(arguments)
    plan = Plan(
        essays=options.essays,
        users=min(options.users, options.essays),
        rollbacks=max(1, options.essays // 10),
        replays=max(1, options.essays // 10),
    )
    configure_service_logging("demo", "development", "ERROR")
    signal.signal(signal.SIGTERM, _leave)
    try:
        return _run(plan, keep_open=options.web)
    except KeyboardInterrupt:
        print("\ninterrupted; everything was stopped", file=sys.stderr)
        return INTERRUPTED
    except (DevStackError, ServiceFailedError) as error:
        print("", *_last_words(error), sep="\n", file=sys.stderr)
        return CANNOT_RUN


def _run(plan: Plan, *, keep_open: bool) -> int:
    display = make_display()
    stack = DevStack(progress=display.line)
    with stack:
        servers = Servers(postgres=stack.postgres, redis=stack.redis, kafka=stack.kafka)
        display.line("services: starting intake, spellcheck and notify")
        with PipelineProcesses(servers=servers, progress=display.line) as pipeline:
            code = _judge(pipeline, plan, display)
            if keep_open and code == 0:
                _keep_open(pipeline)
            display.line("stopping services and servers")
    return code


def _judge(pipeline: PipelineProcesses, plan: Plan, display: Display) -> int:
    display.line(
        f"sending {counted(plan.essays, 'essay')} of {counted(plan.users, 'user')}, {plan.rollbacks} more to be "
        "rolled back, and duplicates of delivered messages"
    )
    try:
        with display:
            outcome = asyncio.run(Driver(pipeline, plan, display).run())
    except BaseExceptionGroup as errors:
        reason = _reason(errors, pipeline)
        if reason is errors:
            raise
        raise reason from errors
    faults = find_faults(outcome.evidence)
    if faults:
        for service in pipeline.services.values():
            print(service.log_tail(), file=sys.stderr)
    servers = pipeline.servers
    lines = summary_lines(outcome, faults, [servers.postgres, servers.redis, servers.kafka])
    print("", *lines, "", sep="\n", flush=True)
    return BROKEN_PROMISE if faults else 0


def _reason(errors: BaseExceptionGroup, pipeline: PipelineProcesses) -> BaseException:
    """The one error to tell: an ended server or service rather than what its clients noticed of it.

    Raises:
        DevStackError: A server has ended.
        ServiceFailedError: A service has ended.
    """
    found = list(_leaves(errors))
    for error in found:
        if isinstance(error, (DevStackError, ServiceFailedError)) or not isinstance(error, Exception):
            return error
    _wait_for_an_end(pipeline)
    first = found[0]
    if not isinstance(first, _TROUBLE):
        return errors
    if isinstance(first, httpx.HTTPStatusError):
        first_words = f"intake answers {first.response.status_code}: {first.response.text[:300]}"
        return ServiceFailedError(first_words, pipeline.services["intake"].log_tail())
    return ServiceFailedError(f"{type(first).__name__}: {first}".partition("\n")[0])


def _wait_for_an_end(pipeline: PipelineProcesses) -> None:
    """Look at services and servers for a moment: clients notice a broken connection before a process has ended."""
    deadline = time.monotonic() + _END_S
    while time.monotonic() < deadline:
        pipeline.check_servers()
        pipeline.check_alive()
        time.sleep(_END_S / 5)


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            yield from _leaves(each)
    else:
        yield error


def _last_words(error: DevStackError | ServiceFailedError) -> list[str]:
    """What is known of a failure; the reason is the last line."""
    reason, _, log = str(error).partition("\n")
    if log:
        # What devstack says of its programs: "...; the end of its log:", and then that.
        reason, _, heading = reason.partition("; ")
        log = f"{heading}\n{log}"
    elif isinstance(error, ServiceFailedError):
        log = error.log
    return [*([log.strip("\n")] if log else []), f"FAILED: {reason.rstrip(':')}"]


def _keep_open(pipeline: PipelineProcesses) -> None:
    """Leave the page open until Ctrl-C.

    Raises:
        DevStackError: A server ended meanwhile.
        ServiceFailedError: A service did.
    """
    # A flag, no exception: one that is raised inside of a look at a server may be caught there, and would be lost.
    told = _Told()
    earlier = {number: signal.signal(number, told) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        print(f"The page: {pipeline.notify_url}/\nCtrl-C ends everything.", flush=True)
        while not told.to_stop:
            pipeline.check_alive()
            time.sleep(_LOOK_S)
        print(flush=True)
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)


class _Told:
    """Whether a signal has come; an event of `threading` would deadlock where its own wait is interrupted."""

    to_stop = False

    def __call__(self, _number: int, _frame: FrameType | None) -> None:
        self.to_stop = True


def _leave(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m essay_pipeline.demo",
        description="Send essays through three services on real servers and verify what arrived.",
    )
    parser.add_argument("--essays", type=_at_least_one, default=200, help="how many (default: 200)")
    parser.add_argument(
        "--users", type=_at_least_one, default=6, help="who sends them, one essay at a time each (default: 6)"
    )
    parser.add_argument("--web", action="store_true", help="then keep the page open until Ctrl-C")
    return parser


def _at_least_one(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return number


if __name__ == "__main__":
    sys.exit(main())
