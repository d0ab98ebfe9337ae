"""What dashboards are made of: panels, and the usual expressions.

Expressions use Grafana's variables ``$job`` and ``$__rate_interval``. Metrics of databases carry the service's name in
front; ``deploy/prometheus/prometheus.yml`` makes a label ``service`` of it, which these expressions rely on.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

__all__ = ["JOB", "Dashboard", "Panel", "quantile", "rate"]

JOB = 'job=~"$job"'


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One panel.

    Attributes:
        title: Its heading: a question where that is natural.
        help: What it shows, and what to do when it looks bad.
        queries: PromQL by legend.
        unit: Of Grafana's names.
        kind: ``timeseries``, ``stat`` or ``state-timeline``.
        states: What numbers mean, with a colour, for states.
        exemplars: Whether dots lead to traces.
    """

    title: str
    help: str
    queries: dict[str, str]
    unit: str = "short"
    kind: str = "timeseries"
    states: dict[int, tuple[str, str]] = field(default_factory=dict)
    exemplars: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Dashboard:
    """One dashboard.

    Attributes:
        uid: Of its file and address.
        title: Its name.
        anchor: A metric that every process on it has, for the list of jobs.
        panels: Three in a row.
    """

    uid: str
    title: str
    anchor: str
    panels: Sequence[Panel]


def rate(metric: str, by: str, more: str = "") -> str:
    """Per second, summed by these labels; ``more`` are further matchers."""
    return f"sum by ({by}) (rate({metric}{{{JOB}{more}}}[$__rate_interval]))"


def quantile(q: float, metric: str, by: str = "job", more: str = "") -> str:
    """A quantile of a histogram."""
    inner = ", ".join(part for part in (by, "le") if part)
    return f"histogram_quantile({q}, sum by ({inner}) (rate({metric}_bucket{{{JOB}{more}}}[$__rate_interval])))"
