"""What is an outage, and what is the work's own fault."""

import errno
import gzip
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import count
from typing import Any
from uuid import UUID

import aiohttp
import asyncpg
import pytest
import redis.exceptions as redis_errors
from aiokafka import errors as kafka_errors
from multidict import CIMultiDict
from sqlalchemy import exc as sql
from yarl import URL

from common_core.error_enums import ErrorCode, LLMErrorCode
from common_core.models.error_models import ErrorDetail
from huleedu_service_libs.error_handling import HuleEduError
from huleedu_service_libs.outages import causes, is_outage, sqlstate_of
from huleedu_service_libs.resilience.errors import BulkheadFullError, CircuitBreakerError, DeadlineExceededError

NUMBERS = count(1)
"""Of correlation ids: the tests are named by their errors, and keep their names from run to run."""


def raised_from(error: Exception, cause: BaseException) -> Exception:
    """``error``, as if by ``raise error from cause``."""
    error.__cause__ = cause
    return error


def raised_inside(error: Exception, other: BaseException) -> Exception:
    """``error``, as raised by a factory that was called in an ``except`` block."""
    error.__context__ = other
    return error


def with_code(code: Any) -> HuleEduError:
    """An error of the services with that code."""
    detail = ErrorDetail(
        error_code=code,
        message="no",
        correlation_id=UUID(int=next(NUMBERS)),
        timestamp=datetime.now(UTC),
        service="s",
        operation="o",
    )
    return HuleEduError(detail)


def by_sqlalchemy(kind: Any, orig: BaseException, *, invalidated: bool = False) -> sql.DBAPIError:
    """The driver's error as SQLAlchemy wraps it."""
    made: sql.DBAPIError = kind("SELECT 1", {}, orig, connection_invalidated=invalidated)
    return made


def answered(status: int) -> aiohttp.ClientResponseError:
    """An HTTP answer that aiohttp raised."""
    url = URL("http://content")
    info = aiohttp.RequestInfo(url, "GET", CIMultiDict(), url)  # type: ignore[arg-type]  # a proxy of it, says the hint
    return aiohttp.ClientResponseError(info, (), status=status)


def no_such_file() -> Exception:
    """What opening a file of a wrong name ends with."""
    return OSError(errno.ENAMETOOLONG, "too long")


