"""Run one service as a process: signals, the parent's death, a deadline for the stop.

The three ``__main__`` modules use it. It knows the two web servers, but nothing
of the services.

A service ends gracefully on SIGTERM and SIGINT, and when the process that
started it is gone: whoever passes ``--parent-pipe`` holds the other end of
that pipe, which the system closes with its owner, whatever ended it.
"""

import argparse
import asyncio
import logging
import os
import signal
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial

import uvicorn
from fastapi import FastAPI
from hypercorn.asyncio import serve as hypercorn_serve
from hypercorn.config import Config as HypercornConfig
from quart import Quart

from essay_pipeline.settings import PipelineSettings
from huleedu_service_libs.health import ServiceHealth
from huleedu_service_libs.logging_utils import configure_service_logging, create_service_logger
from huleedu_service_libs.observability import shutdown_tracing

__all__ = ["run_service", "serve_fastapi", "serve_quart"]

_logger = create_service_logger("essay_pipeline.runtime")

_CONNECTIONS_LIMIT_S = 5  # how long open connections may hold up the stop
_LATE_EXIT_CODE = 70  # EX_SOFTWARE

Serve = Callable[[asyncio.Event], Awaitable[None]]
"""Serves until the event is set, then cleans up and returns."""


def run_service(settings: PipelineSettings, serve: Serve) -> None:
    """Serve until told to stop. The process ends with code 0 after a graceful stop.

    Args:
        settings: Of the service.
        serve: The service's own part.
    """
    arguments = _parser(settings.SERVICE_NAME).parse_args()
    configure_service_logging(
        settings.SERVICE_NAME, settings.ENVIRONMENT.value, settings.LOG_LEVEL, json_lines=settings.LOG_JSON
    )
    logging.getLogger("aiokafka").setLevel(logging.WARNING)  # noqa: TID251  # a level, not a logger of ours
    asyncio.run(_until_stopped(settings, serve, arguments.parent_pipe))
    shutdown_tracing()


async def serve_fastapi(app: FastAPI, settings: PipelineSettings, stop: asyncio.Event) -> None:
    """Serve ``app`` with uvicorn until ``stop`` is set and the traffic has ended."""
    config = uvicorn.Config(
        app,
        host=settings.HOST,
        port=settings.PORT,
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        ws="websockets-sansio",
        ws_max_size=4096,  # clients have nothing to say
        timeout_graceful_shutdown=_CONNECTIONS_LIMIT_S,
    )
    server = _Server(config)
    watcher = asyncio.create_task(_set_should_exit(server, _drained(app.state.health, stop)))
    try:
        await server.serve()
    finally:
        watcher.cancel()


async def serve_quart(app: Quart, settings: PipelineSettings, stop: asyncio.Event) -> None:
    """Serve ``app`` with hypercorn until ``stop`` is set and the traffic has ended."""
    config = HypercornConfig()
    config.bind = [f"{settings.HOST}:{settings.PORT}"]
    config.graceful_timeout = _CONNECTIONS_LIMIT_S
    config.include_server_header = False
    config.errorlog = logging.getLogger("hypercorn.error")  # noqa: TID251  # what hypercorn takes; rendered as JSON by the root handler
    await hypercorn_serve(app, config, shutdown_trigger=partial(_drained, app.extensions["health"], stop))


async def _until_stopped(settings: PipelineSettings, serve: Serve, parent_pipe: int | None) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if parent_pipe is not None:
        loop.add_reader(parent_pipe, _stop_at_end, parent_pipe, stop)
    serving = asyncio.ensure_future(serve(stop))
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    _, late = await asyncio.wait({serving}, timeout=settings.STOP_SECONDS)
    if late:
        _logger.error("stop_deadline_exceeded", stop_seconds=settings.STOP_SECONDS)
        os._exit(_LATE_EXIT_CODE)  # cancelling would wait for the very thing that hangs
    await serving
    _logger.info("service_stopped")


def _stop_at_end(pipe: int, stop: asyncio.Event) -> None:
    if not os.read(pipe, 1):
        asyncio.get_running_loop().remove_reader(pipe)
        stop.set()


async def _drained(health: ServiceHealth, stop: asyncio.Event) -> None:
    """Wait until the service is told to stop, and then until what it had in hand is done."""
    await stop.wait()
    await health.stop_traffic()


async def _set_should_exit(server: uvicorn.Server, drained: Awaitable[None]) -> None:
    await drained
    server.should_exit = True


class _Server(uvicorn.Server):
    """Uvicorn without its signal handlers, which end the process by the signal rather than with code 0."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals to `_until_stopped`."""
        yield


def _parser(name: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=f"Run {name}; settings come from the environment.")
    parser.add_argument("--parent-pipe", type=int, metavar="FD", help="stop when this pipe is closed at its other end")
    return parser
