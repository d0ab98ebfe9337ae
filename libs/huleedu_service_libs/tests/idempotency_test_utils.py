"""Helpers that services' tests of idempotent handlers import from here.

The import path ``libs.huleedu_service_libs.tests.idempotency_test_utils`` is in
use; it resolves from the root of the repository.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID, uuid5

from aiokafka import ConsumerRecord

__all__ = ["AsyncConfirmationTestHelper", "create_test_message", "record_of"]

_NAMESPACE = UUID("6f1c3f2e-6a55-4f6e-9a3e-6f0d7a9b1c02")


class AsyncConfirmationTestHelper:
    """Stops a handler between its work and its confirmation, for as long as a test wants.

    Attributes:
        processing_started: Set when the handler begins.
        processing_complete: Set when its work is done, or has failed.
        confirmation_allowed: Awaited before confirming.
        confirmation_complete: Set after confirming.
        processing_error: What the work raised.
        processing_result: What it returned, ``True`` in place of ``None``.
        confirmed: Whether the event was confirmed.
    """

    def __init__(self) -> None:
        self.processing_started = asyncio.Event()
        self.processing_complete = asyncio.Event()
        self.confirmation_allowed = asyncio.Event()
        self.confirmation_complete = asyncio.Event()
        self.processing_error: BaseException | None = None
        self.processing_result: Any = None
        self.confirmed: bool = False

    async def process_with_controlled_confirmation(
        self,
        process_func: Callable[..., Awaitable[Any]],
        msg: Any,
        confirm_idempotency: Callable[[], Awaitable[None]],
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        """Run ``process_func(msg, ...)``, wait until confirmation is allowed, confirm.

        Raises:
            Exception: Whatever ``process_func`` raises, also kept in ``processing_error``.
        """
        self.processing_started.set()
        try:
            result = await process_func(msg, *args, **kwargs)
        except Exception as error:
            self.processing_error = error
            self.processing_complete.set()
            raise
        self.processing_result = True if result is None else result
        self.processing_complete.set()
        await self.confirmation_allowed.wait()
        await confirm_idempotency()
        self.confirmed = True
        self.confirmation_complete.set()
        return self.processing_result

    async def wait_for_processing_started(self, timeout: float = 1.0) -> None:  # noqa: ASYNC109  # the services' signature
        """Wait until the handler has begun; ``TimeoutError`` after ``timeout`` seconds."""
        await asyncio.wait_for(self.processing_started.wait(), timeout)

    async def wait_for_processing_complete(self, timeout: float = 1.0) -> None:  # noqa: ASYNC109  # the services' signature
        """Wait until its work is done; ``TimeoutError`` after ``timeout`` seconds."""
        await asyncio.wait_for(self.processing_complete.wait(), timeout)

    async def wait_for_confirmation(self, timeout: float = 1.0) -> None:  # noqa: ASYNC109  # the services' signature
        """Wait until it has confirmed; ``TimeoutError`` after ``timeout`` seconds."""
        await asyncio.wait_for(self.confirmation_complete.wait(), timeout)

    def allow_confirmation(self) -> None:
        """Let the handler confirm."""
        self.confirmation_allowed.set()


def create_test_message(
    event_id: str = "test-123", event_type: str = "test.event.v1", data: dict[str, Any] | None = None
) -> ConsumerRecord:
    """A Kafka record with an envelope in its body and no headers; equal arguments, equal bytes."""
    body = {
        "event_id": event_id,
        "event_type": event_type,
        "event_timestamp": "2025-01-01T00:00:00+00:00",
        "source_service": "test-service",
        "correlation_id": str(uuid5(_NAMESPACE, event_id)),
        "data": {"test": "data"} if data is None else data,
    }
    return record_of(body)


def record_of(body: dict[str, Any], headers: Any = ()) -> ConsumerRecord:
    """A Kafka record with that body, written as `json.dumps` writes."""
    value = json.dumps(body).encode("utf-8")
    return ConsumerRecord(
        topic="test-topic",
        partition=0,
        offset=0,
        timestamp=1_735_689_600_000,
        timestamp_type=0,
        key=None,
        value=value,
        checksum=None,
        serialized_key_size=-1,
        serialized_value_size=len(value),
        headers=headers,
    )
