"""Prints what happens, one line of at most 80 characters each, with the delay until the bot knew it.

``+ms`` on a line is the time between the moment a fact entered the venue's record and the bot's event about it.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

from qkt.cli.formatting import number, short_reason
from qkt.cli.output import WIDTH, Line, Screen
from qkt.clock import Clock
from qkt.events import (
    BalancesUpdated,
    BrokerEvent,
    FillEvent,
    HealthDegraded,
    HealthRestored,
    OrderAccepted,
    OrderCancelled,
    OrderEvent,
    OrderRejected,
    OrderStatusUnknown,
)

_WHO_STYLE = {"venue": "yellow", "bot": "", "told": "green", "": "dim"}
_ORIGIN_STYLE = {"stream": "green", "reconcile": "bold magenta", "submit": "cyan"}
_HOW_WIDTH = 19

HEADER = f"{'when':>8}  {'who':<7}{'what':<43} {'learned by':<11}{'after':>7}"


class VenueTimes:
    """Times at which facts entered the venue's record. Its methods are called under the venue's lock."""

    def __init__(self) -> None:
        self._times: dict[tuple[str, str], int] = {}

    def note(self, entry: Mapping[str, Any]) -> None:
        """Record the time of one entry of the venue's journal."""
        at_ms, event = int(entry["t"]), entry["event"]
        match event:
            case "order placed":
                self._times.setdefault(("accepted", entry["orderId"]), at_ms)
            case "order":
                self._times[("changed", entry["orderId"])] = at_ms
            case "execution":
                self._times[("execution", entry["execId"])] = at_ms
            case "streams cut":
                self._times[("cut", "")] = at_ms
            case _:
                pass
        if event in ("execution", "deposit", "order"):
            self._times[("money", "")] = at_ms

    def of(self, event: BrokerEvent) -> int | None:
        """Time at which the fact behind an event came true, None where the venue recorded none."""
        match event:
            case FillEvent(exec_id=exec_id) if exec_id:
                return self._times.get(("execution", exec_id))
            case OrderAccepted():
                return self._times.get(("accepted", event.broker_order_id))
            case OrderCancelled() | FillEvent():
                return self._times.get(("changed", event.broker_order_id))
            case BalancesUpdated():
                return self._times.get(("money", ""))
            case HealthDegraded(domain="stream"):
                return self._times.get(("cut", ""))
            case _:
                return None


class Teller:
    """Prints the scenario's lines. Safe from any thread."""

    def __init__(self, screen: Screen, clock: Clock, times: VenueTimes) -> None:
        self._screen = screen
        self._clock = clock
        self._times = times
        self._started_ms = clock.monotonic_ms()
        self._lock = threading.Lock()
        self.tells_balances = False
        self.lines: list[dict[str, Any]] = []

    @property
    def elapsed_ms(self) -> int:
        """Time since the scenario began, in ms."""
        return self._clock.monotonic_ms() - self._started_ms

    def scene(self, number: int, title: str) -> None:
        """Print a heading."""
        with self._lock:
            self.lines.append({"scene": number, "title": title})
            self._screen.line()
            self._screen.line([(f"{number}  {title}", "bold")])

    def venue(self, what: str) -> None:
        """Print something that happens at the venue."""
        self._say("venue", what)

    def bot(self, what: str) -> None:
        """Print something that the bot does."""
        self._say("bot", what)

    def hear(self, event: BrokerEvent) -> None:
        """Print an event; subscribed to the bot's bus."""
        what = describe(event)
        if what is None or (isinstance(event, BalancesUpdated) and not (self.tells_balances and event.changed)):
            return
        true_since_ms = self._times.of(event)
        known_after_ms = None if true_since_ms is None else max(0, event.timestamp - true_since_ms)
        self._say("told", what, origin=event.origin, known_after_ms=known_after_ms)

    def _say(self, who: str, what: str, *, origin: str = "", known_after_ms: int | None = None) -> None:
        with self._lock:
            at_ms = self.elapsed_ms
            line: dict[str, Any] = {"at_ms": at_ms, "who": who, "what": what}
            if origin:
                line |= {"origin": origin, "known_after_ms": known_after_ms}
            self.lines.append(line)
            self._screen.lines(_laid_out(at_ms, who, what, origin, known_after_ms))


def _laid_out(at_ms: int, who: str, what: str, origin: str, known_after_ms: int | None) -> list[Line]:
    head = f"{at_ms / 1000:6.1f} s  "
    room = WIDTH - len(head) - 7 - (_HOW_WIDTH if origin else 0)
    style = _WHO_STYLE[who]
    first, *rest = _broken(what, room)
    after = "" if known_after_ms is None else f"+{known_after_ms} ms"
    how = [(f" {origin:<9}", _ORIGIN_STYLE.get(origin, "")), (f"{after:>9}", "")] if origin else []
    lines: list[Line] = [[(head, "dim"), (f"{who:<7}", style), (f"{first:<{room}}", style), *how]]
    lines += [[(" " * (len(head) + 7), ""), (more, style)] for more in rest]
    return lines


def _broken(text: str, width: int) -> list[str]:
    import textwrap

    return textwrap.wrap(text, width) or [""]


def describe(event: BrokerEvent) -> str | None:
    """Text of an event; None for events that the demo does not print."""
    match event:
        case FillEvent(exec_id=""):
            return f"{_name(event)} {_kind(event)}: complete"
        case FillEvent():
            late = " (late)" if event.late else ""
            return f"{_kind(event)} {_name(event)} {number(event.quantity)} @ {number(event.price)}{late}"
        case OrderCancelled() | OrderRejected():
            return f"{_kind(event)} {_name(event)}: {short_reason(event.reason)}"
        case OrderStatusUnknown():
            return f"{_kind(event)} {_name(event)}: {short_reason(event.reason)}"
        case OrderEvent():
            return f"{_kind(event)} {_name(event)}"
        case BalancesUpdated():
            moved = ", ".join(f"{coin} {number(event.balances[coin])}" for coin in sorted(event.changed))
            return f"BalancesUpdated {moved}"
        case HealthDegraded():
            return f"HealthDegraded {event.domain}: {short_reason(event.reason)}"
        case HealthRestored():
            return f"HealthRestored {event.domain}"
        case _:
            return None


def _kind(event: BrokerEvent) -> str:
    return type(event).__name__


def _name(event: OrderEvent) -> str:
    return "an outside order" if event.external else event.client_order_id
