"""The page of ``qkt watch`` as lines that fit a terminal."""

from __future__ import annotations

import threading
from collections import deque
from typing import Any

from qkt.bybit.linear import BybitLinearBroker
from qkt.cli.formatting import counted, number, order_table, short_reason, span, time_of_day
from qkt.cli.listings import fill_row
from qkt.cli.output import Line
from qkt.cli.session import Session, bare_symbol, category_of
from qkt.cli.tables import table
from qkt.events import (
    BalancesUpdated,
    BrokerEvent,
    FillEvent,
    HealthDegraded,
    HealthRestored,
    OrderEvent,
)
from qkt.model.orders import OrderView
from qkt.reconcile.report import Discrepancy

_KEPT = 200


class Memory:
    """The last fills and events. Written on the bus's thread, read on the painting thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._events: deque[BrokerEvent] = deque(maxlen=_KEPT)
        self._fills: deque[FillEvent] = deque(maxlen=_KEPT)

    def hear(self, event: BrokerEvent) -> None:
        """Remember an event; subscribed to the bus."""
        with self._lock:
            if isinstance(event, FillEvent) and event.exec_id:
                self._fills.append(event)
            if event_line(event) is not None:
                self._events.append(event)

    def latest(self, count: int) -> tuple[list[FillEvent], list[BrokerEvent]]:
        """The newest fills and events, newest first."""
        with self._lock:
            return list(self._fills)[::-1][:count], list(self._events)[::-1][:count]


def page(account: Session, memory: Memory, *, width: int, height: int) -> list[Line]:
    """Everything, fitted to the terminal: problems first, then orders, positions, balances, fills and events."""
    room = max(2, (height - 14) // 4)
    fixed = [_head(account), _problems(account), _positions(account), _balances(account)]
    spare = height - sum(len(section) + 1 for section in fixed if section)
    fills, events = memory.latest(room)
    orders = _orders(account, max(room, spare - 2 * room - 4), width)
    sections = [
        fixed[0],
        fixed[1],
        orders,
        *fixed[2:],
        _fills(fills, width),
        _discrepancies(account, room),
        _events(events),
    ]
    lines = [line for section in sections if section for line in (*section, "")][:-1]
    return [_cut(line, width) for line in lines[:height]]


def _head(account: Session) -> list[Line]:
    stats = account.client.stats
    lost = f", lost {counted(stats.losses, 'time')}" if stats.losses else ""
    lines: list[Line] = []
    for category, broker in account.brokers.items():
        health = broker.health
        style = "green" if health.stream == "live" else "bold red"
        ages: list[tuple[str, str]] = []
        for domain, age_ms in health.ages_ms.items():
            if age_ms is not None or domain != "positions":
                ages += [(f"  {domain} ", "dim"), (span(age_ms), _age_style(age_ms))]
        lines.append([(f"{category:<7}", "bold"), (" stream ", "dim"), (health.stream, style), *ages])
    place: Line = [
        (f"{account.scope} at {account.place}", "bold"),
        ("   last frame ", "dim"),
        (span(stats.frame_age_ms), ""),
        (lost, ""),
    ]
    return [place, *lines]


def _age_style(age_ms: int | None) -> str:
    return "bold red" if age_ms is None or age_ms > 60_000 else "yellow" if age_ms > 15_000 else ""


def _problems(account: Session) -> list[Line]:
    lines: list[Line] = account.unread_lines()
    for category, broker in account.brokers.items():
        lines += [
            [(f"{category} degraded {domain}: {short_reason(why)}", "bold red")]
            for domain, why in broker.health.degraded.items()
        ]
    if account.unresolved:
        lines.append([(f"unresolved: {', '.join(account.unresolved)}; do not send again", "bold yellow")])
    return lines


def _orders(account: Session, room: int, width: int) -> list[Line]:
    views = sorted(account.broker.open_orders(), key=lambda view: -view.created_ms)
    if not views:
        return [[("no open orders", "dim")]]
    shown = views[:room]
    ages = [span(_age_of(account, view)) for view in shown]
    more = len(views) - len(shown)
    rest: list[Line] = [[(f"and {counted(more, 'more open order')}", "dim")]] if more > 0 else []
    return [*order_table(shown, ages, width=width), *rest]


def _age_of(account: Session, view: OrderView) -> int | None:
    """Time since a view last changed or was confirmed by a complete read, whichever is shorter."""
    broker = account.brokers.get(category_of(view.symbol))
    confirmed = None if broker is None else broker.health.orders
    since_change = account.now_ms() - view.updated_ms if view.updated_ms else None
    known = [age for age in (confirmed, since_change) if age is not None]
    return max(0, min(known)) if known else None


def positions_of(account: Session) -> list[dict[str, Any]]:
    """The open positions, as rows with symbol, position index, quantity, entry price and profit."""
    broker = account.brokers.get("linear")
    if not isinstance(broker, BybitLinearBroker):
        return []
    return [
        {"symbol": symbol, "position_index": index, "position": position}
        for (symbol, index), position in sorted(broker.positions().items())
    ]


def discrepancies_of(account: Session) -> list[Discrepancy]:
    """The differences that the kept reports of all categories found."""
    return [found for broker in account.brokers.values() for report in broker.reports for found in report.discrepancies]


def _positions(account: Session) -> list[Line]:
    held = positions_of(account)
    if not held:
        return []
    rows = [
        [bare_symbol(row["symbol"]), number(row["position"].quantity), number(row["position"].avg_price)]
        for row in held
    ]
    return table(("POSITION", ">QUANTITY", ">ENTRY"), rows)


def _balances(account: Session) -> list[Line]:
    coins = {coin: held for coin, held in sorted(account.client.wallet.coins.items()) if held.total}
    if not coins:
        return [[("no balances", "dim")]]
    rows = [[coin, number(held.total), number(held.locked), number(held.available)] for coin, held in coins.items()]
    age = span(min((broker.health.balances or 0 for broker in account.brokers.values()), default=None))
    return table(("COIN", ">TOTAL", ">LOCKED", ">AVAILABLE", ">AGE"), [[*row, age] for row in rows])


def _fills(fills: list[FillEvent], width: int) -> list[Line]:
    if not fills:
        return [[("no fills yet", "dim")]]
    rows = [fill_row(fill, time_of_day(fill.exec_time_ms)) for fill in fills]
    return table(
        ("FILLS (UTC)", "ID", "SYMBOL", "SIDE", ">QUANTITY", ">PRICE", ">FEE"),
        rows,
        width=width,
        keep=("FILLS (UTC)", ">FEE"),
    )


def _discrepancies(account: Session, room: int) -> list[Line]:
    found = discrepancies_of(account)[-room:]
    if not found:
        return []
    lines: list[Line] = [[("HEALED", "bold")]]
    lines += [[(str(one), "yellow")] for one in reversed(found)]
    return lines


def _events(events: list[BrokerEvent]) -> list[Line]:
    if not events:
        return []
    lines: list[Line] = [[("EVENTS (UTC)", "bold")]]
    for event in events:
        line = event_line(event)
        if line is not None:
            lines.append(line)
    return lines


def event_line(event: BrokerEvent) -> Line | None:
    """One event on one line; None for balances that did not change."""
    when, kind = time_of_day(event.timestamp), type(event).__name__
    if isinstance(event, BalancesUpdated):
        if not event.changed:
            return None
        moved = ", ".join(f"{coin} {number(event.balances[coin])}" for coin in sorted(event.changed))
        return _told(when, kind, moved, event)
    if isinstance(event, HealthDegraded | HealthRestored):
        return _told(when, kind, f"{event.domain}: {short_reason(event.reason)}", event)
    if isinstance(event, FillEvent) and not event.exec_id:
        return _told(when, kind, f"{_name(event)} complete", event)
    if isinstance(event, FillEvent):
        what = f"{_name(event)} {event.side.value.lower()} {number(event.quantity)} @ {number(event.price)}"
        return _told(when, kind, what, event)
    if isinstance(event, OrderEvent):
        reason = str(getattr(event, "reason", ""))
        return _told(when, kind, f"{_name(event)} {reason}".rstrip(), event)
    return _told(when, kind, "", event)


def _told(when: str, kind: str, what: str, event: BrokerEvent) -> Line:
    style = "red" if isinstance(event, HealthDegraded) else "magenta" if event.origin == "reconcile" else "green"
    return [(f"{when}  ", "dim"), (f"{kind:<21}", style), (f"{event.origin:<11}", "dim"), (what, "")]


def _name(event: OrderEvent) -> str:
    return event.client_order_id or event.broker_order_id


def _cut(line: Line, width: int) -> Line:
    pieces: list[Any] = [(line, "")] if isinstance(line, str) else list(line)
    kept, left = [], width
    for text, style in pieces:
        if len(text) > left:
            kept.append((text[: max(0, left - 1)] + "…" * (left > 0), style))
            break
        kept.append((text, style))
        left -= len(text)
    return kept
