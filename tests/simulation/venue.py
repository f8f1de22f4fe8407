"""The simulation's venue: the whole truth of one account in one category, in memory and without any fault.

Numbers are integers: quantities in whole coins, prices in whole quote coins, balances in thousandths. Rows have the
fields and the text format of the documentation (v5/order/open-order, v5/order/execution, v5/position/position). Faults
belong to `transport`; what an order was at an earlier time is kept here, so that a read can be answered late.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

Row = dict[str, Any]
Emit = Callable[[str, list[Row]], None]

SYMBOLS = ("BTCUSDT", "ETHUSDT")
BASE_OF = {"BTCUSDT": "BTC", "ETHUSDT": "ETH"}
UNHEARD_OF = "PendingSomething"
OPEN = frozenset({"New", "PartiallyFilled", "Untriggered", "Triggered", UNHEARD_OF})

DAY_MS = 24 * 3_600_000
START_MS = 1_700_000_000_000
CLOSED_IN_REALTIME_MS = 600_000

# Codes of docs v5/error, spot and linear.
DUPLICATE_ID = {"spot": 170141, "linear": 110072}
NO_SUCH_ORDER = {"spot": 170213, "linear": 110001}
NO_FUNDS = {"spot": 170131, "linear": 110007}
BAD_AMEND = 10001


class VenueExecution:
    """One trade of one order. ``hidden_until_ms``: when the REST list begins to show it."""

    __slots__ = ("exec_id", "fee", "hidden_until_ms", "leaves", "ms", "order", "price", "quantity", "row", "seq")

    def __init__(self, exec_id: str, order: VenueOrder, quantity: int, price: int, ms: int, seq: int) -> None:
        self.exec_id = exec_id
        self.order = order
        self.quantity = quantity
        self.price = price
        self.ms = ms
        self.seq = seq
        self.hidden_until_ms = 0
        self.fee = ""
        self.leaves = 0
        self.row: Row = {}


class VenueOrder:
    """One order as the venue has it.

    ``versions`` are its rows with the time from which each was true; ``hidden_until_ms``: when reads begin to show it.
    """

    __slots__ = (
        "cancel_type",
        "created_ms",
        "cum",
        "ended_ms",
        "executions",
        "hidden_until_ms",
        "is_conditional",
        "is_market",
        "link_id",
        "order_id",
        "price",
        "quantity",
        "quote_sized",
        "reject_reason",
        "seq",
        "side",
        "status",
        "symbol",
        "terms",
        "trigger",
        "updated_ms",
        "versions",
    )

    def __init__(self, seq: int, order_id: str, link_id: str, symbol: str, side: str, created_ms: int) -> None:
        self.seq = seq
        self.order_id = order_id
        self.link_id = link_id
        self.symbol = symbol
        self.side = side
        self.created_ms = self.updated_ms = created_ms
        self.is_market = self.is_conditional = self.quote_sized = False
        self.quantity = self.price = self.trigger = self.cum = 0
        self.status = "New"
        self.cancel_type = "UNKNOWN"
        self.reject_reason = "EC_NoError"
        self.ended_ms = self.hidden_until_ms = 0
        self.executions: list[VenueExecution] = []
        self.terms: set[tuple[int, int, int]] = set()
        self.versions: list[tuple[int, Row]] = []

    @property
    def is_open(self) -> bool:
        """True until the venue ended it."""
        return not self.ended_ms

    def row_at(self, ms: int) -> Row | None:
        """The row as it was at a time; None before the order arrived."""
        if self.hidden_until_ms > ms:
            return None
        for since_ms, row in reversed(self.versions):
            if since_ms <= ms:
                return row
        return None

    def __repr__(self) -> str:
        return f"{self.order_id}({self.link_id or 'no link id'} {self.status} {self.cum}/{self.quantity})"


class Venue:
    """Orders, executions, balances and positions of one account; ``emit(topic, rows)`` is its private stream.

    Args:
        now_ms: the venue's clock.
        lists_conditionals: whether an open-order query without a filter lists conditional orders too.
        shows_closed: whether realtime, asked by id, shows an order that has just ended.
    """

    def __init__(
        self, category: str, now_ms: Callable[[], int], *, lists_conditionals: bool = True, shows_closed: bool = True
    ) -> None:
        self.category = category
        self.is_spot = category == "spot"
        self.now_ms = now_ms
        self.emit: Emit = lambda _topic, _rows: None
        self._lists_conditionals = lists_conditionals
        self._shows_closed = shows_closed
        self.orders: list[VenueOrder] = []
        self.by_id: dict[str, VenueOrder] = {}
        self.by_link: dict[str, VenueOrder] = {}
        self.executions: list[VenueExecution] = []
        self.other_rows: list[Row] = []
        self._seq = 0
        coins = ("USDT", "BTC", "ETH") if self.is_spot else ("USDT",)
        self.balances: dict[str, int] = dict.fromkeys(coins, 10_000_000)
        self.balance_history: dict[str, set[int]] = {coin: {10_000_000} for coin in coins}
        self.balance_versions: list[tuple[int, dict[str, int]]] = [(START_MS, dict(self.balances))]
        self.positions: dict[str, int] = {}
        self.position_seq: dict[str, tuple[int, int]] = {}
        self.position_history: dict[str, set[int]] = {symbol: {0} for symbol in SYMBOLS}

    # What the venue does. Every method emits the frames a real one would.

    def create(
        self,
        *,
        link_id: str,
        symbol: str,
        side: str,
        quantity: int,
        price: int,
        trigger: int = 0,
        is_market: bool = False,
        quote_sized: bool = False,
    ) -> VenueOrder | int:
        """Take an order; returns it, or the code of its refusal."""
        if link_id and link_id in self.by_link:
            return DUPLICATE_ID[self.category]
        self._seq += 1
        order = VenueOrder(self._seq, f"{self._seq:06d}", link_id, symbol, side, self.now_ms())
        order.quantity, order.price, order.trigger = quantity, price, trigger
        order.is_market, order.quote_sized, order.is_conditional = is_market, quote_sized, trigger > 0
        order.status = "Untriggered" if order.is_conditional else "New"
        self.orders.append(order)
        self.by_id[order.order_id] = order
        if link_id:
            self.by_link[link_id] = order
        self._changed(order)
        if is_market and not order.is_conditional:
            self.trade_market(order)
        return order

    def trade_market(self, order: VenueOrder) -> None:
        """Fill a market order at once; one sized in quote leaves a remainder that ends it (docs create-order)."""
        if not order.quote_sized:
            self.fill(order, order.quantity)
            return
        self.fill(order, max(1, order.quantity // 100))
        self.end(order, "PartiallyFilledCanceled", reject_reason="EC_CancelForNoFullFill")

    def fill(self, order: VenueOrder, quantity: int, *, exec_type: str = "Trade", order_first: bool = False) -> None:
        """Trade part of an order, or all of it."""
        self._seq += 1
        price = order.price or 100
        execution = VenueExecution(f"e{self._seq}", order, quantity, price, self.now_ms(), self._seq)
        order.cum += quantity
        leaves = 0 if order.quote_sized else order.quantity - order.cum
        execution.leaves = leaves
        coin, amount = self._settle(order, quantity, price)
        execution.fee = f"{amount // 1000}.{amount % 1000:03d}"
        execution.row = {
            "category": self.category,
            "symbol": order.symbol,
            "orderId": order.order_id,
            "orderLinkId": order.link_id,
            "side": order.side,
            "orderType": "Market" if order.is_market else "Limit",
            "execId": execution.exec_id,
            "execPrice": str(price),
            "execQty": str(quantity),
            "execFee": execution.fee,
            "feeCurrency": coin,
            "execType": exec_type,
            "execTime": str(execution.ms),
            "isMaker": not order.is_market,
            "orderPrice": str(order.price),
            "orderQty": str(order.quantity),
            "leavesQty": str(leaves),
            "marketUnit": "quoteCoin" if order.quote_sized else "",
            "seq": execution.seq,
        }
        order.executions.append(execution)
        self.executions.append(execution)
        if leaves == 0 and not order.quote_sized:
            order.status, order.ended_ms = "Filled", execution.ms
        else:
            order.status = "PartiallyFilled"
        if order_first:
            self._changed(order)
            self.emit("execution", [execution.row])
        else:
            self._note(order)
            self.emit("execution", [execution.row])
            self.emit("order", [order.versions[-1][1]])
        self._emit_wallet((coin, "USDT"))
        if not self.is_spot:
            self._emit_position(order.symbol)

    def end(
        self, order: VenueOrder, status: str, *, cancel_type: str = "UNKNOWN", reject_reason: str = "EC_NoError"
    ) -> None:
        """End an order without (further) trading."""
        order.status, order.ended_ms = status, self.now_ms()
        order.cancel_type, order.reject_reason = cancel_type, reject_reason
        self._changed(order)

    def cancel(self, order: VenueOrder, cancel_type: str = "CancelByUser") -> int:
        """Cancel an order; returns 0 or the code of the refusal."""
        if not order.is_open:
            return NO_SUCH_ORDER[self.category]
        status = "PartiallyFilledCanceled" if order.cum and self.is_spot else "Cancelled"
        self.end(order, status, cancel_type=cancel_type)
        return 0

    def amend(self, order: VenueOrder, *, quantity: int = 0, price: int = 0, trigger: int = 0) -> int:
        """Change an order's terms; returns 0 or the code of the refusal."""
        if not order.is_open:
            return NO_SUCH_ORDER[self.category]
        if order.is_market or (quantity and quantity <= order.cum) or (trigger and order.status != "Untriggered"):
            return BAD_AMEND
        if order.status == UNHEARD_OF:
            order.status = "PartiallyFilled" if order.cum else "New"
        order.quantity = quantity or order.quantity
        order.price = price or order.price
        order.trigger = trigger or order.trigger
        self._changed(order)
        return 0

    def trigger(self, order: VenueOrder) -> None:
        """The market reaches a conditional order's trigger price."""
        order.status = "New"
        self._changed(order)
        if order.is_market:
            self.trade_market(order)

    def rename_status(self, order: VenueOrder) -> None:
        """Print a status that is in no documentation until the order changes again."""
        order.status = UNHEARD_OF
        self._changed(order)

    def deposit(self, coin: str, amount: int) -> None:
        """Move a coin's balance from outside; never below zero."""
        self._move(coin, max(-self.balances[coin], amount))
        self._emit_wallet((coin,))

    def fund(self, symbol: str) -> None:
        """Charge funding on a position: a row in the execution list that is no trade (docs v5/enum#exectype)."""
        self._seq += 1
        row = {
            "category": self.category,
            "symbol": symbol,
            "orderId": f"funding-{self._seq}",
            "orderLinkId": "",
            "side": "Buy",
            "execId": f"f{self._seq}",
            "execPrice": "100",
            "execQty": str(abs(self.positions.get(symbol, 0)) or 1),
            "execFee": "0.001",
            "execType": "Funding",
            "execTime": str(self.now_ms()),
            "seq": self._seq,
        }
        self.other_rows.append(row)
        self._move("USDT", -1)
        self.emit("execution", [row])
        self._emit_wallet(("USDT",))

    # What a read shows, as of ``at_ms``. Rows come newest first, as documented.

    def open_rows(self, at_ms: int, order_filter: str, settle_coin: str) -> Iterable[tuple[int, Row]]:
        """The open list: (cursor key, row)."""
        if settle_coin == "USDC" or order_filter == "tpslOrder":
            return
        for order in reversed(self.orders):
            if order.ended_ms and order.ended_ms <= at_ms:
                continue
            row = order.row_at(at_ms)
            if row is None or row["orderStatus"] not in OPEN:
                continue
            waits = row["orderStatus"] == "Untriggered"
            if order_filter == "StopOrder" and not waits:
                continue
            if waits and not order_filter and not self._lists_conditionals:
                continue
            yield order.seq, row

    def named_row(self, at_ms: int, order_id: str, link_id: str, *, closed_only: bool) -> Row | None:
        """The row of one order, from history (``closed_only``) or from realtime."""
        order = self.by_id.get(order_id) if order_id else self.by_link.get(link_id)
        row = None if order is None else order.row_at(at_ms)
        if order is None or row is None:
            return None
        if row["orderStatus"] in OPEN:
            return None if closed_only else row
        age_ms = self.now_ms() - order.ended_ms
        if not order.cum and age_ms > DAY_MS:
            return None
        if not closed_only and (not self._shows_closed or age_ms > CLOSED_IN_REALTIME_MS):
            return None
        return row

    def execution_rows(self, at_ms: int, start_ms: int, end_ms: int) -> Iterable[tuple[int, Row]]:
        """The execution list of a window: (cursor key, row)."""
        now_ms = self.now_ms()
        found = [
            (execution.seq, execution.row)
            for execution in reversed(self.executions)
            if start_ms <= execution.ms <= end_ms and execution.ms <= at_ms and execution.hidden_until_ms <= now_ms
        ]
        found += [(row["seq"], row) for row in self.other_rows if start_ms <= int(row["execTime"]) <= end_ms]
        if self.other_rows:
            found.sort(key=lambda pair: -pair[0])
        return found

    def executions_of(self, at_ms: int, order_id: str, link_id: str) -> Iterable[tuple[int, Row]]:
        """The executions of one order: (cursor key, row)."""
        order = self.by_id.get(order_id) if order_id else self.by_link.get(link_id)
        if order is None:
            return []
        now_ms = self.now_ms()
        return [
            (execution.seq, execution.row)
            for execution in reversed(order.executions)
            if execution.ms <= at_ms and execution.hidden_until_ms <= now_ms
        ]

    def wallet_row(self, at_ms: int) -> Row:
        """The account's row; a coin with a balance of zero is left out."""
        balances = self.balances
        if self.balance_versions[-1][0] > at_ms:
            balances = next(held for since_ms, held in reversed(self.balance_versions) if since_ms <= at_ms)
        coins = [coin_row(coin, amount) for coin, amount in balances.items() if amount]
        return {"accountType": "UNIFIED", "coin": coins}

    def position_rows(self) -> list[Row]:
        """Every position that is not flat."""
        return [self._position_row(symbol) for symbol, quantity in self.positions.items() if quantity]

    # How the books move.

    def _settle(self, order: VenueOrder, quantity: int, price: int) -> tuple[str, int]:
        """Move coins or the position; returns the coin and the amount of the fee (a thousandth of what is bought)."""
        is_buy = order.side == "Buy"
        if not self.is_spot:
            held = self.positions.get(order.symbol, 0) + (quantity if is_buy else -quantity)
            self.positions[order.symbol] = held
            self.position_history[order.symbol].add(held)
            self.position_seq[order.symbol] = (self._seq, self.now_ms())
            self._move("USDT", -quantity * price)
            return "USDT", quantity * price
        base = BASE_OF[order.symbol]
        if is_buy:
            self._move(base, quantity * 999)
            self._move("USDT", -quantity * price * 1000)
            return base, quantity
        self._move(base, -quantity * 1000)
        self._move("USDT", quantity * price * 999)
        return "USDT", quantity * price

    def _move(self, coin: str, amount: int) -> None:
        held = self.balances[coin] + amount
        self.balances[coin] = held
        self.balance_history[coin].add(held)
        self.balance_versions.append((self.now_ms(), dict(self.balances)))

    def _note(self, order: VenueOrder) -> None:
        """Remember the order's new row."""
        order.updated_ms = self.now_ms()
        order.terms.add((order.quantity, order.price, order.trigger))
        order.versions.append((order.updated_ms, self._order_row(order)))

    def _changed(self, order: VenueOrder) -> None:
        self._note(order)
        self.emit("order", [order.versions[-1][1]])

    def _order_row(self, order: VenueOrder) -> Row:
        leaves = 0 if order.ended_ms else order.quantity - order.cum
        return {
            "category": self.category,
            "symbol": order.symbol,
            "orderId": order.order_id,
            "orderLinkId": order.link_id,
            "side": order.side,
            "orderType": "Market" if order.is_market else "Limit",
            "orderStatus": order.status,
            "cancelType": order.cancel_type,
            "rejectReason": order.reject_reason,
            "timeInForce": "IOC" if order.is_market else "GTC",
            "price": "0" if order.is_market else str(order.price),
            "qty": str(order.quantity),
            "leavesQty": str(leaves),
            "cumExecQty": str(order.cum),
            "stopOrderType": "Stop" if order.is_conditional else "",
            "triggerPrice": str(order.trigger) if order.trigger else "",
            "marketUnit": "quoteCoin" if order.quote_sized else "",
            "createdTime": str(order.created_ms),
            "updatedTime": str(order.updated_ms),
        }

    def _emit_wallet(self, coins: Iterable[str]) -> None:
        rows = [coin_row(coin, self.balances[coin]) for coin in dict.fromkeys(coins)]
        self.emit("wallet", [{"accountType": "UNIFIED", "coin": rows}])

    def _position_row(self, symbol: str) -> Row:
        quantity = self.positions.get(symbol, 0)
        seq, updated_ms = self.position_seq[symbol]
        return {
            "category": self.category,
            "symbol": symbol,
            "positionIdx": 0,
            "side": "Buy" if quantity > 0 else "Sell" if quantity else "",
            "size": str(abs(quantity)),
            "avgPrice": "100" if quantity else "0",
            "seq": seq,
            "updatedTime": str(updated_ms),
        }

    def _emit_position(self, symbol: str) -> None:
        row = self._position_row(symbol)
        row["entryPrice"] = row.pop("avgPrice")
        self.emit("position", [row])


def coin_row(coin: str, amount: int) -> Row:
    """A coin's row in the wallet; ``amount`` in thousandths."""
    sign = "-" if amount < 0 else ""
    whole, part = divmod(abs(amount), 1000)
    return {"coin": coin, "walletBalance": f"{sign}{whole}.{part:03d}", "locked": "0"}
