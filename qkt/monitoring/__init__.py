"""Monitoring: metrics, alerts and a status page, all read from public state and never on an order's path.

`Metrics` exports to Prometheus. It reads `broker.health`, `broker.reports`, `broker.open_orders()` and client
statistics, and subscribes to events; no call of it changes an order.
"""

from qkt.monitoring.metrics import Metrics

__all__ = ["Metrics"]
