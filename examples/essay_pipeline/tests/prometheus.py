"""A real Prometheus with the configuration and the rules of ``deploy/``, in seconds instead of minutes.

The scrape jobs keep their relabelling and get the addresses of services that run here; ``for``, intervals and ranges are
shortened alike, so that what takes minutes out there can be seen in a test. Held by a warden, as the servers of
``devstack`` are: it ends with the process that started it, also when that is killed. Knows no service.
"""

import re
import shutil
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
import yaml

from huleedu_service_libs.testing.devstack.local import LocalProcess, LocalServer, free_ports
from huleedu_service_libs.testing.devstack.run_folders import create_run_folder
from huleedu_service_libs.testing.devstack.supervision import Command, Supervisor

__all__ = ["RANGE", "RealPrometheus", "installed", "panels"]

DEPLOY = Path(__file__).resolve().parents[3] / "deploy"
RANGE = "20s"

_HOST = "127.0.0.1"
_READY_LIMIT_S = 30.0
_LOOK_S = 0.25
_NOT_A_RANGE = re.compile(r"\[\d+[smh]\]")


def installed() -> str | None:
    """The path of the program, when there is one."""
    return shutil.which("prometheus")


def panels() -> dict[str, str]:
    """Every expression of every dashboard, by ``dashboard: panel (number)``, with the dashboards' variables filled in."""
    found = {}
    for path in sorted((DEPLOY / "grafana/dashboards").glob("*.json")):
        for panel in yaml.safe_load(path.read_text(encoding="utf-8"))["panels"]:
            for number, target in enumerate(panel["targets"]):
                expression = target["expr"].replace("$__rate_interval", RANGE).replace("$job", ".+")
                name = f"{path.stem.removeprefix('huleedu-')}: {panel['title']}"
                found[f"{name} ({number})" if number else name] = _NOT_A_RANGE.sub(f"[{RANGE}]", expression)
    return found


class RealPrometheus:
    """One Prometheus process in a folder of its own, from ``with`` to its end.

    Args:
        folder: For its files and its log.
        targets: ``host:port`` by job.
    """

    def __init__(self, folder: Path, targets: Mapping[str, str]) -> None:
        self._folder = folder
        self._targets = targets
        (port,) = free_ports(1)
        self._address = f"{_HOST}:{port}"
        self._http = httpx.Client(base_url=f"http://{self._address}/api/v1", timeout=10, trust_env=False)
        self._supervisor: Supervisor | None = None
        self._process: LocalProcess | None = None

    @property
    def pid(self) -> int | None:
        """Its process id while it runs, else None."""
        return None if self._process is None else self._process.pid

    def __enter__(self) -> Self:
        (self._folder / "rules.yml").write_text(self._rules(), encoding="utf-8")
        (self._folder / "prometheus.yml").write_text(self._configuration(), encoding="utf-8")
        self._supervisor = Supervisor(create_run_folder())
        self._process = LocalProcess(self._server(), self._supervisor)
        try:
            self._process.start()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def _stop(self) -> None:
        self._http.close()
        if self._supervisor is not None:
            self._supervisor.close()

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The samples of an expression now.

        Raises:
            AssertionError: Prometheus refuses the expression.
        """
        answer = self._http.get("/query", params={"query": expression}).json()
        assert answer["status"] == "success", f"{expression}: {answer.get('error')}"
        found: list[dict[str, Any]] = answer["data"]["result"]
        return found

    def firing(self) -> set[tuple[str, str]]:
        """Alert and job of everything that fires."""
        alerts = self._http.get("/alerts").json()["data"]["alerts"]
        return {(each["labels"]["alertname"], each["labels"]["job"]) for each in alerts if each["state"] == "firing"}

    def rules(self) -> list[dict[str, Any]]:
        """Every rule with its ``health`` and its last error."""
        groups = self._http.get("/rules").json()["data"]["groups"]
        return [rule for group in groups for rule in group["rules"]]

    def until(self, condition: Callable[[], object], limit_s: float, what: str) -> None:
        """Wait until it holds.

        Raises:
            AssertionError: It does not in time; the text has the end of Prometheus' log.
        """
        deadline = time.monotonic() + limit_s
        while not condition():
            if time.monotonic() > deadline:
                log = (self._folder / "prometheus.log").read_text(encoding="utf-8", errors="replace")
                raise AssertionError(f"not within {limit_s:g} s: {what}\n{log[-2000:]}")
            time.sleep(_LOOK_S)

    def _server(self) -> LocalServer:
        command = Command(
            argv=[
                installed() or "prometheus",
                f"--config.file={self._folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={self._folder / 'data'}",
                f"--web.listen-address={self._address}",
                "--enable-feature=exemplar-storage",
            ],
            log=self._folder / "prometheus.log",
            cwd=self._folder,
            ending_signal=signal.SIGTERM,
        )
        return LocalServer(
            name="prometheus",
            address=self._address,
            command=command,
            is_ready=self._answers,
            start_limit=_READY_LIMIT_S,
        )

    def _answers(self) -> bool:
        try:
            return self._http.get("/status/runtimeinfo").status_code == httpx.codes.OK
        except httpx.HTTPError:
            return False

    def _configuration(self) -> str:
        configuration = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text(encoding="utf-8"))
        configuration["global"] = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
        configuration["rule_files"] = ["rules.yml"]
        for job in configuration["scrape_configs"]:
            job["static_configs"] = [{"targets": [self._targets[job["job_name"]]]}]
        return str(yaml.safe_dump(configuration))

    @staticmethod
    def _rules() -> str:
        rules = yaml.safe_load((DEPLOY / "prometheus/rules/huleedu.yml").read_text(encoding="utf-8"))
        for group in rules["groups"]:
            for rule in group["rules"]:
                rule["expr"] = _NOT_A_RANGE.sub(f"[{RANGE}]", rule["expr"])
                if "for" in rule:
                    rule["for"] = "2s"
        return str(yaml.safe_dump(rules))
