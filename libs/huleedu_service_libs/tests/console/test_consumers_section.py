"""The console's section of consumers: what it shows of a healthy one, a stuck one, and one that has ended."""

from huleedu_service_libs.console import ConsumersSection, Tone
from huleedu_service_libs.console.sections import Cell, Table, check_section
from huleedu_service_libs.kafka.consumer import ConsumerStatus, StuckPartition


class Consumer:
    """Has a status."""

    def __init__(self, status: ConsumerStatus) -> None:
        self._status = status

    def status(self) -> ConsumerStatus:
        """As given."""
        return self._status


STUCK = StuckPartition(
    topic="essays",
    partition=2,
    offset=17,
    event_type="essay.v1",
    key="k",
    since_s=90.0,
    attempts=4,
    doing="waiting to retry",
    error="ConnectionRefusedError: no",
)


def texts(table: Table) -> list[list[str]]:
    """The cells as a person reads them."""
    return [[cell.text if isinstance(cell, Cell) else cell for cell in row.cells] for row in table.rows]


async def test_a_healthy_consumer() -> None:
    """Lag and last poll are told, and nothing is wrong."""
    healthy = ConsumerStatus(running=True, partitions=4, last_poll_s=0.1, in_flight=3, lag={"essays": 12})
    reading = await check_section(ConsumersSection({"results": Consumer(healthy)})).read()
    assert (reading.summary, reading.tone) == ("Healthy; records behind: 12.", Tone.GOOD)
    assert texts(reading.tables[0]) == [["results", "running", "4", "3", "0", "-", "essays: 12", "0.1 s ago", "never"]]
    assert texts(reading.tables[1]) == []
    assert reading.data["results"]["alive"] is True


async def test_what_is_stuck_and_what_has_ended() -> None:
    """The record that holds a partition up is named with its error; a consumer that does not run is bad."""
    found = {
        "results": Consumer(ConsumerStatus(running=True, last_poll_s=0.1, stuck=(STUCK,), paused=("essays[2]",))),
        "gone": Consumer(ConsumerStatus(running=False)),
        "hangs": Consumer(ConsumerStatus(running=True, last_poll_s=300.0, last_error="commit: refused")),
    }
    reading = await ConsumersSection(found).read()
    assert reading.tone is Tone.BAD
    for told in ("results: 1 partition(s)", "gone does not run", "hangs has not polled for 300 s", "commit: refused"):
        assert told in reading.summary
    assert texts(reading.tables[1]) == [
        [
            "results",
            "essays[2]",
            "17",
            "essay.v1",
            "k",
            "90 s",
            "waiting to retry",
            "4",
            "ConnectionRefusedError: no",
        ]
    ]
