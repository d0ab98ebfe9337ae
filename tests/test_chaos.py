"""The short form of ``make chaos``: every crash point and fault at least once, and the oracle can fail."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

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
