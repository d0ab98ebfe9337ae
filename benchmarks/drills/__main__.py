"""Runs both drills, prints what they came to, and draws ``docs/concepts/drills.svg``.

Run by ``make drills``; takes about a minute and needs Kafka (see ``devstack``).
"""

import asyncio
import logging
from pathlib import Path

import matplotlib as mpl
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from drills import broker, upstream
from drills.broker import Verdict
from drills.series import Series
from huleedu_service_libs.logging_utils import configure_service_logging

PICTURE = Path(__file__).resolve().parents[2] / "docs" / "concepts" / "drills.svg"

_STATES = {"open": "#f4c7c3", "half_open": "#fde9b8"}


async def main() -> None:
    """Run, print, draw."""
    logging.disable(logging.ERROR)
    configure_service_logging("drill", log_level="CRITICAL")
    bare, guarded = await upstream.run()
    print_upstream("without a breaker", bare)
    print_upstream("with a breaker", guarded)
    kafka, verdict = await broker.run()
    print(f"broker away {broker.DOWN[0]:g} to {broker.DOWN[1]:g} s: {verdict}")
    print(f"  breaker: {_changes(kafka)}")
    draw(bare, guarded, kafka, verdict)
    print(PICTURE)


def print_upstream(title: str, series: Series) -> None:
    """The figures of one course."""
    requests = sum(series.total(name) for name in ("answered", "failed", "refused"))
    print(
        f"upstream {title}: {requests} requests, {series.total('answered')} answered, {series.total('failed')} failed, "
        f"{series.total('refused')} refused at once; {series.total('reached the upstream', *upstream.DOWN)} reached it "
        f"while it was down; {series.total('milliseconds waited') / 1000:.0f} s waited in all"
    )
    print(f"  breaker: {_changes(series)}")


def _changes(series: Series) -> str:
    return ", ".join(f"{moment:.1f} s {state}" for moment, state in series.states)


def draw(bare: Series, guarded: Series, kafka: Series, verdict: Verdict) -> None:
    """Three pictures over each other."""
    mpl.rcParams.update({"font.size": 8, "svg.hashsalt": "drills", "svg.fonttype": "none", "path.simplify": True})
    figure, (top, middle, bottom) = plt.subplots(3, 1, figsize=(8, 8.2), constrained_layout=True)
    for axes, series, title in (
        (top, bare, "Flapping HTTP upstream without a breaker: everybody waits for the failure"),
        (middle, guarded, "The same with a breaker: refusals take no time, and the upstream is left alone"),
    ):
        _shade(axes, series, upstream.SECONDS)
        _curves(
            axes,
            series,
            upstream.SECONDS,
            {"answered": "#1b7837", "failed": "#b2182b", "refused": "#878787", "reached the upstream": "#2166ac"},
        )
        for begin, end in (upstream.DOWN, upstream.FLAPPING):
            axes.axvspan(begin, end, ymin=0.97, color="black", alpha=0.5)
        axes.set_title(title, loc="left")
    _shade(bottom, kafka, broker.SECONDS)
    _curves(bottom, kafka, broker.SECONDS, {"acknowledged": "#1b7837", "raised": "#b2182b", "queued": "#878787"})
    waiting = bottom.twinx()
    times, rates = kafka.curve("waiting", broker.SECONDS)
    waiting.plot(times, [rate / 4 for rate in rates], color="#762a83", linestyle=":", label="waiting in the queue")
    waiting.set_ylabel("messages waiting", color="#762a83")
    bottom.axvspan(*broker.DOWN, ymin=0.97, color="black", alpha=0.5)
    bottom.set_title(
        f"Broker stopped under load: {verdict.published} published, {verdict.lost} lost, "
        f"{verdict.out_of_order} out of order, {verdict.duplicated} duplicated",
        loc="left",
    )
    bottom.set_xlabel("seconds; black bar: away or flapping; red ground: breaker open; yellow: half-open")
    PICTURE.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(PICTURE, metadata={"Date": None})


def _shade(axes: Axes, series: Series, seconds: float) -> None:
    for state, colour in _STATES.items():
        for begin, end in series.spans(state, seconds):
            axes.axvspan(begin, end, color=colour, linewidth=0)


def _curves(axes: Axes, series: Series, seconds: float, colours: dict[str, str]) -> None:
    for name, colour in colours.items():
        times, rates = series.curve(name, seconds)
        axes.step(times, rates, where="post", color=colour, linewidth=1, label=name)
    axes.set_xlim(0, seconds)
    axes.set_ylim(bottom=0)
    axes.set_ylabel("a second")
    axes.legend(loc="center right", frameon=False)


if __name__ == "__main__":
    asyncio.run(main())
