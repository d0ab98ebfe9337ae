"""Where a resilient publisher's messages are safe from a crash or a stop, if its spill can do that.

Stands between the publisher and a `MessageSpill`. A spill that cannot do its work takes nothing with it: the
messages stay in memory, and the error is counted and logged.
"""

from collections.abc import Sequence
from typing import Any

from huleedu_service_libs._redaction import error_text
from huleedu_service_libs._troubles import Troubles
from huleedu_service_libs.kafka.fallback_handler import FallbackMessageHandler, QueuedMessage
from huleedu_service_libs.kafka.fallback_metrics import count_fate
from huleedu_service_libs.kafka.spill import MessageSpill
from huleedu_service_libs.logging_utils import create_service_logger
from huleedu_service_libs.protocols import concrete_capability

__all__ = ["Safekeeping"]

logger = create_service_logger("huleedu_service_libs.kafka")


class Safekeeping:
    """A publisher's spill, with what its class can do beyond `MessageSpill`.

    Args:
        spill: Where messages go; ``None`` keeps them in memory only.
        client: Names the publisher in metrics.

    Attributes:
        away: Whether messages were spilled that are not back in memory: nothing may overtake them.
    """

    def __init__(self, spill: MessageSpill | None, client: object) -> None:
        self._spill = spill
        self._client = client
        self._holds_something = False
        self.away = False
        self._journal = Troubles()
        self._append = concrete_capability(spill, "append")
        self._remove = concrete_capability(spill, "remove")
        self._take = concrete_capability(spill, "take")
        self._holds = concrete_capability(spill, "holds")
        self._close = concrete_capability(spill, "close")

    async def load_into(self, handler: FallbackMessageHandler) -> None:
        """Queue what an earlier life has left, before what waits already, which is not doubled.

        Raises:
            Exception: What the spill raises: starting without it would lose its order.
        """
        if self._spill is None:
            return
        loaded = await self._spill.load()
        known = {message.envelope.event_id for message in handler.waiting()}
        handler.restore([message for message in loaded if message.envelope.event_id not in known])
        self._holds_something = bool(loaded)
        self.away = False

    async def hand_over(self, message: QueuedMessage[Any]) -> bool:
        """Give a message away for good; whether somebody else sends it now.

        Raises:
            Exception: It could not be given away, and must not overtake those of its key that were.
        """
        if self._take is None:
            return False
        try:
            await self._take(message)
        except Exception as error:
            self._failed("kafka_handover_failed", error, message=message.name)
            if await self.holds(message.topic, message.key):
                raise
            return False
        count_fate(self._client, "handed_over")
        logger.warning("kafka_message_handed_over", message=message.name)
        return True

    async def holds(self, topic: str, key: str | None) -> bool:
        """Whether a message of that topic and key was given away, and is not sent yet."""
        return self._holds is not None and bool(await self._holds(topic, key))

    async def kept(self, message: QueuedMessage[Any]) -> None:
        """A message waits in memory from now on: returns when it would survive a crash, if the spill can do that."""
        if self._append is None:
            return
        try:
            await self._append(message)
        except Exception as error:  # noqa: BLE001  # it still waits in memory
            self._journal_failed(error, message)
        else:
            self._journal_works()

    async def gone(self, message: QueuedMessage[Any]) -> None:
        """A message was sent or given up."""
        if self._remove is None:
            return
        try:
            await self._remove(message)
        except Exception as error:  # noqa: BLE001  # at worst it is sent twice after a crash
            self._journal_failed(error, message)
        else:
            self._journal_works()

    async def all_gone(self) -> None:
        """Nothing waits any more."""
        if self._holds_something:
            await self.save([])

    async def save(self, messages: Sequence[QueuedMessage[Any]]) -> bool:
        """Spill exactly ``messages``; whether that worked."""
        if self._spill is None:
            return False
        try:
            await self._spill.save(messages)
        except Exception as error:  # noqa: BLE001  # a stop must go on; the messages are reported by name
            self._failed("kafka_spill_failed", error)
            return False
        self._holds_something = self.away = bool(messages)
        if messages:
            count_fate(self._client, "spilled", len(messages))
            logger.warning("kafka_messages_spilled", count=len(messages))
        return True

    async def close(self) -> None:
        """The publisher stops."""
        if self._close is None:
            return
        try:
            await self._close()
        except Exception as error:  # noqa: BLE001  # a stop must go on
            self._failed("kafka_spill_failed", error)

    def _journal_failed(self, error: Exception, message: QueuedMessage[Any]) -> None:
        count_fate(self._client, "spill_error")
        if failures := self._journal.failed(error=error):
            logger.error("kafka_journal_failed", message=message.name, failures=failures, error=error_text(error))

    def _journal_works(self) -> None:
        over = self._journal.worked()
        if over is not None:
            logger.info("kafka_journal_trouble_over", **over._asdict())

    def _failed(self, event: str, error: Exception, **fields: Any) -> None:
        count_fate(self._client, "spill_error")
        logger.error(event, error=error_text(error), **fields)
