"""Whether an error says that something is out of reach, or that the work itself is at fault.

Consumer, outbox, inbox and publishers ask it before they count an attempt: an outage is nobody's
fault, and passes. Drivers are known by the names of their errors, so none is imported.
Knows no state of anything: one error, one answer.
"""

import errno
import socket
import ssl
from collections.abc import Iterator
from typing import Any

from common_core.error_enums import ErrorCode, LLMErrorCode

__all__ = ["causes", "is_outage", "is_refused_by_kafka", "sqlstate_of"]

_DEPTH = 10

# Connection exceptions, operator intervention (shutdown, starting up), too many connections, disk full, I/O error,
# and a server that is read-only because another one leads now.
# https://www.postgresql.org/docs/current/errcodes-appendix.html
_OUTAGE_STATES = ("08", "57P", "53", "58", "25006")

_NETWORK = (ConnectionError, TimeoutError, BlockingIOError, socket.gaierror, socket.herror, ssl.SSLError)
# What an OSError without a class of its own says of a file or an argument, not of the network.
_ABOUT_ARGUMENTS = frozenset({errno.EINVAL, errno.ENAMETOOLONG, errno.ELOOP, errno.EBADF, errno.EFBIG})

_UNREACHABLE = frozenset(
    {
        "aiohttp.client_exceptions.ClientConnectionError",
        "aiohttp.client_exceptions.ClientPayloadError",
        "httpx.NetworkError",
        "httpx.ProxyError",
        "httpx.RemoteProtocolError",
        "httpx.TimeoutException",
        "redis.exceptions.ClusterDownError",
        "redis.exceptions.ClusterError",
        "redis.exceptions.ConnectionError",
        "redis.exceptions.MasterDownError",
        "redis.exceptions.OutOfMemoryError",
        "redis.exceptions.ReadOnlyError",
        "redis.exceptions.TimeoutError",
        "redis.exceptions.TryAgainError",
        "sqlalchemy.exc.DisconnectionError",
        "sqlalchemy.exc.TimeoutError",  # no connection in the pool
    }
)
# Of these only those whose text speaks of the connection: drivers use them for faulty statements, too.
_MAYBE_UNREACHABLE = frozenset(
    {
        "asyncpg.exceptions._base.InterfaceError",
        "psycopg.InterfaceError",
        "psycopg.OperationalError",
        "sqlalchemy.exc.InterfaceError",
        "sqlalchemy.exc.OperationalError",
        "sqlalchemy.exc.PendingRollbackError",
    }
)
_SPEAKS_OF_THE_CONNECTION = ("connect", "pool is clos", "server closed", "network", "name resolution")

_KAFKA = "aiokafka.errors.KafkaError"
_KAFKA_REFUSALS = frozenset(
    {
        "aiokafka.errors.CorruptRecordException",
        "aiokafka.errors.InvalidRequestError",
        "aiokafka.errors.InvalidTimestampError",
        "aiokafka.errors.InvalidTopicError",
        "aiokafka.errors.MessageSizeTooLargeError",
        "aiokafka.errors.PolicyViolationError",
        "aiokafka.errors.RecordListTooLargeError",
        "aiokafka.errors.RecordTooLargeError",
        "aiokafka.errors.UnsupportedForMessageFormatError",
        "huleedu_service_libs.kafka.driver_errors.InvalidRecordError",
    }
)

# https://www.rfc-editor.org/rfc/rfc9110#name-server-error-5xx and RFC 6585: the other side asks to come again.
_STATUSES = frozenset({429, 502, 503, 504})
_ANSWERS = frozenset({"aiohttp.client_exceptions.ClientResponseError", "httpx.HTTPStatusError"})

_OUTAGE_CODES = frozenset(
    {
        ErrorCode.CIRCUIT_BREAKER_OPEN.value,
        ErrorCode.CONNECTION_ERROR.value,
        ErrorCode.KAFKA_PUBLISH_ERROR.value,
        ErrorCode.RATE_LIMIT.value,
        ErrorCode.SERVICE_UNAVAILABLE.value,
        ErrorCode.TIMEOUT.value,
        LLMErrorCode.PROVIDER_RATE_LIMIT.value,
        LLMErrorCode.PROVIDER_TIMEOUT.value,
        LLMErrorCode.PROVIDER_UNAVAILABLE.value,
        LLMErrorCode.QUEUE_FULL.value,
    }
)
_CONTENT_CODES = frozenset(
    {
        ErrorCode.INVALID_REQUEST.value,
        ErrorCode.MISSING_REQUIRED_FIELD.value,
        ErrorCode.RESOURCE_NOT_FOUND.value,
        ErrorCode.VALIDATION_ERROR.value,
    }
)


