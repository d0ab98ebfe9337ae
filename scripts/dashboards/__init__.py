"""What the dashboards in ``deploy/grafana`` show; `generate_dashboards` makes Grafana's JSON of it."""

from dashboards.breakers import BREAKERS
from dashboards.consumers import CONSUMERS
from dashboards.database import DATABASE
from dashboards.outbox import OUTBOX
from dashboards.panels import Dashboard, Panel
from dashboards.services import SERVICES

__all__ = ["DASHBOARDS", "Dashboard", "Panel"]

DASHBOARDS = (SERVICES, OUTBOX, CONSUMERS, BREAKERS, DATABASE)
