"""Kills, breaks, judges, and prints what it came to. Run by ``make chaos``."""

import argparse
import asyncio
import logging
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from chaos import faults, phase, report
from chaos import points as at
from chaos.lab import Lab
from chaos.report import RESULTS, Report
from chaos.world import Phase
from huleedu_service_libs.testing.chaos.nursery import ChildError

POINTS = (
    *(Phase(name=name, role="producer") for name in at.PRODUCER_POINTS),
    *(Phase(name=name, role="relay") for name in at.RELAY_POINTS),
    *(Phase(name=name, role="consumer", effects=True) for name in at.CONSUMER_POINTS),
    *(
        Phase(name=f"static {name}", point=name, role="consumer", effects=True, static=True)
        for name in at.STATIC_POINTS
    ),
    *(
        Phase(name=name.replace("consumer", "Redis alone"), point=name, role="consumer", effects=True, memory="redis")
        for name in at.REDIS_POINTS
    ),
)
FAULTS = (
    Phase(name="broker killed and restarted", stroke=faults.broker_killed, effects=True),
    Phase(name="Redis killed and restarted", stroke=faults.redis_killed, effects=True),
    Phase(name="Redis flushed", stroke=faults.redis_flushed, effects=True),
    Phase(name="PostgreSQL restarted", stroke=faults.postgres_restarted, effects=True),
    Phase(name="PostgreSQL killed", stroke=faults.postgres_killed, effects=True),
    Phase(name="network cut", stroke=faults.network_cut, effects=True),
    Phase(name="network slowed", stroke=faults.network_slow, effects=True),
    Phase(name="network silent", stroke=faults.network_silent, effects=True),
    Phase(name="replies lost", stroke=faults.replies_lost, effects=True),
    Phase(name="rebalance storm", stroke=faults.rebalance_storm, effects=True),
)
EVERY_FAULT = Phase(name="each server and network fault once", stroke=faults.everything, effects=True)
OF_THREE_NODES = (Phase(name="leader of three killed", stroke=faults.leader_killed, effects=True),)
SABOTAGE = (
    Phase(
        name="a relay that marks before it sends",
        role="relay",
        point=at.MARKED,
        sabotage="marks before it sends",
        sabotaged="relay",
        finds="lost",
        strokes=2,
    ),
    Phase(
        name="a relay that turns batches round",
        sabotage="turns batches round",
        sabotaged="relay",
        finds="reordered",
    ),
    Phase(
        name="a consumer that remembers nothing",
        role="consumer",
        point=at.COMMITTED_BEFORE_CONFIRM,
        effects=True,
        sabotage="remembers nothing",
        sabotaged="consumer",
        finds="doubled",
        strokes=2,
    ),
    Phase(
        name="a consumer that commits before it handles",
        role="consumer",
        point=at.HANDLED_BEFORE_COMMIT,
        effects=True,
        sabotage="commits before it handles",
        sabotaged="consumer",
        finds="lost",
        strokes=2,
    ),
    Phase(
        name="Redis alone, confirmed before the commit",
        role="consumer",
        point=at.HANDLED_BEFORE_COMMIT,
        effects=True,
        memory="redis",
        sabotage="confirms before it commits",
        sabotaged="consumer",
        finds="lost",
        strokes=2,
    ),
)


def main() -> int:
    """Run; 1 when something was lost, reordered, doubled or made up, or when a sabotage was not found out."""
    arguments = _parser().parse_args()
    logging.disable(logging.CRITICAL)
    record = Report(arguments.json, _command(sys.argv[1:]), merge=arguments.merge)
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        asyncio.run(_run(arguments, record, arguments.logs or Path(folder)))
    record.write()
    print("", *record.lines(), record.path, sep="\n")
    return 0 if record.good else 1


