"""`ProtectionKeeper`: the exits of one broker's positions, judged after every frame and round that concerns them.

Frames and rounds say which orders concern protection; their newest state is read from the ledger when it is judged.
What changed is published; positions that lack an exit are an open episode of health in the domain ``protection``.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal

from qkt.broker.state import BrokerState
from qkt.events import BrokerEvent, Origin, ProtectionLost, ProtectionUpdated
from qkt.model.protection import Protection, ProtectionKind, ProtectionState
from qkt.orders.ledger import Change, Ledger
from qkt.orders.order import Order
from qkt.reconcile.exits import carrier_of, exit_of
from qkt.reconcile.positions import VenuePosition
from qkt.reconcile.protection import ProtectionBook, ProtectionChange
from qkt.reconcile.protection_rules import Evidence, Key, PositionKey, key_of

DOMAIN = "protection"

_LEAST_BETWEEN_CHECKS_MS = 1_000
_MOST_CHECKS = 30


class ProtectionKeeper:
    """Protection of one broker's positions. Safe from any thread.

    Args:
        positions: every position the venue told of.
        venue_ms: venue time now.
        check_in: runs a round over orders and positions after so many ms, in the background.
    """

    def __init__(
        self,
        state: BrokerState,
        *,
        positions: Callable[[], Mapping[PositionKey, VenuePosition]],
        venue_ms: Callable[[], int],
        check_in: Callable[[int], None],
    ) -> None:
        self._state = state
        self._positions = positions
        self._venue_ms = venue_ms
        self._check_in = check_in
        self._lock = threading.RLock()
        self._book = ProtectionBook()
        self._named: dict[tuple[str, str], None] = {}
        self._read_ms = {"orders": 0, "positions": 0}
        self._checks_left = _MOST_CHECKS
        self._is_check_planned = False

    # what is heard

    def note(self, changes: Iterable[Change]) -> bool:
        """Remember the orders that concern protection; True when there were any."""
        named = [
            (change.after.client_order_id, change.after.broker_order_id)
            for change in changes
            if change.after.details.concerns_protection
        ]
        if named:
            with self._lock:
                self._named |= dict.fromkeys(named)
        return bool(named)

    def after_round(self, changes: Iterable[Change], complete: Mapping[str, int]) -> None:
        """Judge what a round brought; ``complete``: path -> venue time at which its complete read began."""
        self.note(changes)
        with self._lock:
            self._read_ms |= {path: begun_ms for path, begun_ms in complete.items() if path in self._read_ms}
        self.judge("reconcile")

    def judge(self, origin: Origin) -> None:
        """Join what is known now and queue what changed; deliver afterwards."""
        with self._lock:
            orders = self._state.ask(self._orders_of)
            exits = [one for one in map(exit_of, orders) if one is not None]
            carriers = [one for one in map(carrier_of, orders) if one is not None]
            positions = dict(self._positions())
            judgement = self._book.judged(
                Evidence(
                    positions=positions,
                    exits=tuple(exits),
                    carriers=tuple(carriers),
                    orders_read_ms=self._read_ms["orders"],
                    positions_read_ms=self._read_ms["positions"],
                    now_ms=self._venue_ms(),
                )
            )
            self._book = judgement.book
            self._publish(judgement.changes, origin)
            self._forget(orders, positions)
            self._plan_check()

    def _orders_of(self, ledger: Ledger) -> list[Order]:
        found = (ledger.get(client_id or None, broker_id) for client_id, broker_id in self._named)
        return list({id(order): order for order in found if order is not None}.values())

    def _publish(self, changes: Iterable[ProtectionChange], origin: Origin) -> None:
        source = self._state.source
        events: list[BrokerEvent] = [
            (ProtectionLost if change.is_loss else ProtectionUpdated)(
                protection=change.now, old=change.was, source=source, origin=origin
            )
            for change in changes
        ]
        if events:
            self._state.publish(events)
        lost = self._book.lost
        if lost:
            more = f", and {len(lost) - 1} more" if len(lost) > 1 else ""
            self._state.degrade(DOMAIN, f"{lost[0]}{more}")
        else:
            self._state.restore(DOMAIN)

    def _forget(self, orders: Iterable[Order], positions: Mapping[PositionKey, VenuePosition]) -> None:
        """Keep what is open, and what is still evidence of something that does not stand."""
        self._named = {
            (order.client_order_id, order.broker_order_id): None
            for order in orders
            if order.is_open or self._is_evidence(order, positions)
        }

    def _is_evidence(self, order: Order, positions: Mapping[PositionKey, VenuePosition]) -> bool:
        exit_order, carrier = exit_of(order), carrier_of(order)
        if exit_order is not None:
            position = positions.get((exit_order.symbol, exit_order.position_idx))
            is_newer = position is None or exit_order.as_of_ms > position.as_of_ms
            return is_newer or self._is_doubtful(key_of(exit_order))
        if carrier is None:
            return False
        return any(
            self._is_doubtful((carrier.symbol, carrier.position_idx, kind, carrier.name)) for kind in carrier.exits
        )

    def _is_doubtful(self, key: Key) -> bool:
        claim = self._book.claims.get(key)
        return claim is not None and claim.protection.state is not ProtectionState.STANDS

    def _plan_check(self) -> None:
        due_ms = self._book.next_check_ms()
        if due_ms is None:
            self._checks_left = _MOST_CHECKS
            return
        if self._is_check_planned or not self._checks_left:
            return
        self._checks_left -= 1
        self._is_check_planned = True
        self._check_in(max(_LEAST_BETWEEN_CHECKS_MS, due_ms - self._venue_ms() + 1))

    def check_begins(self) -> None:
        """The planned check is about to run: the next may be planned."""
        with self._lock:
            self._is_check_planned = False

    # requests

    def requested(
        self, key: PositionKey, wanted: Mapping[ProtectionKind, Decimal], *, sent_ms: int, settles_from_ms: int
    ) -> None:
        """A request is about to be sent."""
        with self._lock:
            self._book = self._book.requested(key, wanted, sent_ms=sent_ms, settles_from_ms=settles_from_ms)

    def answered(self, key: PositionKey, kinds: Iterable[ProtectionKind], *, is_taken: bool) -> None:
        """The venue took the request, or refused it (or it was provably not sent)."""
        with self._lock:
            if is_taken:
                self._book = self._book.answered(key, tuple(kinds), self._venue_ms())
            else:
                self._book = self._book.refused(key, tuple(kinds))

    def released(self, broker_order_id: str) -> None:
        """The user cancels an exit order."""
        with self._lock:
            self._book = self._book.released(broker_order_id)

    # reading

    @property
    def protections(self) -> tuple[Protection, ...]:
        """Every exit that stands, is wanted or is lost."""
        with self._lock:
            return self._book.protections
