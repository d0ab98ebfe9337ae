"""Dashboards, alerts and the compose file ask for what the code has, and for nothing else."""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from essay_pipeline.intake.settings import IntakeSettings
from essay_pipeline.notify.settings import NotifySettings
from essay_pipeline.settings import PipelineSettings
from essay_pipeline.spellcheck.settings import SpellcheckSettings

from .promql import UnknownNameError, labels_of

ROOT = Path(__file__).resolve().parent.parent
DEPLOY = ROOT / "deploy"
PROMETHEUS = DEPLOY / "prometheus"
SETTINGS: dict[str, type[PipelineSettings]] = {
    "intake": IntakeSettings,
    "spellcheck": SpellcheckSettings,
    "notify": NotifySettings,
}

Known = Mapping[str, frozenset[str]]


def _yaml(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def _relabelled(series: str, labels: frozenset[str], rules: list[dict[str, Any]]) -> tuple[str, frozenset[str]]:
    """What ``metric_relabel_configs`` makes of a series; only what these rules use is understood."""
    values = {"__name__": series}
    for rule in rules:
        assert rule.get("action", "replace") == "replace"
        source = ";".join(values.get(name, "") for name in rule["source_labels"])
        if (found := re.fullmatch(rule["regex"], source)) is not None:
            template = re.sub(r"\$\{?(\d)\}?", r"\\\1", rule["replacement"])  # Python writes \1 for $1
            values[rule["target_label"]] = found.expand(template)
    return values.pop("__name__"), labels | values.keys()


@pytest.fixture(name="known", scope="module")
def _known() -> Known:
    """What Prometheus has after a scrape of a service that uses everything: registered, and relabelled as configured."""
    done = subprocess.run(  # noqa: S603  # our own code
        [sys.executable, str(ROOT / "tests/registered.py")], capture_output=True, text=True, timeout=100, check=True
    )
    rules = _yaml(PROMETHEUS / "prometheus.yml")["scrape_configs"][0]["metric_relabel_configs"]
    pairs = (_relabelled(name, frozenset(labels), rules) for name, labels in sorted(json.loads(done.stdout).items()))
    return {"up": frozenset(), **dict(pairs)}


def _dashboards() -> Iterator[dict[str, Any]]:
    for path in sorted((DEPLOY / "grafana/dashboards").glob("*.json")):
        yield json.loads(path.read_text(encoding="utf-8"))


def _panel_expressions() -> list[tuple[str, str]]:
    return [
        (f"{dashboard['title']}: {panel['title']}", target["expr"])
        for dashboard in _dashboards()
        for panel in dashboard["panels"]
        for target in panel["targets"]
    ]


def _rules() -> list[dict[str, Any]]:
    return [
        rule
        for path in sorted((PROMETHEUS / "rules").glob("*.yml"))
        for group in _yaml(path)["groups"]
        for rule in group["rules"]
    ]


def _plain(expression: str) -> str:
    return expression.replace("$__rate_interval", "5m").replace("$job", ".+")


def test_the_dashboards_are_what_their_descriptions_say() -> None:
    """``make generate`` would change no dashboard."""
    script = ROOT / "scripts/generate_dashboards.py"
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(script.parent))
        spec = importlib.util.spec_from_file_location("generate_dashboards", script)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        wanted = module.rendered()
    found = {path.name: path.read_text(encoding="utf-8") for path in (DEPLOY / "grafana/dashboards").iterdir()}
    assert found == wanted


def test_every_panel_asks_for_what_exists(known: Known) -> None:
    """Metric and label names of every panel's expressions and legend are those that the code registers."""
    expressions = _panel_expressions()
    assert len(expressions) > 50
    for dashboard in _dashboards():
        assert re.findall(r"label_values\((\w+), job\)", json.dumps(dashboard["templating"])) != []
        for name in re.findall(r"label_values\((\w+), job\)", json.dumps(dashboard["templating"])):
            assert name in known
        for panel in dashboard["panels"]:
            assert panel["description"]
            for target in panel["targets"]:
                labels = labels_of(_plain(target["expr"]), known)
                assert set(re.findall(r"{{(\w+)}}", target["legendFormat"])) <= labels, panel["title"]


def test_every_alert_asks_for_what_exists(known: Known) -> None:
    """The same for rules, and the labels that their texts name are left in the result."""
    rules = _rules()
    assert len({rule["alert"] for rule in rules}) == len(rules) > 25
    for rule in rules:
        labels = labels_of(rule["expr"], known)
        named = set(re.findall(r"\$labels\.(\w+)", json.dumps(rule["annotations"])))
        assert named <= labels, rule["alert"]
        assert "job" in labels, rule["alert"]


def test_every_alert_says_what_to_do() -> None:
    """Each has a summary, an action of more than a word, and a known severity; commands that it names exist."""
    help_text = subprocess.run(  # our own program
        [sys.executable, "-m", "huleedu_service_libs.cli", "outbox", "--help"],
        capture_output=True, text=True, timeout=60, check=True, env={**os.environ, "COLUMNS": "200"},
    ).stdout  # fmt: skip
    for rule in _rules():
        assert rule["labels"]["severity"] in {"page", "ticket"}
        assert rule["annotations"].keys() == {"summary", "action"}
        assert len(rule["annotations"]["action"]) > 40
        for command in re.findall(r"`huleedu outbox (\w+)`", rule["annotations"]["action"]):
            assert re.search(rf"\b{command}\b", help_text), command