def _command(given: Sequence[str]) -> list[str]:
    """What was called, without folders, which are nobody else's."""
    options = iter(given)
    kept = []
    for option in options:
        if option in {"--json", "--logs"}:
            next(options, None)
        elif not option.startswith(("--json=", "--logs=")):
            kept.append(option or "''")
    return ["PYTHONPATH=benchmarks python -m chaos", *kept]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    parser.add_argument("--kills", type=int, default=1000, help="SIGKILLs over all crash points (default: 1000)")
    parser.add_argument(
        "--seconds", type=float, default=330.0, help="after so long at one crash point no further kill begins (330)"
    )
    parser.add_argument("--strokes", type=int, default=3, help="times that each server fault happens (default: 3)")
    parser.add_argument("--short", action="store_true", help="every crash point and fault, once")
    parser.add_argument("--only", default="", help="only phases whose name contains this; several with commas")
    parser.add_argument("--sabotage", action="store_true", help="also run what is wrong on purpose: must be found out")
    parser.add_argument("--at-once", type=int, default=4, help="crash points that run at the same time (default: 4)")
    parser.add_argument("--merge", action="store_true", help="add to what the results file holds")
    parser.add_argument("--json", type=Path, default=RESULTS, help="where the results go")
    parser.add_argument("--logs", type=Path, default=None, help="folder that keeps the processes' output")
    return parser


def _chosen(arguments: argparse.Namespace) -> list[Phase]:
    each = 1 if arguments.short else -(-arguments.kills // len(POINTS))
    broken = (EVERY_FAULT,) if arguments.short else (*FAULTS, *OF_THREE_NODES)
    strokes = 1 if arguments.short else arguments.strokes
    phases = [replace(one, strokes=each, seconds=arguments.seconds) for one in POINTS] + [
        replace(one, strokes=strokes) for one in broken
    ]
    words = [word.strip() for word in arguments.only.split(",") if word.strip()]
    chosen = [one for one in phases if not words or any(word in one.name for word in words)]
    if not chosen:
        sys.exit(f"--only {arguments.only!r} names no phase; there are:\n  " + "\n  ".join(one.name for one in phases))
    return chosen


async def _run(arguments: argparse.Namespace, record: Report, logs: Path) -> None:
    phases = _chosen(arguments)
    wrong = SABOTAGE if arguments.sabotage else ()
    of_three = [one for one in phases if one.name in {three.name for three in OF_THREE_NODES}]
    of_one = [one for one in phases if one not in of_three]
    places = asyncio.Semaphore(arguments.at_once)
    print(report.title(), flush=True)
    if of_one or wrong:
        async with Lab(kafka_nodes=1, logs=logs) as lab:
            await _carry_out(lab, of_one, places, record)
            spoiled = await asyncio.gather(*(_figures(lab, one, places) for one in wrong))
            for one, figures in zip(wrong, spoiled, strict=True):
                record.found[one.name] = figures[one.finds] > 0
                print(f"  wrong on purpose, {'found out' if record.found[one.name] else 'NOT FOUND OUT'}: {one.name}")
    if of_three:
        async with Lab(kafka_nodes=3, logs=logs) as lab:
            await _carry_out(lab, of_three, places, record)


async def _carry_out(lab: Lab, phases: Sequence[Phase], places: asyncio.Semaphore, record: Report) -> None:
    """Kill processes in several phases at a time; what is done to a server meets everybody, so that comes alone."""

    async def one_of_several(one: Phase) -> None:
        record.add(one.name, await _figures(lab, one, places))

    await asyncio.gather(*(one_of_several(one) for one in phases if one.stroke is None))
    for one in phases:
        if one.stroke is not None:
            await one_of_several(one)


async def _figures(lab: Lab, one: Phase, places: asyncio.Semaphore) -> dict[str, Any]:
    async with places:
        try:
            result = await phase.run(lab, one)
        except ChildError as error:  # a process would not start: once more before the whole run is given up
            print(f"  {one.name}, from the beginning again: {error}"[:600], flush=True)
            result = await phase.run(lab, one)
        figures = report.figures_of(result)
    print(report.line(one.name, figures), flush=True)
    return figures


if __name__ == "__main__":
    sys.exit(main())
