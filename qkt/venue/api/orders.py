"""The trading endpoints: create, amend, cancel, and their batches.

A reply is an acknowledgement only. The faults between an acknowledgement and its effect (a fill before a cancel, a
rejection after the acknowledgement) are applied here, where both are known.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from ..exchange.accounts import Account, Order
from ..exchange.exchange import Exchange, no_such_order
from ..exchange.money import parse
from ..exchange.requests import Body, category_of
from ..exchange.retcodes import TEXTS, Refusal, parameter_error
from ..exchange.rows import Row
from ..faults import Fault, Faults

Later = Callable[[int, Callable[[], object]], None]
_BATCH_MOST = {"spot": 10, "linear": 20}


class OrderEndpoints:
    """Answers create, amend and cancel, one by one or in batches."""

    def __init__(self, exchange: Exchange, faults: Faults, later: Later) -> None:
        self._exchange = exchange
        self._faults = faults
        self._later = later

    def create(self, account: Account, body: Body) -> Row:
        struck = self._struck("create", account, body)
        rejection = next((fault for fault in struck if fault.name == "reject_after_ack"), None)
        if rejection is not None:
            order = self._exchange.create_rejected(account, body, str(rejection["reason"]))
        else:
            order = self._exchange.create(account, body)
        for fault in struck:
            self._befall(order, body, fault)
        return _ids(order)

    def amend(self, account: Account, body: Body) -> Row:
        for fault in self._struck("amend", account, body):
            order = self._exchange.named_order(account, body, None)
            if fault.name == "fill_wins_amend" and not order.is_conditional:
                self._exchange.fill(order, None, None)
            outbox = self._exchange.outbox
            outbox.order_now(order, rejectReason=str(fault["reason"]))
            outbox.flush()
            return _ids(order)
        return _ids(self._exchange.amend(account, body))

    def pre_check(self, account: Account, body: Body) -> Row:
        """``POST /v5/order/pre-check``: check a create request and place nothing.

        The margin rates before and after are in ten-thousandths; spot in cash needs no margin and changes none.

        Raises:
            Refusal: as for the create request; 10001 for a conditional order, which the venue does not check.
        """
        order = self._exchange.parse(account, body)
        if order.trigger_price:
            raise parameter_error("params error: conditional orders are not supported")
        engine = self._exchange.engine
        needed = engine.funds_needed(order)
        if needed > engine.ledger_of(order).spendable(order):
            raise Refusal(engine.ledger_of(order).insufficient)
        before, after = engine.margin.rates_e4(account), engine.margin.rates_e4(account, order, needed)
        rates = {"preImrE4": before[0], "preMmrE4": before[1], "postImrE4": after[0], "postMmrE4": after[1]}
        return {"orderId": "", "orderLinkId": order.link_id, **rates}

    def cancel(self, account: Account, body: Body) -> Row:
        return self._cancel(account, body, any_filter=False)

    def cancel_all(self, account: Account, body: Body) -> Row:
        cancelled = self._exchange.cancel_all(account, body)
        return {"list": [_ids(order) for order in cancelled], "success": "1"}

    def create_batch(self, account: Account, body: Body, granted: int) -> tuple[Row, Row]:
        def one(item: Body) -> Row:
            row = self.create(account, item)
            created = account.orders[row["orderId"]].created_ms
            return {"category": item["category"], "symbol": item["symbol"], **row, "createAt": str(created)}

        return self._batch(body, granted, one, lambda item: {"orderId": "", "orderLinkId": _link(item), "createAt": ""})

    def amend_batch(self, account: Account, body: Body, granted: int) -> tuple[Row, Row]:
        def one(item: Body) -> Row:
            order = self._exchange.amend(account, item, batch=True)
            return {"category": item["category"], "symbol": item["symbol"], **_ids(order)}

        return self._batch(body, granted, one, _echo)

    def cancel_batch(self, account: Account, body: Body, granted: int) -> tuple[Row, Row]:
        def one(item: Body) -> Row:
            row = self._cancel(account, item, any_filter=True)
            return {"category": item["category"], "symbol": item["symbol"], **row}

        return self._batch(body, granted, one, _echo)

    def _cancel(self, account: Account, body: Body, *, any_filter: bool) -> Row:
        for fault in self._struck("cancel", account, body):
            order = self._exchange.named_order(account, body, None)
            if order.is_conditional:
                continue
            if fault.name == "fill_wins_cancel":
                self._fill_before_cancel(order)
                if fault["reply"] == "refuse":
                    raise Refusal(no_such_order(order.instrument.category))
            elif fault.name == "fill_after_cancel_ack":
                self._later(int(fault["delay_ms"]), partial(self._fill_then_cancel, order, fault))
            return _ids(order)
        return _ids(self._exchange.cancel(account, body, any_filter=any_filter))

    def _struck(self, where: str, account: Account, body: Body) -> list[Fault]:
        if not self._faults.armed(where):
            return []
        return self._faults.take(where, symbol=str(body.get("symbol", "")), account=account.key)

    def _befall(self, order: Order, body: Body, fault: Fault) -> None:
        if fault.name == "outside_fill":
            quantity = parse(fault["quantity"]) if fault["quantity"] else None
            self._later(int(fault["delay_ms"]), lambda: self._exchange.fill(order, quantity, None))
        elif fault.name == "outside_order":
            twin = {name: value for name, value in body.items() if name != "orderLinkId"}
            self._later(int(fault["delay_ms"]), lambda: self._exchange.create(order.account, twin, outside=True))
        elif fault.name == "outside_cancel":
            self._later(int(fault["delay_ms"]), lambda: self._exchange.cancel_outside(order, str(fault["cancel_type"])))

    def _fill_before_cancel(self, order: Order) -> None:
        """Fill the order and send `Filled` twice; the second frame reports the failed cancel.

        Source: docs websocket/private/order.
        """
        self._exchange.fill(order, None, None)
        outbox = self._exchange.outbox
        outbox.order_now(order, cancelType="CancelByUser", rejectReason="EC_OrigClOrdIDDoesNotExist")
        outbox.flush()

    def _fill_then_cancel(self, order: Order, fault: Fault) -> None:
        if not order.is_open:
            return
        self._exchange.fill(order, parse(fault["quantity"]) if fault["quantity"] else None, None)
        if order.is_open:
            self._exchange.cancel_outside(order, "CancelByUser")

    def _batch(
        self, body: Body, granted: int, one: Callable[[Body], Row], failed: Callable[[Body], Row]
    ) -> tuple[Row, Row]:
        """Run each item alone; ``result.list`` and ``retExtInfo.list`` pair by index (docs v5/order/batch-place)."""
        category = category_of(body)
        items = batch_items(body)
        rows: list[Row] = []
        verdicts: list[Row] = []
        for index, item in enumerate(items):
            try:
                if index >= granted:
                    raise Refusal(10006)
                rows.append(one({**item, "category": category}))
                verdicts.append({"code": 0, "msg": TEXTS[0]})
            except Refusal as refusal:
                rows.append({"category": category, "symbol": item.get("symbol", ""), **failed(item)})
                verdicts.append({"code": refusal.code, "msg": refusal.text})
        return {"list": rows}, {"list": verdicts}


def batch_items(body: Body) -> list[dict[str, Any]]:
    """The items of a batch request.

    Raises:
        Refusal: 10001 when there are none, too many, or something else than objects.
    """
    items = body.get("request")
    if not isinstance(items, list) or not items:
        raise parameter_error("params error: request is required")
    most = _BATCH_MOST.get(str(body.get("category")), 10)
    if len(items) > most:
        raise parameter_error(f"params error: at most {most} orders per request")
    if not all(isinstance(item, dict) for item in items):
        raise parameter_error("params error: request must be a list of objects")
    return items


def _ids(order: Order) -> Row:
    return {"orderId": order.order_id, "orderLinkId": order.link_id}


def _link(item: Body) -> str:
    return str(item.get("orderLinkId") or "")


def _echo(item: Body) -> Row:
    return {"orderId": str(item.get("orderId") or ""), "orderLinkId": _link(item)}
