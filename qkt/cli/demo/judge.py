"""Comparison of what a bot received and believes with the venue's record. Pure: no I/O, no clock, no broker.

Every event is compared, not only the final state: each execution of the record published exactly once with the same
price, quantity and fee; each order accepted once, before its fills; each end published once, last, as the venue
recorded it; every published balance one that the account really held. An event without a record is invented, a record
without an event is lost.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from qkt.cli.demo.differences import KINDS, Difference, Row, Verdict
from qkt.events import (
    BalancesUpdated,
    BrokerEvent,
    FillEvent,
    OrderAccepted,
    OrderCancelled,
    OrderEvent,
    OrderFilled,
    OrderRejected,
)
from qkt.model.balances import Wallet
from qkt.model.orders import OrderView

_END_OF = {
    "Filled": OrderFilled,
    "Cancelled": OrderCancelled,
    "PartiallyFilledCanceled": OrderCancelled,
    "Deactivated": OrderCancelled,
    "Rejected": OrderRejected,
}
_BELIEF_OF = {OrderFilled: "FILLED", OrderCancelled: "CANCELLED", OrderRejected: "REJECTED"}
_ENDS = (OrderFilled, OrderCancelled, OrderRejected)


def judge(
    truth: Row,
    events: Sequence[BrokerEvent],
    *,
    views: Mapping[str, OrderView],
    wallet: Wallet,
    unresolved: Iterable[str] = (),
) -> Verdict:
    """Compare a bot with the venue.

    Args:
        truth: the venue's record of the account, as returned by ``SimulatedBybit.truth()``.
        events: every event the bot received, from before the first order on, in order of arrival.
        views: the bot's final beliefs, broker order id -> view; orders that it does not know are left out.
        wallet: the bot's final balances.
        unresolved: orders that the bot reports as unresolved.
    """
    orders = {row["orderId"]: row for row in truth["orders"]}
    told: dict[str, list[OrderEvent]] = defaultdict(list)
    by_link = {row["orderLinkId"]: row["orderId"] for row in truth["orders"]}
    for event in events:
        if isinstance(event, OrderEvent):
            told[event.broker_order_id or by_link.get(event.client_order_id, "")].append(event)
    fills = [event for event in events if isinstance(event, FillEvent) and (event.exec_id or event.quantity)]
    differences = [
        *_fills(truth["executions"], fills),
        *_strangers(orders, told),
        *(found for order_id, row in orders.items() for found in _order(row, told[order_id], views.get(order_id))),
        *_balances(truth, events, wallet),
        *(Difference(kind="unresolved", order=name, what="the bot cannot speak for it") for name in unresolved),
    ]
    return Verdict(
        differences=tuple(differences),
        executions_at_venue=len(truth["executions"]),
        executions_told=len(fills),
        events_heard=len(events),
    )


def _fills(executions: Sequence[Row], fills: Sequence[FillEvent]) -> Iterable[Difference]:
    """Differences in executions: each of the record exactly once, with equal numbers, and no others."""
    told: dict[str, list[FillEvent]] = defaultdict(list)
    for event in fills:
        told[event.exec_id].append(event)
    record = {row["execId"]: row for row in executions}
    for exec_id, row in record.items():
        heard = told.pop(exec_id, [])
        name, size = _name(row), f"{row['execQty']} @ {row['execPrice']}"
        if not heard:
            yield Difference(kind="fill lost", order=name, what=f"{size} was never told")
        for _ in heard[1:]:
            yield Difference(kind="fill duplicated", order=name, what=f"{size} was told again")
        for event in heard[:1]:
            for field, (said, was) in _execution_fields(event, row).items():
                if said != was:
                    yield Difference(kind="fill distorted", order=name, what=f"{field} told {said}, is {was}")
    for events in told.values():
        for event in events:
            what = f"{event.quantity} @ {event.price} never happened"
            yield Difference(kind="fill invented", order=event.client_order_id, what=what)


def _execution_fields(event: FillEvent, row: Row) -> dict[str, tuple[object, object]]:
    return {
        "price": (event.price, Decimal(row["execPrice"])),
        "quantity": (event.quantity, Decimal(row["execQty"])),
        "fee": (event.fee, Decimal(row["execFee"])),
        "fee currency": (event.fee_currency, row["feeCurrency"]),
        "side": (event.side.value, str(row["side"]).upper()),
        "symbol": (event.symbol.partition(":")[2], row["symbol"]),
        "maker": (event.is_maker, row["isMaker"]),
        "time": (event.exec_time_ms, int(row["execTime"])),
        "order": (event.broker_order_id, row["orderId"]),
    }


def _strangers(orders: Mapping[str, Row], told: Mapping[str, Sequence[OrderEvent]]) -> Iterable[Difference]:
    """Events about orders that the venue never had, rejections excepted."""
    for order_id, events in told.items():
        for event in events if order_id not in orders else ():
            if isinstance(event, OrderAccepted | OrderFilled | OrderCancelled):
                what = f"{type(event).__name__} of an order the venue never had"
                yield Difference(kind="order invented", order=event.client_order_id, what=what)


def _order(row: Row, told: Sequence[OrderEvent], view: OrderView | None) -> Iterable[Difference]:
    name, status = _name(row), row["orderStatus"]
    yield from _beginning(name, told)
    yield from _running_sums(name, told)
    if any(event.external is not bool(row["outside"]) for event in told):
        whose = "the owner's hand" if row["outside"] else "the bot"
        yield Difference(kind="owner told wrongly", order=name, what=f"was placed by {whose}, and told otherwise")
    expected = _end_of(row)
    ends = [event for event in told if isinstance(event, _ENDS)]
    right = [event for event in ends if type(event) is expected]
    for event in ends:
        if type(event) is not expected:
            what = f"told {type(event).__name__}{_because(event)}, at the venue {status}"
            yield Difference(kind="order falsely ended", order=name, what=what)
    if expected is not None and not right:
        yield Difference(kind="end not told", order=name, what=f"is {status} at the venue")
    for event in right:
        yield from _end(row, event)
    for event in right[1:]:
        yield Difference(kind="end told wrongly", order=name, what=f"{type(event).__name__} was told again")
    if right and not _is_last_word(told, right[-1]):
        yield Difference(kind="told out of order", order=name, what="something followed the end")
    yield from _belief(row, view, expected)


def _beginning(name: str, told: Sequence[OrderEvent]) -> Iterable[Difference]:
    accepted = [at for at, event in enumerate(told) if isinstance(event, OrderAccepted)]
    first = next((at for at, event in enumerate(told) if isinstance(event, FillEvent | OrderCancelled)), len(told))
    if not accepted:
        yield Difference(kind="order not told", order=name, what="was accepted at the venue, and never told")
    elif accepted[0] > first:
        yield Difference(kind="told out of order", order=name, what="its acceptance came after a fill or its end")
    for _ in accepted[1:]:
        yield Difference(kind="told out of order", order=name, what="its acceptance was told again")


def _running_sums(name: str, told: Sequence[OrderEvent]) -> Iterable[Difference]:
    """Fills whose ``cum_quantity`` is not the sum of the fills published so far."""
    so_far = Decimal(0)
    for event in told:
        if isinstance(event, FillEvent):
            so_far += event.quantity
            if event.cum_quantity != so_far:
                what = f"a fill said {event.cum_quantity} executed so far, the fills told add up to {so_far}"
                yield Difference(kind="fill distorted", order=name, what=what)


def _end(row: Row, event: OrderEvent) -> Iterable[Difference]:
    name = _name(row)
    cum = getattr(event, "cum_quantity", Decimal(0))
    if cum != Decimal(row["cumExecQty"]):
        what = f"ended with {cum} executed, at the venue {row['cumExecQty']}"
        yield Difference(kind="end told wrongly", order=name, what=what)
    reason = getattr(event, "reason", "")
    if isinstance(event, OrderCancelled) and reason not in (row["cancelType"], row["rejectReason"]):
        what = f"ended because of {reason!r}, at the venue {row['cancelType']}"
        yield Difference(kind="end told wrongly", order=name, what=what)


def _is_last_word(told: Sequence[OrderEvent], end: OrderEvent) -> bool:
    words = [event for event in told if isinstance(event, OrderAccepted | FillEvent | OrderCancelled | OrderRejected)]
    return words[-1] is end


def _belief(row: Row, view: OrderView | None, expected: type[OrderEvent] | None) -> Iterable[Difference]:
    name = _name(row)
    if view is None:
        yield Difference(
            kind="belief differs", order=name, what=f"is {row['orderStatus']}, and the bot does not know it"
        )
        return
    believed = {
        "open": (view.is_open, expected is None),
        "executed": (view.cum_quantity, Decimal(row["cumExecQty"])),
        "missing": (view.missing_quantity, Decimal(0)),
        "average price": (view.avg_price, Decimal(row["avgPrice"]) if row["avgPrice"] else None),
        "fees": (_nonzero(view.fees), _nonzero(row.get("cumFeeDetail") or {})),
    }
    if expected is not None:
        believed["status"] = (view.status.value, _BELIEF_OF[expected])
    wrong = [field for field, (believes, holds) in believed.items() if believes != holds]
    if wrong:
        bot = f"the bot believes {view.status.value}, {view.cum_quantity} executed"
        venue = f"the venue has {row['orderStatus']}, {row['cumExecQty']} executed"
        yield Difference(kind="belief differs", order=name, what=f"{bot}; {venue} ({', '.join(wrong)})")


def _balances(truth: Row, events: Sequence[BrokerEvent], wallet: Wallet) -> Iterable[Difference]:
    """Differences in the final balances, and published balances that the account never held."""
    for coin, row in truth["balances"].items():
        held = wallet.get(coin)
        total = held.total if held is not None else None
        pairs = [("total", total, row["walletBalance"])]
        if held is not None:
            pairs += [("locked", held.locked, row["locked"]), ("available", held.available, row["available"])]
        for field, believes, holds in pairs:
            if believes != Decimal(holds) and (believes is not None or field == "total"):
                what = f"{coin} {field}: the bot believes {believes}, the venue holds {holds}"
                yield Difference(kind="balance differs", what=what)
    once_held = held_balances(truth)
    for event in events:
        for coin, total in event.balances.items() if isinstance(event, BalancesUpdated) else ():
            if total not in once_held.get(coin, {Decimal(0)}):
                yield Difference(kind="balance differs", what=f"{coin} was told as {total}, which was never held")


def held_balances(truth: Row) -> dict[str, set[Decimal]]:
    """Coin -> every total the account ever held, replayed from the record."""
    orders = {row["orderId"]: row for row in truth["orders"]}
    deposits = [entry for entry in truth["journal"] if entry["event"] == "deposit"]
    now = {coin: Decimal(row["deposited"]) for coin, row in truth["balances"].items()}
    for entry in deposits:
        now[entry["coin"]] -= Decimal(entry["amount"])
    held = {coin: {total} for coin, total in now.items()}
    for entry in truth["journal"]:
        for coin, change in _changes(entry, orders).items():
            now[coin] = now.get(coin, Decimal(0)) + change
            held.setdefault(coin, {Decimal(0)}).add(now[coin])
    return held


def _changes(entry: Row, orders: Mapping[str, Row]) -> Mapping[str, Decimal]:
    if entry["event"] == "deposit":
        return {entry["coin"]: Decimal(entry["amount"])}
    if entry["event"] != "execution":
        return {}
    order = orders[entry["orderId"]]
    base, quote = _coins(order["symbol"])
    quantity, value = Decimal(entry["execQty"]), Decimal(entry["execQty"]) * Decimal(entry["execPrice"])
    sign = 1 if order["side"] == "Buy" else -1
    changes = {base: sign * quantity, quote: -sign * value}
    changes[entry["feeCurrency"]] -= Decimal(entry["execFee"])
    return changes


def _coins(symbol: str) -> tuple[str, str]:
    quote = next(coin for coin in ("USDT", "USDC", "BTC") if symbol.endswith(coin))
    return symbol.removesuffix(quote), quote


def _end_of(row: Row) -> type[OrderEvent] | None:
    """The terminal event that a bot must receive for this order; None while it is open."""
    is_quote_sized_buy = row["marketUnit"] == "quoteCoin" and row["side"] == "Buy" and row["orderType"] == "Market"
    if is_quote_sized_buy and row["rejectReason"] == "EC_CancelForNoFullFill":
        return OrderFilled  # the remainder was too small to buy one step, which completes the order (S78)
    return _END_OF.get(row["orderStatus"])


def _because(event: OrderEvent) -> str:
    reason = str(getattr(event, "reason", ""))
    return f" ({reason[:60]})" if reason else ""


def _nonzero(amounts: Mapping[str, Any]) -> dict[str, Decimal]:
    return {coin: Decimal(amount) for coin, amount in amounts.items() if Decimal(amount)}


def _name(row: Row) -> str:
    return str(row.get("orderLinkId") or row["orderId"])


__all__ = ["KINDS", "Difference", "Verdict", "held_balances", "judge"]
