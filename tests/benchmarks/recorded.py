"""Medians of the last full run, written by `make bench-page`; a quick run fails on twice as bad."""

RATIOS: dict[str, float] = {
    "import": 2.723,
    "get-pybit": 0.764,
    "get-ccxt": 1.011,
    "submit-rest": 0.978,
    "executions-one": 0.406,
    "executions-100": 0.881,
    "orders": 1.030,
    "latency-p50": 1.253,
    "latency-p99": 1.879,
    "lives": 453.545,
    "lives-pybit": 1.266,
    "lives-flat": 1.070,
    "reconcile-ccxt": 1.278,
    "reconcile-pybit": 2.852,
    "accounts-threads": 301.000,
    "accounts-memory": 266.560,
    "accounts-cpu": 2.407,
    "fact-orders": 1.066,
    "fact-fills": 10.282,
    "fills-memory": 7.700,
}
