"""Sends parcels: retry and dead-letter messages, whose records are done when the broker has them.

`Handling` uses it. Knows what a publisher's outcome means, and not why a record is sent.
"""

import asyncio

from huleedu_service_libs.kafka.consumer.partitions import Parcel
from huleedu_service_libs.protocols import BatchPublisher

__all__ = ["post"]

_PUBLISH_LIMIT_S = 60.0


async def post(publisher: BatchPublisher | None, parcel: Parcel) -> Exception | None:
    """Publish the parcel's message; why it was not acknowledged, or ``None``.

    A message that was refused for what it is goes without its history the next time: perhaps that made it too large.
    """
    if publisher is None:
        return LookupError("The consumer has no publisher")
    try:
        async with asyncio.timeout(_PUBLISH_LIMIT_S):
            (outcome,) = await publisher.publish_batch([parcel.message])
    except Exception as error:  # noqa: BLE001  # tried again, counted and logged by the caller
        return error
    if outcome.error is not None and not outcome.transient:
        parcel.message = parcel.slim
    return outcome.error
