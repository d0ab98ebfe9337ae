"""The metrics endpoint: formats, and the numbers of several worker processes."""

import os
import subprocess
import sys
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter

from huleedu_service_libs.middleware.exposition import render_metrics

_WORKER = """
import asyncio, sys
from quart import Quart
from huleedu_service_libs.metrics_middleware import setup_standard_service_metrics_middleware
app = Quart("svc")
setup_standard_service_metrics_middleware(app, "svc")
@app.get("/essays/<essay_id>")
async def essay(essay_id):
    return essay_id
async def main():
    client = app.test_client()
    for number in range(int(sys.argv[1])):
        await client.get(f"/essays/{number}")
asyncio.run(main())
"""
_SCRAPE = """
from huleedu_service_libs.middleware.exposition import render_metrics
print(render_metrics()[0].decode())
"""


def run(code: str, folder: Path, *arguments: str) -> str:
    """Run ``code`` as one worker process of several."""
    done = subprocess.run(  # noqa: S603  # our own
        [sys.executable, "-c", code, *arguments],
        env={**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(folder)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_numbers_of_all_workers_are_added_up(tmp_path: Path) -> None:
    """Two processes count the same route; a third, which serves the endpoint, tells the sum."""
    run(_WORKER, tmp_path, "3")
    run(_WORKER, tmp_path, "4")
    text = run(_SCRAPE, tmp_path)
    (line,) = [each for each in text.splitlines() if each.startswith("http_server_request_duration_seconds_count")]
    assert line.endswith(" 7.0")
    assert 'endpoint="/essays/<essay_id>"' in line
    (active,) = [each for each in text.splitlines() if each.startswith("http_server_active_requests{")]
    assert active == 'http_server_active_requests{service="svc"} 0.0'


def test_the_format_is_the_scrapers() -> None:
    """OpenMetrics, with the exemplar, for who asks for it; else the text that every Prometheus takes."""
    registry = CollectorRegistry()
    Counter("asked", "d", registry=registry).inc(exemplar={"trace_id": "abc"})
    plain, plain_type = render_metrics(None, registry)
    rich, rich_type = render_metrics("application/openmetrics-text; version=1.0.0", registry)
    assert plain_type.startswith("text/plain")
    assert b"trace_id" not in plain
    assert rich_type.startswith("application/openmetrics-text")
    assert b'# {trace_id="abc"}' in rich
