"""What ``qkt watch`` shows, as lines that fit a terminal: what is worst stands on top, what is oldest falls off."""

from __future__ import annotations

import threading
from collections import deque
from typing import Any

from qkt.cli.formatting import ORDER_COLUMNS, counted, number, order_row, short_reason, span, time_of_day
from qkt.cli.listings import fill_row
from qkt.cli.screen import Line
from qkt.cli.session import Session
from qkt.cli.tables import table
from qkt.events import (
    BalancesUpdated,
    BrokerEvent,
    FillEvent,
    HealthDegraded,
    HealthRestored,
    OrderEvent,
)

_KEPT = 200


class Memory:
    """The last fills and the last events. Heard on the bus's thread, read on the painter's."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._events: deque[BrokerEvent] = deque(maxlen=_KEPT)
        self._fills: deque[FillEvent] = deque(maxlen=_KEPT)

    def hear(self, event: BrokerEvent) -> None:
        """The handler of every event."""
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
    """Everything, cut to the terminal's size."""
    room = max(2, (height - 12) // 4)
    fills, events = memory.latest(room)
    sections = [
        _head(account),
        _health(account),
        _orders(account, room),
        _balances(account),
        _fills(fills),
        _discrepancies(account, room),
        _events(events),
    ]
    lines = [line for section in sections if section for line in (*section, "")][:-1]
    return [_cut(line, width) for line in lines[:height]]


def _head(account: Session) -> list[Line]:
    health, stats = account.broker.health, account.client.stats
    stream_style = "green" if health.stream == "live" else "bold red"
    lost = f", lost {counted(stats.losses, 'time')}" if stats.losses else ""
    return [
        [
            (f"{health.source} at {account.place}", "bold"),
            ("   stream ", "dim"),
            (health.stream, stream_style),
            (lost, ""),
        ],
        [
            ("age of  ", "dim"),
            ("orders ", "dim"),
            (f"{span(health.orders):<8}", _age_style(health.orders)),
            ("executions ", "dim"),
            (f"{span(health.executions):<8}", _age_style(health.executions)),
            ("balances ", "dim"),
            (f"{span(health.balances):<8}", _age_style(health.balances)),
            ("last frame ", "dim"),
            (span(stats.frame_age_ms), ""),
        ],
    ]


def _age_style(age_ms: int | None) -> str:
    return "bold red" if age_ms is None or age_ms > 60_000 else "yellow" if age_ms > 15_000 else ""


def _health(account: Session) -> list[Line]:
    health = account.broker.health
    lines: list[Line] = [
        [(f"degraded {domain}: {short_reason(why)}", "bold red")] for domain, why in health.degraded.items()
    ]
    if health.unresolved:
        lines.append([(f"unresolved: {', '.join(health.unresolved)}; do not send again", "bold yellow")])
    return lines


def _orders(account: Session, room: int) -> list[Line]:
    views = sorted(account.broker.open_orders(), key=lambda view: -view.created_ms)
    if not views:
        return [[("no open orders", "dim")]]
    rows = [[*order_row(view), span(_age_of(account, view.updated_ms))] for view in views[:room]]
    more = len(views) - room
    rest: list[Line] = [[(f"and {more} more open orders", "dim")]] if more > 0 else []
    return [*table((*ORDER_COLUMNS, ">AGE"), rows), *rest]


def _age_of(account: Session, updated_ms: int) -> int | None:
    """How long ago a number last moved or was confirmed."""
    confirmed = account.broker.health.orders
    since_change = account.now_ms() - updated_ms if updated_ms else None
    known = [age for age in (confirmed, since_change) if age is not None]
    return max(0, min(known)) if known else None


def _balances(account: Session) -> list[Line]:
    coins = {coin: held for coin, held in sorted(account.client.wallet.coins.items()) if held.total}
    if not coins:
        return [[("no balances", "dim")]]
    rows = [[coin, number(held.total), number(held.locked), number(held.available)] for coin, held in coins.items()]
    age = span(account.broker.health.balances)
    return table(("COIN", ">TOTAL", ">LOCKED", ">AVAILABLE", ">AGE"), [[*row, age] for row in rows])


def _fills(fills: list[FillEvent]) -> list[Line]:
    if not fills:
        return [[("no fills yet", "dim")]]
    rows = [fill_row(fill, time_of_day(fill.exec_time_ms)) for fill in fills]
    return table(("FILLS (UTC)", "ID", "SYMBOL", "SIDE", ">QUANTITY", ">PRICE", ">FEE"), rows)


def _discrepancies(account: Session, room: int) -> list[Line]:
    found = [one for report in account.broker.reports for one in report.discrepancies][-room:]
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
    """One event on one line; None for balances that did not move."""
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
        kept.append((text[:left], style))
        left -= len(kept[-1][0])
    return kept
