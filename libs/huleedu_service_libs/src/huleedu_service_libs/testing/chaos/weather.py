"""What the network of a `FaultProxy` is like at the moment: how fast, whether it is silent, which replies it loses.

Knows bytes and links, and neither opens nor closes a connection but for a lost reply.
"""

import asyncio

from huleedu_service_libs import _clock
from huleedu_service_libs.testing.chaos.links import Link, Loss

__all__ = ["Weather"]


class Weather:
    """Fair until told otherwise.

    Args:
        sleep: Waits.

    Attributes:
        flows: Unset in silence.
        delay: Seconds that each piece of data is held up.
        rate: Bytes a second; ``None`` is as fast as it goes.
        loss: Replies to lose.
        rewrite: Byte strings in replies, and what stands in for them.
        lost_replies: Replies lost so far.
    """

    def __init__(self, sleep: _clock.Sleep) -> None:
        self._sleep = sleep
        self.flows = asyncio.Event()
        self.rewrite: dict[bytes, bytes] = {}
        self.lost_replies = 0
        self.clear()

    def clear(self) -> None:
        """End all faults; what is rewritten stays so."""
        self.delay = 0.0
        self.rate: float | None = None
        self.loss: Loss | None = None
        self.flows.set()

    async def hold_up(self, size: int) -> None:
        """Wait as long as that many bytes take."""
        if self.delay:
            await self._sleep(self.delay)
        if self.rate is not None:
            await self._sleep(size / self.rate)
        await self.flows.wait()  # no limit: the test ends the weather, or stops the proxy

    def request(self, link: Link, data: bytes) -> bytes:
        """What passes of a request; notes whether its reply is to be lost."""
        loss = self.loss
        if loss is None or link.loss is not None or (loss.to is not None and loss.to not in data):
            return data
        if loss.skip > 0:
            loss.skip -= 1
        elif loss.times > 0:
            loss.times -= 1
            link.loss = Loss(to=None, skip=0, after_bytes=loss.after_bytes, times=1, hang=loss.hang)
        return data

    def reply(self, link: Link, data: bytes) -> bytes:
        """What passes of a reply."""
        loss = link.loss
        if loss is None:
            for old, new in self.rewrite.items():
                data = data.replace(old, new)
            return data
        passed, loss.after_bytes = data[: loss.after_bytes], max(0, loss.after_bytes - len(data))
        if len(passed) < len(data):
            self.lost_replies += loss.times
            loss.times = 0
            if not loss.hang:
                link.client.write(passed)  # before the end; a reset might overtake it
                link.client.close()
                link.server.transport.abort()
                return b""
        return passed
