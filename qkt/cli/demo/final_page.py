"""Final page of the demo: the venue's books and the bot's view side by side, and the counts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

import attrs

from qkt.cli.demo.judge import Verdict
from qkt.cli.demo.sabotage import Sabotage
from qkt.cli.formatting import number
from qkt.cli.output import Line, wrapped
from qkt.events import BrokerEvent, FillEvent
from qkt.model.balances import Wallet
from qkt.model.orders import OrderView

_LABEL, _COLUMN = 24, 25


@attrs.frozen(kw_only=True)
class BookRow:
    """One value as the venue has it and as the bot has it, formatted alike."""

    label: str
    venue: str
    bot: str

    @property
    def agrees(self) -> bool:
        """True when both are equal."""
        return self.venue == self.bot


def book_rows(
    truth: Mapping[str, Any], views: Mapping[str, OrderView], wallet: Wallet, events: Iterable[BrokerEvent]
) -> list[BookRow]:
    """Rows for every order, the fills, the fees and every coin."""
    rows = [_order_row(order, views.get(order["orderId"])) for order in truth["orders"]]
    fills = [event for event in events if isinstance(event, FillEvent) and event.exec_id]
    rows.append(BookRow(label="fills", venue=str(len(truth["executions"])), bot=str(len(fills))))
    at_venue = _sums((row["feeCurrency"], Decimal(row["execFee"])) for row in truth["executions"])
    told = _sums((event.fee_currency, event.fee) for event in fills)
    for coin in sorted(at_venue | told):
        zero = Decimal(0)
        row = BookRow(label=f"fees {coin}", venue=number(at_venue.get(coin, zero)), bot=number(told.get(coin, zero)))
        rows.append(row)
    for coin, balance in sorted(truth["balances"].items()):
        held = wallet.get(coin)
        believed = "unknown" if held is None or held.total is None else number(held.total)
        rows.append(BookRow(label=coin, venue=number(Decimal(balance["walletBalance"])), bot=believed))
    return rows


def page(rows: Iterable[BookRow], verdict: Verdict, *, sabotage: Sabotage | None) -> list[Line]:
    """The table, the counts and the result, as lines."""
    lines: list[Line] = [
        "",
        [(f"{'':<{_LABEL}}{'the venue has':<{_COLUMN}}the bot believes", "bold")],
    ]
    for row in rows:
        mark, style = ("", "") if row.agrees else (" !", "bold red")
        columns = f"{row.venue:<{_COLUMN}}{row.bot}{mark}"
        lines.append([(f"  {row.label:<{_LABEL - 2}}", "dim"), (columns, style)])
    return [*lines, "", *_counts(verdict), "", *_sentence(verdict, sabotage)]


def _counts(verdict: Verdict) -> list[Line]:
    counts = verdict.counts
    fills = {
        "lost": counts["fills_lost"],
        "duplicated": counts["fills_duplicated"],
        "invented": counts["fills_invented"] + counts["fills_distorted"],
    }
    orders = {
        "falsely ended": counts["orders_falsely_ended"],
        "with an end untold": counts["ends_not_told"],
        "unresolved": counts["unresolved"],
    }
    differences = {"differ": len(verdict.differences)}
    return [
        _counted("fills", f"{verdict.executions_at_venue} at the venue, {verdict.executions_told} told: ", fills),
        _counted("orders", "", orders),
        _counted("events", f"{verdict.events_heard} heard, each held against the venue's journal: ", differences),
    ]


def _counted(label: str, before: str, numbers: Mapping[str, int]) -> Line:
    pieces = [(f"  {label:<8}", "dim"), (before, "")]
    for what, count in numbers.items():
        pieces += [(", " if len(pieces) > 2 else "", ""), (f"{count} {what}", "bold red" if count else "")]
    return pieces


def _sentence(verdict: Verdict, sabotage: Sabotage | None) -> list[Line]:
    if verdict.agrees:
        return [[("  The bot believes exactly what the venue has.", "bold green")]]
    lines: list[Line] = [[(text, "red")] for found in verdict.differences[:8] for text in wrapped(str(found), "  ")]
    if len(verdict.differences) > 8:
        lines.append(f"  and {len(verdict.differences) - 8} more")
    lines += ["", [("  The bot is wrong about its account.", "bold red")]]
    if sabotage is not None:
        lines += [[(text, "red")] for text in wrapped(f'The rule was "{sabotage.rule}". {sabotage.price}', "  ")]
    return lines


def _order_row(order: Mapping[str, Any], view: OrderView | None) -> BookRow:
    limit = "" if order["orderType"] == "Market" else f" @ {number(Decimal(order['price']))}"
    who = "by hand" if order["outside"] else order["orderLinkId"]
    label = f"{who} {order['side'].lower()} {number(Decimal(order['qty']))}{limit}"
    at_venue = _state(order["orderStatus"], order["cumExecQty"], order["avgPrice"])
    if view is None:
        return BookRow(label=label, venue=at_venue, bot="no such order")
    believed = _state(_plain(view), number(view.cum_quantity), "" if view.avg_price is None else number(view.avg_price))
    return BookRow(label=label, venue=at_venue, bot=believed)


def _state(status: str, executed: str, avg_price: str) -> str:
    price = f" @ {number(Decimal(avg_price))}" if avg_price and Decimal(avg_price) else ""
    return f"{status} {number(Decimal(executed))}{price}" if Decimal(executed) else status


def _plain(view: OrderView) -> str:
    """A qkt status in the venue's spelling, so that equal states have equal text."""
    words = {"FILLED": "Filled", "CANCELLED": "Cancelled", "REJECTED": "Rejected", "NEW": "New"}
    if view.is_open and view.venue_status:
        return view.venue_status
    if view.venue_status == "PartiallyFilledCanceled" and not view.is_open:
        return view.venue_status
    return words.get(view.status.value, view.status.value)


def _sums(pairs: Iterable[tuple[str, Decimal]]) -> dict[str, Decimal]:
    sums: dict[str, Decimal] = {}
    for coin, fee in pairs:
        sums[coin] = sums.get(coin, Decimal(0)) + fee
    return sums
