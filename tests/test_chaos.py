"""The short form of ``make chaos``: every crash point and fault at least once, and the oracle can fail."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from chaos import points as at
from chaos.hunt import plan_of
from chaos.world import Phase
from huleedu_service_libs.testing.devstack import KafkaServer, Kind

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.integration
@pytest.mark.timeout(700)
def test_nothing_is_lost_reordered_or_doubled_whatever_is_killed(kafka_server: KafkaServer, tmp_path: Path) -> None:
    """Every crash point strikes, every fault happens, nothing is lost; what is wrong on purpose is found out."""
    if kafka_server.kind is not Kind.JVM:
        pytest.skip("killing a broker needs one of our own: Java and Maven")
    done = subprocess.run(  # noqa: S603  # our own program
        [
            sys.executable,
            "-m",
            "chaos",
            "--short",
            "--sabotage",
            "--at-once",
            "5",
            "--json",
            str(tmp_path / "results.json"),
        ],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT / "benchmarks")},
        capture_output=True,
        text=True,
        timeout=680,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    results = json.loads((tmp_path / "results.json").read_text())
    assert (results["lost"], results["reordered"], results["doubled"], results["phantoms"]) == (0, 0, 0, 0)
    assert len(results["points"]) > 17
    for name, figures in results["points"].items():
        assert figures["kills"] >= 1, name
    assert len(results["sabotage_found"]) >= 5
    assert all(results["sabotage_found"].values())


@pytest.mark.parametrize("point", sorted(at.ONCE_IN_A_LIFE))
@pytest.mark.parametrize("static", [True, False])
def test_a_point_that_comes_once_in_a_life_is_not_passed_over(point: str, *, static: bool) -> None:
    """Whoever is asked to leave, or meets the rebalance that was made for it, dies there, however soon that is."""
    phase = Phase(name=point, role=point.partition(":")[0], static=static, strokes=45)
    assert {plan_of(phase).rest_s for _ in range(100)} == {0.0}


def test_other_consumers_work_for_a_while_before_they_die() -> None:
    """Three of four, so that the time to recover is that of one death."""
    phase = Phase(name=at.HANDLED_BEFORE_COMMIT, role="consumer", strokes=45)
    assert {plan_of(phase).rest_s for _ in range(200)} == {0.0, 2.0}
