"""Frames and rows that no documentation promises: unreadable, unknown, mistaken, or dated wrongly."""

from __future__ import annotations

from typing import Any

from tests.simulation.venue import CLOSED_IN_REALTIME_MS, SYMBOLS, Row, Venue, coin_row

HARMLESS = (
    "unknown_status",
    "unreadable_order",
    "unreadable_execution",
    "unreadable_wallet",
    "no_data",
    "other_category",
    "unknown_exec_type",
    "no_topic_rows",
    "row_is_text",
)
# Family of faults -> its kinds of frames.
EXTREME = {"future_dates": ("future_order", "future_wallet"), "absurd_rows": ("huge_exponent", "odd_symbol")}


def frame(venue: Venue, kind: str, which: int) -> tuple[str, dict[str, Any]] | None:
    """An odd frame about some order of the venue's; None when it needs an order and there is none."""
    made = _rows(venue, kind, which)
    if made is None:
        return None
    topic, data = made
    created_ms = venue.now_ms() + (30 * 24 * 3_600_000 if kind.startswith("future") else 0)
    return topic, {"topic": topic, "id": "odd", "creationTime": created_ms, "data": data}


def _rows(venue: Venue, kind: str, which: int) -> tuple[str, Any] | None:
    match kind:
        case "no_data":
            return "order", None
        case "no_topic_rows":
            return "execution", [{}]
        case "row_is_text":
            return "order", ["text"]
        case "unreadable_wallet":
            return "wallet", [{"accountType": "UNIFIED", "coin": [{"coin": "USDT", "walletBalance": "many"}]}]
        case "future_wallet":
            return "wallet", [{"accountType": "UNIFIED", "coin": [coin_row("USDT", venue.balances["USDT"])]}]
        case "unknown_exec_type":
            return "execution", [_execution(venue, which, execType="UnheardOf")]
        case "unreadable_execution":
            return "execution", [_execution(venue, which, execQty="?")]
    if not venue.orders:
        return None
    order = venue.orders[which % len(venue.orders)]
    if order.ended_ms and venue.now_ms() - order.ended_ms > CLOSED_IN_REALTIME_MS:
        return None  # no stream speaks of an order that ended long ago
    row = dict(order.versions[-1][1])
    match kind:
        case "unknown_status":
            if order.is_open and not order.is_conditional:
                venue.rename_status(order)
            return None
        case "unreadable_order":
            row |= {"side": "?"}
        case "other_category":
            row |= {"category": "option", "orderStatus": "Cancelled"}
        case "future_order":
            row |= {"updatedTime": str(venue.now_ms() + 30 * 24 * 3_600_000)}
        case "huge_exponent":
            row |= {"cumExecQty": "1e1000000"}
        case "odd_symbol":
            row |= {"symbol": "btc/usdt", "orderId": "odd", "orderLinkId": ""}
    return "order", [row]


def _execution(venue: Venue, which: int, **changes: str) -> Row:
    order = venue.orders[which % len(venue.orders)] if venue.orders else None
    return {
        "category": venue.category,
        "symbol": SYMBOLS[which & 1] if order is None else order.symbol,
        "orderId": "none" if order is None else order.order_id,
        "orderLinkId": "" if order is None else order.link_id,
        "side": "Buy",
        "execId": "odd",
        "execPrice": "100",
        "execQty": "1",
        "execFee": "0",
        "execType": "Trade",
        "execTime": str(venue.now_ms()),
        **changes,
    }