OUTAGES: list[Callable[[], BaseException]] = [
    ConnectionRefusedError,
    ConnectionResetError,
    TimeoutError,
    lambda: OSError("Multiple exceptions: [Errno 111] Connect call failed ('::1', 5432)"),
    lambda: OSError(errno.EHOSTUNREACH, "no route"),
    lambda: OSError(errno.ENOSPC, "no space left"),
    lambda: CircuitBreakerError("open"),
    lambda: BulkheadFullError("content", 1, 1),
    lambda: DeadlineExceededError("content", 1.0),
    lambda: asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation"),
    lambda: asyncpg.InterfaceError("connection is closed"),
    lambda: asyncpg.CannotConnectNowError("the database system is starting up"),
    lambda: asyncpg.AdminShutdownError("terminating connection"),
    lambda: asyncpg.TooManyConnectionsError("sorry, too many clients already"),
    lambda: by_sqlalchemy(sql.DBAPIError, asyncpg.AdminShutdownError("terminating connection")),
    lambda: by_sqlalchemy(sql.InterfaceError, asyncpg.InterfaceError("connection is closed")),
    lambda: by_sqlalchemy(sql.DBAPIError, ValueError("?"), invalidated=True),
    lambda: by_sqlalchemy(sql.OperationalError, RuntimeError("could not connect to server: refused")),
    lambda: sql.TimeoutError("QueuePool limit of size 5 overflow 10 reached"),
    lambda: sql.PendingRollbackError("Can't reconnect until invalid transaction is rolled back."),
    redis_errors.ConnectionError,
    redis_errors.TimeoutError,
    redis_errors.BusyLoadingError,
    lambda: aiohttp.ClientOSError(104, "reset"),
    aiohttp.ServerDisconnectedError,
    aiohttp.ServerTimeoutError,
    lambda: answered(503),
    lambda: answered(429),
    kafka_errors.KafkaConnectionError,
    kafka_errors.NotLeaderForPartitionError,
    lambda: with_code(ErrorCode.SERVICE_UNAVAILABLE),
    lambda: with_code(ErrorCode.CONNECTION_ERROR),
    lambda: with_code(ErrorCode.CIRCUIT_BREAKER_OPEN),
    lambda: with_code(LLMErrorCode.PROVIDER_UNAVAILABLE),
    lambda: raised_from(RuntimeError("could not store"), ConnectionRefusedError()),
    lambda: raised_from(with_code(ErrorCode.PROCESSING_ERROR), asyncpg.AdminShutdownError("bye")),
    lambda: raised_inside(with_code(ErrorCode.PROCESSING_ERROR), ConnectionRefusedError()),
    lambda: ExceptionGroup("both", [TimeoutError(), ConnectionResetError()]),
]
FAULTS: list[Callable[[], BaseException]] = [
    ValueError,
    RuntimeError,
    KeyError,
    FileNotFoundError,
    PermissionError,
    no_such_file,
    lambda: gzip.BadGzipFile("an OSError by inheritance, the content's fault by nature"),
    lambda: asyncpg.UniqueViolationError("duplicate key"),
    lambda: asyncpg.InterfaceError("the server expects 2 arguments for this query, 1 was passed"),
    lambda: by_sqlalchemy(sql.IntegrityError, asyncpg.UniqueViolationError("duplicate key of a connection")),
    lambda: by_sqlalchemy(sql.OperationalError, RuntimeError("no such table: essays")),
    lambda: by_sqlalchemy(sql.DBAPIError, asyncpg.QueryCanceledError("statement timeout")),
    redis_errors.ResponseError,
    lambda: answered(404),
    lambda: answered(500),
    kafka_errors.MessageSizeTooLargeError,
    kafka_errors.KafkaError,
    lambda: with_code(ErrorCode.VALIDATION_ERROR),
    lambda: with_code(ErrorCode.PROCESSING_ERROR),
    lambda: raised_from(with_code(ErrorCode.VALIDATION_ERROR), ConnectionResetError()),
    lambda: raised_inside(ValueError("a fallback that was no use"), ConnectionResetError()),
    lambda: ExceptionGroup("one of them", [TimeoutError(), ValueError()]),
]


@pytest.mark.parametrize("make", OUTAGES, ids=lambda make: repr(make()))
def test_what_is_out_of_reach_is_an_outage(make: Callable[[], BaseException]) -> None:
    """Lost and refused connections, shutdowns, timeouts, open breakers, and what was raised from them."""
    assert is_outage(make())


@pytest.mark.parametrize("make", FAULTS, ids=lambda make: repr(make()))
def test_what_would_fail_again_is_none(make: Callable[[], BaseException]) -> None:
    """Constraints, wrong arguments, missing files, refused contents: waiting does not help."""
    assert not is_outage(make())


def test_a_chain_that_turns_in_a_circle_ends() -> None:
    """Whatever errors point to each other, the question is answered."""
    one, other = ValueError("one"), ValueError("other")
    one.__cause__, other.__cause__ = other, one
    assert not is_outage(one)
    assert len(list(causes(one))) <= 10


def test_the_state_is_found_through_wrappers() -> None:
    """The SQLSTATE of the driver's error is told for SQLAlchemy's and for what was raised from that."""
    wrapped = by_sqlalchemy(sql.DBAPIError, asyncpg.AdminShutdownError("bye"))
    assert sqlstate_of(raised_from(RuntimeError("x"), wrapped)) == "57P01"
    assert sqlstate_of(ValueError()) is None