def is_outage(error: BaseException) -> bool:
    """Whether the cause lies outside of the work: the same may succeed when something is back.

    An error says so itself (``retriable``: open breakers, full bulkheads, Kafka's), by the class of its
    driver, by PostgreSQL's SQLSTATE, by an HTTP status, by the code of a ``HuleEduError``, or through
    what it was raised from. The first in that chain that is sure decides. Of a group of errors, all
    must be outages.
    """
    for each in causes(error):
        verdict = _verdict(each)
        if verdict is not None:
            return verdict
    return False


def causes(error: BaseException) -> Iterator[BaseException]:
    """``error``, and what it wraps or was raised from, ten at most.

    For a ``HuleEduError`` the exception in whose handling it was raised counts too, because
    the factories that raise it have no ``from``.
    """
    current: BaseException | None = error
    for _ in range(_DEPTH):
        if current is None:
            return
        yield current
        following = getattr(current, "orig", None) or current.__cause__
        if following is None and hasattr(current, "error_detail") and not current.__suppress_context__:
            following = current.__context__
        current = following if isinstance(following, BaseException) else None


def sqlstate_of(error: BaseException | None) -> str | None:
    """The SQLSTATE that the error, what it wraps or what caused it carries."""
    for each in causes(error) if error is not None else ():
        for name in ("sqlstate", "pgcode"):
            state: Any = getattr(each, name, None)
            if isinstance(state, str) and len(state) == 5:  # noqa: PLR2004  # the length of an SQLSTATE
                return state
    return None


def is_refused_by_kafka(error: BaseException) -> bool:
    """Whether the broker refused a message for what it is, so that sending it again is futile."""
    return bool(_names(error) & _KAFKA_REFUSALS)


def _verdict(error: BaseException) -> bool | None:
    """What this error alone says; ``None`` when it leaves the question to its cause."""
    if isinstance(error, BaseExceptionGroup):
        return all(is_outage(each) for each in error.exceptions)
    names = _names(error)
    if names & _KAFKA_REFUSALS:
        return False
    if getattr(error, "retriable", None) is True or _is_of_the_network(error) or names & _UNREACHABLE:
        return True
    if _KAFKA in names:  # the general error says nothing; all the others that are no refusal pass
        return type(error).__name__ != "KafkaError"
    return _by_code(error) if hasattr(error, "error_detail") else _by_answer(error, names)


def _is_of_the_network(error: BaseException) -> bool:
    # Not every OSError: files that are missing, and what libraries derive from it for faulty archives and pictures.
    if isinstance(error, _NETWORK):
        return True
    return type(error) is OSError and error.errno not in _ABOUT_ARGUMENTS


def _by_code(error: Any) -> bool | None:
    code = getattr(error.error_detail.error_code, "value", None)
    if code in _OUTAGE_CODES:
        return True
    return False if code in _CONTENT_CODES else None


def _by_answer(error: Any, names: frozenset[str]) -> bool | None:
    """What a server's answer says: PostgreSQL's state, an HTTP status, or a text about the connection."""
    if getattr(error, "connection_invalidated", None) is True:
        return True
    state = getattr(error, "sqlstate", None)
    if isinstance(state, str):
        return state.startswith(_OUTAGE_STATES)
    if names & _ANSWERS:
        status = getattr(error, "status", None) or getattr(getattr(error, "response", None), "status_code", None)
        return status in _STATUSES
    if names & _MAYBE_UNREACHABLE and any(word in str(error).lower() for word in _SPEAKS_OF_THE_CONNECTION):
        return True if sqlstate_of(error) is None else None
    return None


def _names(error: BaseException) -> frozenset[str]:
    return frozenset(f"{kind.__module__}.{kind.__qualname__}" for kind in type(error).__mro__)
