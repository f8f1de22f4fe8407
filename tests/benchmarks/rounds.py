"""Work: one reconcile round in which all 500 orders and 1,000 executions are known already."""

from __future__ import annotations

import time
from typing import Any

from tests.benchmarks import wire
from tests.benchmarks.harness import Figure, Measured, Sample, alternate, children, column, paired
from tests.benchmarks.run import Run
from tests.benchmarks.servers import Door
from tests.benchmarks.sides import QktSession, ccxt_exchange, pybit_http

FIGURES = (
    Figure(
        key="reconcile-ccxt",
        title="reconcile 500 orders + 1,000 executions, all known",
        unit="x ccxt",
        must=0.45,
        stretch=0.30,
    ),
    Figure(key="reconcile-pybit", title="the same beside pybit's raw dictionaries", unit="x pybit"),
)
ORDERS, FILLS_EACH = 500, 2


def full_door(door: Door) -> Door:
    """A new door that holds the orders and executions of this work."""
    found = door.another()
    found.hold(orders=ORDERS, fills_each=FILLS_EACH)
    return found


class QktReconcile:
    """``reconcile()`` after the round that learnt everything; a fresh session per sample."""

    def __init__(self, door: Door, rounds: int) -> None:
        self._door, self._rounds = door, rounds

    def sample(self) -> Sample:
        session = QktSession(full_door(self._door))
        known = len(session.broker.open_orders())
        if known != ORDERS:
            raise RuntimeError(f"the broker knows {known} open orders of {ORDERS}")
        session.broker.reconcile()
        begun = time.process_time()
        for _ in range(self._rounds):
            report = session.broker.reconcile()
        used = time.process_time() - begun
        if not report.ok or report.discrepancies:
            raise RuntimeError(f"the round was not quiet:\n{report}")
        session.close()
        return {"ms": used / self._rounds * 1e3}

    def close(self) -> None:
        """Each sample closes its own session."""


class CcxtRead:
    """``fetch_open_orders`` and ``fetch_my_trades``, page by page."""

    def __init__(self, door: Door, rounds: int) -> None:
        self._exchange, self._rounds = ccxt_exchange(full_door(door)), rounds

    def sample(self) -> Sample:
        begun = time.process_time()
        for _ in range(self._rounds):
            orders = self._pages(self._exchange.fetch_open_orders, wire.ORDER_PAGE)
            trades = self._pages(self._exchange.fetch_my_trades, wire.EXECUTION_PAGE)
        used = time.process_time() - begun
        _check_counts(orders, trades)
        return {"ms": used / self._rounds * 1e3}

    def _pages(self, fetch: Any, limit: int) -> list[Any]:
        found: list[Any] = []
        cursor = ""
        while True:
            found += fetch("BTC/USDT", None, limit, {"cursor": cursor} if cursor else {})
            cursor = self._exchange.last_json_response["result"]["nextPageCursor"]
            if not cursor:
                return found

    def close(self) -> None:
        self._exchange.session.close()


class PybitRead:
    """``get_open_orders`` and ``get_executions``, page by page, as raw dictionaries."""

    def __init__(self, door: Door, rounds: int) -> None:
        self._session, self._rounds = pybit_http(full_door(door)), rounds

    def sample(self) -> Sample:
        begun = time.process_time()
        for _ in range(self._rounds):
            orders = self._pages(self._session.get_open_orders, wire.ORDER_PAGE)
            trades = self._pages(self._session.get_executions, wire.EXECUTION_PAGE)
        used = time.process_time() - begun
        _check_counts(orders, trades)
        return {"ms": used / self._rounds * 1e3}

    def _pages(self, fetch: Any, limit: int) -> list[Any]:
        found: list[Any] = []
        cursor = ""
        while True:
            result = fetch(category="spot", symbol=wire.SYMBOL, limit=limit, cursor=cursor)["result"]
            found += result["list"]
            cursor = result["nextPageCursor"]
            if not cursor:
                return found

    def close(self) -> None:
        self._session.client.close()


def _check_counts(orders: list[Any], trades: list[Any]) -> None:
    if (len(orders), len(trades)) != (ORDERS, ORDERS * FILLS_EACH):
        raise RuntimeError(f"read {len(orders)} orders and {len(trades)} executions")


def measure(run: Run) -> list[Measured]:
    """qkt's round also reads the conditional orders and the wallet; the peers read only the two lists."""
    rounds = run.pick(full=5, quick=2)
    with children(
        (QktReconcile, run.door, rounds), (CcxtRead, run.door, rounds), (PybitRead, run.door, rounds)
    ) as sides:
        turns = alternate(sides, run.pick(full=9, quick=3))
    ours, ccxt, pybit = (column(turns, side, "ms") for side in range(3))
    return [paired("reconcile-ccxt", ours, ccxt, "ms"), paired("reconcile-pybit", ours, pybit, "ms")]
