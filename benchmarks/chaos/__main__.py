"""Kills, breaks, judges, and prints what it came to. Run by ``make chaos``."""

import argparse
import asyncio
import json
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
from chaos.phase import Phase

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "chaos" / "results.json"

POINTS = (
    *(Phase(name=name, role="producer") for name in at.PRODUCER_POINTS),
    *(Phase(name=name, role="relay") for name in at.RELAY_POINTS),
    *(Phase(name=name, role="consumer", effects=True) for name in at.CONSUMER_POINTS),
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
        point=at.MID_OFFSET,
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
)


def main() -> int:
    """Run; 1 when something was lost, reordered, doubled or made up, or when a sabotage was not found out."""
    arguments = _parser().parse_args()
    logging.disable(logging.CRITICAL)
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        figures, found = asyncio.run(_run(arguments, arguments.logs or Path(folder)))
    if arguments.merge and arguments.json.exists():
        figures = {**json.loads(arguments.json.read_text())["points"], **figures}
    total = report.in_all(figures)
    print(report.line("in all", total))
    report.write(arguments.json, figures, found, ["make chaos", *sys.argv[1:]])
    print(arguments.json)
    good = not (total["lost"] or total["reordered"] or total["doubled"] or total["phantoms"]) and total["drained"]
    return 0 if good and all(found.values()) else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    parser.add_argument("--kills", type=int, default=1000, help="SIGKILLs over all crash points (default: 1000)")
    parser.add_argument("--strokes", type=int, default=3, help="times that each server fault happens (default: 3)")
    parser.add_argument("--short", action="store_true", help="every crash point and fault, once")
    parser.add_argument("--only", default="", help="only phases whose name contains this; several with commas")
    parser.add_argument("--sabotage", action="store_true", help="also run what is wrong on purpose: must be found out")
    parser.add_argument("--at-once", type=int, default=3, help="crash points that run at the same time (default: 3)")
    parser.add_argument("--merge", action="store_true", help="keep the other phases of the results file")
    parser.add_argument("--json", type=Path, default=RESULTS, help="where the results go")
    parser.add_argument("--logs", type=Path, default=None, help="folder that keeps the processes' output")
    return parser


def _chosen(arguments: argparse.Namespace) -> list[Phase]:
    each = 1 if arguments.short else -(-arguments.kills // len(POINTS))
    broken = (EVERY_FAULT,) if arguments.short else (*FAULTS, *OF_THREE_NODES)
    strokes = 1 if arguments.short else arguments.strokes
    phases = [replace(one, strokes=each) for one in POINTS] + [replace(one, strokes=strokes) for one in broken]
    words = [word.strip() for word in arguments.only.split(",") if word.strip()]
    chosen = [one for one in phases if not words or any(word in one.name for word in words)]
    if not chosen:
        sys.exit(f"--only {arguments.only!r} names no phase; there are:\n  " + "\n  ".join(one.name for one in phases))
    return chosen


async def _run(arguments: argparse.Namespace, logs: Path) -> tuple[dict[str, dict[str, Any]], dict[str, bool]]:
    """The figures of each phase, and whether each sabotage was found out."""
    figures: dict[str, dict[str, Any]] = {}
    found: dict[str, bool] = {}
    phases = _chosen(arguments)
    print(report.title())
    of_three = [one for one in phases if one.name in {three.name for three in OF_THREE_NODES}]
    of_one = [one for one in phases if one not in of_three]
    wrong = SABOTAGE if arguments.sabotage else ()
    places = asyncio.Semaphore(arguments.at_once)
    if of_one or wrong:
        async with Lab(kafka_nodes=1, logs=logs) as lab:
            figures |= await _several(lab, [one for one in of_one if one.stroke is None], places)
            for one in of_one:
                if one.stroke is not None:  # what is done to a server meets everybody
                    figures |= await _several(lab, [one], places)
            spoiled = await _several(lab, wrong, places)
            for one in wrong:
                found[one.name] = spoiled[one.name][one.finds] > 0
                print(f"  wrong on purpose, {'found out' if found[one.name] else 'NOT FOUND OUT'}: {one.name}")
    if of_three:
        async with Lab(kafka_nodes=3, logs=logs) as lab:
            for one in of_three:
                figures |= await _several(lab, [one], places)
    return figures, found


async def _several(lab: Lab, phases: Sequence[Phase], places: asyncio.Semaphore) -> dict[str, dict[str, Any]]:
    """The figures of phases that do not disturb each other, in their order."""
    figures = await asyncio.gather(*(_figures(lab, one, places) for one in phases))
    return {one.name: found for one, found in zip(phases, figures, strict=True)}


async def _figures(lab: Lab, one: Phase, places: asyncio.Semaphore) -> dict[str, Any]:
    async with places:
        figures = report.figures_of(await phase.run(lab, one))
    print(report.line(one.name, figures), flush=True)
    return figures


if __name__ == "__main__":
    sys.exit(main())