@pytest.mark.parametrize(
    ("expression", "says"),
    [
        ("sum(rate(no_such_total[5m]))", "no metric 'no_such_total'"),
        ('outbox_relays{servce="x"}', "has no label servce"),
        ("sum by (servce) (outbox_relays)", "has no label servce"),
        ("sum by (job) (sum by (service) (outbox_relays))", "has no label job"),
        ("histogram_quantile(0.9, sum by (job) (rate(outbox_batch_size_bucket[5m])))", "has no label le"),
        ("sum by (job) (outbox_relays) / sum by (service) (outbox_relays)", "have different labels"),
        ("svc_database_connections_active", "no metric"),
    ],
)
def test_a_wrong_name_is_found(known: Known, expression: str, says: str) -> None:
    """The check sees a metric or label that does not exist, was summed away, or was renamed by relabelling."""
    with pytest.raises(UnknownNameError, match=re.escape(says)):
        labels_of(expression, known)


def test_the_page_lists_the_alerts_as_they_are() -> None:
    """The how-to page has every alert in its group, and its example is one of the rules, word for word."""
    page = (ROOT / "docs/how-to/dashboards-and-alerts.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(huleedu-\w+)` \| (.*) \|$", page, flags=re.MULTILINE)
    listed = {group: re.findall(r"`(\w+)`", alerts) for group, alerts in rows}
    groups = _yaml(PROMETHEUS / "rules/huleedu.yml")["groups"]
    assert listed == {group["name"]: [rule["alert"] for rule in group["rules"]] for group in groups}
    (example,) = re.findall(r"```yaml\n(.*?)```", page, flags=re.DOTALL)
    assert yaml.safe_load(example)[0] in _rules()


@pytest.fixture(name="promtool", scope="module")
def _promtool() -> str:
    found = shutil.which("promtool")
    if found is None:
        pytest.skip("promtool is not installed (Debian: prometheus): rules are not checked and not unit-tested by it")
    return found


@pytest.mark.parametrize(
    "arguments",
    [("check", "config", "prometheus.yml"), ("check", "rules", "rules/huleedu.yml"),
     ("test", "rules", "tests/huleedu_test.yml")],
    ids=["configuration", "rules", "incidents"],
)  # fmt: skip
def test_promtool_agrees(promtool: str, arguments: tuple[str, ...]) -> None:
    """Prometheus' own tool takes configuration and rules, and the incidents in their unit tests raise those alerts."""
    done = subprocess.run(  # noqa: S603  # the tool that was found
        [promtool, *arguments], cwd=PROMETHEUS, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "SUCCESS" in done.stdout


def test_the_compose_file_fits_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Services' settings come out of their environment, every address names a service, every mount and target exists."""
    compose = _yaml(DEPLOY / "compose.yaml")
    services = compose["services"]
    for name in list(os.environ):
        if name.startswith(("INTAKE_", "SPELLCHECK_", "NOTIFY_", "HULEEDU_INTERNAL")):
            monkeypatch.delenv(name)
    for name, kind in SETTINGS.items():
        for key, value in services[name]["environment"].items():
            monkeypatch.setenv(key, str(value))
        settings = kind()
        addresses = [settings.REDIS_URL, f"kafka://{settings.KAFKA_BOOTSTRAP_SERVERS}"]
        addresses += [settings.DATABASE_URL] if hasattr(settings, "DATABASE_URL") else []
        addresses.append(services[name]["environment"]["OTEL_EXPORTER_OTLP_ENDPOINT"])
        assert {urlsplit(address).hostname for address in addresses} <= services.keys()
        assert settings.HOST == "0.0.0.0"  # noqa: S104  # in a container
        assert services[name]["command"] == ["python", "-m", f"essay_pipeline.{name}"]
        assert importlib.util.find_spec(f"essay_pipeline.{name}.__main__") is not None
        known_keys = {f"{name.upper()}_{field}" for field in kind.model_fields}
        assert {key for key in services[name]["environment"] if key.startswith(name.upper())} <= known_keys
        grace = int(services[name]["stop_grace_period"].removesuffix("s"))
        assert grace > settings.DRAIN_NOTICE_SECONDS + settings.STOP_SECONDS
    scraped = _yaml(PROMETHEUS / "prometheus.yml")["scrape_configs"]
    targets = {job["job_name"]: job["static_configs"][0]["targets"] for job in scraped}
    assert targets == {name: [f"{name}:{kind().PORT}"] for name, kind in SETTINGS.items()}
    mounts = [mount for service in services.values() for mount in service.get("volumes", ())]
    assert mounts
    for mount in mounts:
        assert (DEPLOY / mount.split(":")[0]).exists(), mount
    for source in re.findall(r"^COPY (\S+)", (DEPLOY / "Dockerfile").read_text(encoding="utf-8"), flags=re.MULTILINE):
        assert (ROOT / source).exists()


def test_grafana_finds_its_sources() -> None:
    """Every job is relabelled alike; Grafana's sources are the compose file's services, exemplars lead to a source."""
    services = _yaml(DEPLOY / "compose.yaml")["services"]
    jobs = _yaml(PROMETHEUS / "prometheus.yml")["scrape_configs"]
    assert len({json.dumps(job["metric_relabel_configs"]) for job in jobs}) == 1
    sources = _yaml(DEPLOY / "grafana/provisioning/datasources/huleedu.yaml")["datasources"]
    assert {urlsplit(source["url"]).hostname for source in sources} <= services.keys()
    uids = {source["uid"] for source in sources}
    destinations = sources[0]["jsonData"]["exemplarTraceIdDestinations"]
    assert {each["datasourceUid"] for each in destinations} <= uids
    folder = _yaml(DEPLOY / "grafana/provisioning/dashboards/huleedu.yaml")["providers"][0]["options"]["path"]
    assert any(mount.split(":")[1] == folder for mount in services["grafana"]["volumes"])
