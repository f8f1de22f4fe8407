"""Orders by the hundred thousand through a real `BrokerState`: from the venue's own JSON, so that no text is shared.

Run as a program it prints one line of JSON: bytes grown (as Python counts them, or resident with ``--rss``), and how
many orders and facts a second of processor time takes, from the text of a frame to the handler.
"""

from __future__ import annotations

import argparse
import gc
import json
import resource
import sys
import tracemalloc
from decimal import Decimal
from pathlib import Path
from time import process_time
from typing import Any

from qkt.broker.state import BrokerState
from qkt.bus import EventBus
from qkt.bybit.codec.frames import execution_facts, order_facts
from qkt.events import BrokerEvent
from qkt.orders.facts import SubmitAcknowledged
from qkt.testing import FixedClock
from qkt.testing.builders import execution_row, frame, order_row, submit_intended

FACTS_PER_ORDER = 7
T0 = 1_700_000_000_000


def frames_of(number: int, at_ms: int) -> tuple[str, ...]:
    """What the stream says of one order of 3 that trades in three steps: row, three executions, row."""
    ids = {"orderId": f"17{number:017d}", "orderLinkId": f"qkt-0123456789-{number}"}
    size = {"qty": "0.003", "price": "60000.25", "createdTime": str(at_ms)}
    opened = order_row(**ids, **size, updatedTime=str(at_ms), leavesQty="0.003")
    fills = [
        execution_row(
            **ids,
            execId=f"22{number:014d}{part}",
            execPrice="60000.25",
            execQty="0.001",
            execFee="0.000001",
            orderQty="0.003",
            leavesQty=f"0.00{2 - part}",
            execTime=str(at_ms + part + 1),
            seq=3 * number + part,
        )
        for part in range(3)
    ]
    closed = {**opened, "orderStatus": "Filled", "cumExecQty": "0.003", "leavesQty": "0", "updatedTime": str(at_ms + 3)}
    told = [frame("order.spot", opened, created_ms=at_ms)]
    told += [frame("execution.spot", fill, created_ms=at_ms + 3) for fill in fills]
    told.append(frame("order.spot", closed, created_ms=at_ms + 3))
    return tuple(json.dumps(one) for one in told)


class Rig:
    """A state, its bus with one handler that counts, and orders passing through."""

    def __init__(self) -> None:
        self.clock = FixedClock(T0)
        self.bus = EventBus(self.clock)
        self.state = BrokerState(source="BYBIT_SPOT", bus=self.bus, clock=self.clock)
        self.events = 0
        self.bus.subscribe(BrokerEvent, self._count)

    def _count(self, _event: Any) -> None:
        self.events += 1

    def pass_through(self, numbers: range, *, ms_apart: int = 10) -> None:
        for number in numbers:
            now_ms = self.clock.advance_ms(ms_apart).now_ms()
            client_order_id = f"qkt-0123456789-{number}"
            self.state.begin_submit(
                submit_intended(
                    client_order_id, quantity=Decimal("0.003"), limit_price=Decimal("60000.25"), sent_ms=now_ms
                )
            )
            self.state.absorb(
                [SubmitAcknowledged(client_order_id=client_order_id, broker_order_id=f"17{number:017d}", at_ms=now_ms)]
            )
            for text in frames_of(number, now_ms):
                told = json.loads(text)
                translate = order_facts if told["topic"] == "order.spot" else execution_facts
                self.state.absorb(translate(told, "spot", now_ms).facts)
            self.bus.deliver()
            if number % 100 == 0:
                self.state.take_changes()  # as every round does

    def forget(self, *, closed_before_ms: int, executed_before_ms: int) -> int:
        return self.state.ask(
            lambda ledger: ledger.forget_closed(
                closed_before_ms=closed_before_ms, executed_before_ms=executed_before_ms
            )
        )


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--orders", type=int, default=10_000)
    arguments.add_argument("--at-hand", type=int, help="settled orders that stay unpacked, if not as many as always")
    arguments.add_argument("--rss", action="store_true", help="resident memory instead of what Python allocated")
    told = arguments.parse_args()
    rig = Rig()
    if told.at_hand is not None:
        rig.state.ask(lambda ledger: setattr(ledger._orders, "_settled_kept_active", told.at_hand))
    rig.pass_through(range(500))  # what is bought once: caches, code, the first of everything
    gc.collect()
    if not told.rss:
        tracemalloc.start()
    before, started = _used(rss=told.rss), process_time()
    rig.pass_through(range(500, 500 + told.orders))
    seconds = process_time() - started
    gc.collect()
    grown = _used(rss=told.rss) - before
    found = {
        "orders": told.orders,
        "grown_bytes": grown,
        "bytes_per_order": grown // told.orders,
        "events": rig.events,
        "facts_per_second": round(FACTS_PER_ORDER * told.orders / seconds),
    }
    sys.stdout.write(json.dumps(found) + "\n")


def _used(*, rss: bool) -> int:
    if not rss:
        return tracemalloc.get_traced_memory()[0]
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


if __name__ == "__main__":
    sys.exit(main())  # type: ignore[func-returns-value]
