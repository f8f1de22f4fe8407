"""The median of each figure in the last full run, written by `make bench-page`; a quick run fails on twice as bad."""

RATIOS: dict[str, float] = {
    "import": 2.708,
    "get-pybit": 1.179,
    "get-ccxt": 1.629,
    "submit-rest": 0.973,
    "executions-one": 0.404,
    "executions-100": 0.897,
    "orders": 1.114,
    "latency-p50": 1.343,
    "latency-p99": 2.932,
    "lives": 442.851,
    "lives-pybit": 1.283,
    "lives-flat": 1.086,
    "reconcile-ccxt": 1.193,
    "reconcile-pybit": 2.710,
    "accounts-threads": 301.000,
    "accounts-memory": 267.440,
    "accounts-cpu": 3.425,
    "fact-orders": 1.054,
    "fact-fills": 18.323,
    "fills-memory": 7.741,
}
