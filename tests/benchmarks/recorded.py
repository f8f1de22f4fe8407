"""Medians of the last full run, written by `make bench-page`; a quick run fails on twice as bad."""

RATIOS: dict[str, float] = {
    "import": 2.710,
    "get-pybit": 0.780,
    "get-ccxt": 1.019,
    "submit-rest": 0.967,
    "executions-one": 0.419,
    "executions-100": 0.884,
    "orders": 1.060,
    "latency-p50": 1.290,
    "latency-p99": 1.970,
    "lives": 458.857,
    "lives-pybit": 1.301,
    "lives-flat": 0.839,
    "reconcile-ccxt": 1.299,
    "reconcile-pybit": 3.096,
    "accounts-threads": 301.000,
    "accounts-memory": 266.880,
    "accounts-cpu": 2.267,
    "fact-orders": 1.080,
    "fact-fills": 16.268,
    "fills-memory": 7.774,
}
