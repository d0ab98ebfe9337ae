"""``python -m essay_pipeline.demo``: the whole pipeline on real servers, verified.

Exit codes: 0 all promises hold; 1 one is broken; 2 wrong arguments; 3 servers or
services did not come up, or one ended; 130 interrupted.
"""

import argparse
import asyncio
import signal
import sys
import time
from collections.abc import Sequence
from types import FrameType

import httpx
from aiokafka.errors import KafkaError
from websockets.exceptions import WebSocketException

from essay_pipeline.demo.display import Display, make_display
from essay_pipeline.demo.driver import Driver, Plan
from essay_pipeline.demo.oracle import find_faults
from essay_pipeline.demo.processes import PipelineProcesses, Servers
from essay_pipeline.demo.service import ServiceFailedError
from essay_pipeline.demo.summary import summary_lines
from huleedu_service_libs.logging_utils import configure_service_logging
from huleedu_service_libs.testing.devstack import DevStack, DevStackError

__all__ = ["main"]

BROKEN_PROMISE = 1
CANNOT_RUN = 3
INTERRUPTED = 130

_LOOK_S = 1.0


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
        print(f"\nFAILED: {error}", file=sys.stderr)
        return CANNOT_RUN


def _run(plan: Plan, *, keep_open: bool) -> int:
    display = make_display()
    stack = DevStack(progress=display.line)
    with stack:
        if not stack.kafka.supports_idempotent_producer:
            display.line(f"kafka: {stack.kafka.label} keeps events in memory and serves no idempotent producers")
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
        f"sending {plan.essays} essays of {plan.users} users, {plan.rollbacks} more that are rolled back, "
        "and duplicates of delivered messages"
    )
    try:
        with display:
            outcome = asyncio.run(Driver(pipeline, plan, display).run())
    except* (httpx.HTTPError, OSError, WebSocketException, KafkaError) as errors:
        logs = "\n".join(f"{name}:\n{log.tail()}" for name, log in pipeline.logs.items())
        raise ServiceFailedError(f"{errors.exceptions[0]!r}; the services' logs:\n{logs}") from errors
    faults = find_faults(outcome.evidence)
    print("", *summary_lines(outcome, faults), "", sep="\n", flush=True)
    if faults:
        for name, log in pipeline.logs.items():
            print(f"the end of {name}'s log:\n{log.tail()}", file=sys.stderr)
    return BROKEN_PROMISE if faults else 0


def _keep_open(pipeline: PipelineProcesses) -> None:
    """Leave the page open until Ctrl-C.

    Raises:
        ServiceFailedError: A service ended meanwhile.
    """
    print(f"The page: {pipeline.notify_url}/\nCtrl-C ends everything.", flush=True)
    try:
        while True:
            pipeline.check_alive()
            time.sleep(_LOOK_S)
    except KeyboardInterrupt:
        print(flush=True)


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
