"""Monitoring: metrics, alerts and a status page, all read from public state and never on an order's path.

`Metrics` exports to Prometheus, `Alerts` sends a message once per episode, `serve_status` shows one page in a browser.
They read `broker.health`, `broker.reports`, `broker.open_orders()` and client statistics, and subscribe to events; no
call of theirs changes an order. Extras: ``qkt[metrics]``, ``qkt[alerts]`` (a JSON webhook works without it) and
``qkt[web]``.
"""

from qkt.monitoring.alert_rules import AlertRules
from qkt.monitoring.alerts import Alerts, AlertStats
from qkt.monitoring.metrics import Metrics
from qkt.monitoring.status.history import StatusHistory
from qkt.monitoring.status.server import StatusServer, serve_status

__all__ = ["AlertRules", "AlertStats", "Alerts", "Metrics", "StatusHistory", "StatusServer", "serve_status"]
