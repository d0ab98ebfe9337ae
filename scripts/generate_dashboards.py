"""Writes ``deploy/grafana/dashboards`` from their descriptions. ``make generate`` runs it; a test compares."""

import json
from pathlib import Path
from typing import Any

from dashboards import DASHBOARDS, Dashboard, Panel

__all__ = ["FOLDER", "main", "rendered"]

FOLDER = Path(__file__).resolve().parent.parent / "deploy" / "grafana" / "dashboards"

_DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
_COLUMNS, _WIDTH, _HEIGHT = 3, 8, 8


def rendered() -> dict[str, str]:
    """The text of each file, by its name."""
    return {
        f"{each.uid}.json": json.dumps(_dashboard(each), indent=2, ensure_ascii=False) + "\n" for each in DASHBOARDS
    }


def _dashboard(dashboard: Dashboard) -> dict[str, Any]:
    links = {"type": "dashboards", "title": "HuleEdu", "tags": ["huleedu"], "asDropdown": False, "keepTime": True}
    return {
        "uid": dashboard.uid,
        "title": dashboard.title,
        "tags": ["huleedu"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "links": [links],
        "templating": {"list": _variables(dashboard.anchor)},
        "panels": [_panel(panel, number) for number, panel in enumerate(dashboard.panels)],
    }


def _variables(anchor: str) -> list[dict[str, Any]]:
    query = f"label_values({anchor}, job)"
    return [
        {"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Data source"},
        {
            "name": "job",
            "type": "query",
            "label": "Service",
            "datasource": _DATASOURCE,
            "definition": query,
            "query": {"query": query, "refId": "jobs"},
            "refresh": 2,
            "sort": 1,
            "multi": True,
            "includeAll": True,
            "allValue": ".+",
            "current": {"text": "All", "value": "$__all"},
        },
    ]


def _panel(panel: Panel, number: int) -> dict[str, Any]:
    row, column = divmod(number, _COLUMNS)
    return {
        "id": number + 1,
        "title": panel.title,
        "description": panel.help,
        "type": panel.kind,
        "datasource": _DATASOURCE,
        "gridPos": {"x": column * _WIDTH, "y": row * _HEIGHT, "w": _WIDTH, "h": _HEIGHT},
        "fieldConfig": {"defaults": _defaults(panel), "overrides": []},
        "options": _options(panel),
        "targets": [
            {
                "refId": chr(ord("A") + place),
                "datasource": _DATASOURCE,
                "expr": expression,
                "legendFormat": legend,
                **({"exemplar": True} if panel.exemplars else {}),
            }
            for place, (legend, expression) in enumerate(panel.queries.items())
        ],
    }


def _defaults(panel: Panel) -> dict[str, Any]:
    options = {str(number): {"text": text, "color": color} for number, (text, color) in panel.states.items()}
    mappings = [{"type": "value", "options": options}] if options else []
    return {"unit": panel.unit, "min": 0, "mappings": mappings, "color": {"mode": "palette-classic"}}


def _options(panel: Panel) -> dict[str, Any]:
    if panel.kind == "timeseries":
        return {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi", "sort": "desc"}}
    return {"reduceOptions": {"calcs": ["lastNotNull"]}} if panel.kind == "stat" else {"showValue": "never"}


def main() -> None:
    """Write the files."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, text in rendered().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
        print(f"deploy/grafana/dashboards/{name}")


if __name__ == "__main__":
    main()
