"""Works over REST: a signed GET of the wallet, a submit to its ack; and the submit over the WebSocket."""

from __future__ import annotations

import time
from typing import Any

from tests.benchmarks import wire
from tests.benchmarks.harness import Figure, Measured, Sample, alternate, children, column, paired
from tests.benchmarks.run import Run
from tests.benchmarks.servers import Door
from tests.benchmarks.sides import (
    QktSession,
    can_enter_orders_by_websocket,
    ccxt_exchange,
    limit_orders,
    pybit_http,
)

FIGURES = (
    Figure(key="get-pybit", title="signed GET (wallet)", unit="x pybit", must=0.45, stretch=0.35),
    Figure(key="get-ccxt", title="signed GET (wallet)", unit="x ccxt", must=0.50, stretch=0.35),
    Figure(key="submit-rest", title="submit to ack by REST", unit="x pybit", must=0.60, stretch=0.45),
    Figure(key="submit-websocket", title="submit to ack by WebSocket", unit="x pybit's REST", must=0.15, stretch=0.10),
)
_ORDER = {
    "category": "spot",
    "symbol": wire.SYMBOL,
    "side": "Buy",
    "orderType": "Limit",
    "qty": str(wire.ORDER_QUANTITY),
    "price": "59000.1",
    "timeInForce": "GTC",
}


class QktGet:
    """``get_signed`` of a fresh client per sample: a client's own budget allows some 80 reads a second."""

    def __init__(self, door: Door, count: int) -> None:
        self._door, self._count = door, count

    def sample(self) -> Sample:
        session = QktSession(self._door.another())
        get, query = session.client.get_signed, {"accountType": "UNIFIED"}
        begun = time.process_time()
        for _ in range(self._count):
            get("/v5/account/wallet-balance", query)
        used = time.process_time() - begun
        session.close()
        return {"us": used / self._count * 1e6}

    def close(self) -> None:
        """Each sample closes its own session."""


class PybitGet:
    """``get_wallet_balance``."""

    def __init__(self, door: Door, count: int) -> None:
        self._session, self._count = pybit_http(door.another()), count

    def sample(self) -> Sample:
        begun = time.process_time()
        for _ in range(self._count):
            self._session.get_wallet_balance(accountType="UNIFIED")
        return {"us": (time.process_time() - begun) / self._count * 1e6}

    def close(self) -> None:
        self._session.client.close()


class CcxtGet:
    """The raw endpoint, without ccxt's own parsing of balances."""

    def __init__(self, door: Door, count: int) -> None:
        self._exchange, self._count = ccxt_exchange(door.another()), count

    def sample(self) -> Sample:
        begun = time.process_time()
        for _ in range(self._count):
            self._exchange.private_get_v5_account_wallet_balance({"accountType": "UNIFIED"})
        return {"us": (time.process_time() - begun) / self._count * 1e6}

    def close(self) -> None:
        self._exchange.session.close()


class QktSubmit:
    """``submit`` on a spot broker, orders built inside the measured time, as pybit's keyword arguments are."""

    def __init__(self, door: Door, count: int, client_options: dict[str, Any]) -> None:
        self._door, self._count, self._options = door, count, client_options
        self._number = 0

    def sample(self) -> Sample:
        session = QktSession(self._door.another(), **self._options)
        numbers = range(self._number, self._number + self._count)
        self._number += self._count
        begun = time.process_time()
        for number in numbers:
            (order,) = limit_orders([number])
            session.broker.submit(order)
        used = time.process_time() - begun
        session.close()
        return {"us": used / self._count * 1e6}

    def close(self) -> None:
        """Each sample closes its own session."""


class PybitSubmit:
    """``place_order``."""

    def __init__(self, door: Door, count: int) -> None:
        self._session, self._count = pybit_http(door.another()), count
        self._number = 0

    def sample(self) -> Sample:
        begun = time.process_time()
        for _ in range(self._count):
            self._number += 1
            self._session.place_order(**_ORDER, orderLinkId=wire.client_order_id(self._number))
        return {"us": (time.process_time() - begun) / self._count * 1e6}

    def close(self) -> None:
        self._session.client.close()


def measure(run: Run) -> list[Measured]:
    """The three rows, and the fourth once the client can enter orders by WebSocket."""
    rounds, count = run.pick(full=11, quick=4), run.pick(full=350, quick=150)
    with children((QktGet, run.door, count), (PybitGet, run.door, count), (CcxtGet, run.door, count)) as sides:
        turns = alternate(sides, rounds)
    qkt, pybit, ccxt = (column(turns, side, "us") for side in range(3))
    rows = [paired("get-pybit", qkt, pybit, "us"), paired("get-ccxt", qkt, ccxt, "us")]
    has_websocket = can_enter_orders_by_websocket()
    contestants: list[tuple[Any, ...]] = [(PybitSubmit, run.door, count), (QktSubmit, run.door, count, {})]
    if has_websocket:
        contestants.append((QktSubmit, run.door, count, {"order_entry": "websocket"}))
    with children(*contestants) as sides:
        turns = alternate(sides, rounds)
    pybit = column(turns, 0, "us")
    rows.append(paired("submit-rest", column(turns, 1, "us"), pybit, "us"))
    if has_websocket:
        rows.append(paired("submit-websocket", column(turns, 2, "us"), pybit, "us"))
    else:
        rows.append(Measured(key="submit-websocket", skipped="BybitClient has no order_entry yet"))
    return rows
