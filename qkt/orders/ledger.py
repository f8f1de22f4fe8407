"""All orders of one broker: which order a fact is about, and what to remember for how long.

The ledger finds the order (by the venue's id, else by ours), lets the machine work, and keeps the indices. Three things
it must never do: mix two orders because both lack a link id, take an outside order for one of ours because somebody
reused an id, or forget an execution id while the venue can still repeat it.

Pure in what it decides: no I/O, no thread, no clock. It is mutable, so its owner guards it with a lock.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

import attrs

from qkt.errors import InvalidRequestError
from qkt.events import OrderEvent
from qkt.model.executions import Execution
from qkt.model.reports import OrderReport
from qkt.orders.audit import describe
from qkt.orders.facts import (
    AboutOrder,
    AnyFact,
    ExecutionReported,
    OrderReported,
    SubmitAcknowledged,
    SubmitIntended,
    SubmitWithdrawn,
)
from qkt.orders.machine import apply, new_order
from qkt.orders.order import NEVER_ARRIVED, AuditEntry, Order, TerminalKind
from qkt.orders.store import OrderStore

_DEFERRED_AT_MOST = 1_000
_SAME_MOMENT_MS = 1_000


@attrs.frozen(kw_only=True)
class Change:
    """What one fact did: the order before (None when it was unknown) and after, and what is to be said."""

    fact: AnyFact
    before: Order | None
    after: Order
    events: tuple[OrderEvent, ...] = ()

    @property
    def is_news(self) -> bool:
        """False for duplicates and echoes."""
        return self.after is not self.before

    @property
    def is_resurrection(self) -> bool:
        """True when an order whose end was told shows that this was not its end, even if another end came with it."""
        return (
            self.before is not None
            and self.before.is_terminal_published
            and self.after.terminal != self.before.terminal
        )


class Ledger:
    """Every order this broker knows, by both ids."""

    def __init__(self) -> None:
        self.revision = 0
        self._orders = OrderStore()
        self._next_key = 0
        self._by_client_id: dict[str, int] = {}
        self._by_broker_id: dict[str, int] = {}
        self._open: dict[int, None] = {}
        self._unsettled: dict[int, None] = {}  # ended, and something is still expected
        self._closed: deque[tuple[int, int]] = deque()  # (closed at, key), oldest first
        self._touched: dict[int, int] = {}
        self._known_since: dict[int, int] = {}
        self._due_cancels: dict[int, None] = {}
        self._deferred: deque[OrderReported | ExecutionReported] = deque()
        self._deferred_rows: set[OrderReport | Execution] = set()  # what they show: a repeated row is one row
        self._unnamed: dict[int, None] = {}  # ours, sent, and the venue's id is not known yet

    # -- applying ----------------------------------------------------------------------------------------------------

    def apply(self, fact: AnyFact) -> list[Change]:
        """Learn one fact; several changes only when it released facts that waited for it."""
        change = self._apply(fact)
        changes = [] if change is None else [change]
        is_news = isinstance(fact, SubmitWithdrawn) or (change is not None and change.is_news)
        if self._deferred and is_news:
            changes.extend(self._release_deferred())
        return changes

    def _apply(self, fact: AnyFact) -> Change | None:
        match fact:
            case SubmitIntended():
                return self._open_own(fact)
            case SubmitWithdrawn():
                self._forget(self._key_of(fact))
                return None
            case OrderReported() | ExecutionReported():
                return self._apply_shown(fact)
            case _:
                return self._advance(self._key_of(fact), fact)

    def _open_own(self, fact: SubmitIntended) -> Change:
        if fact.client_order_id in self._by_client_id:
            known = self._orders[self._by_client_id[fact.client_order_id]]
            raise InvalidRequestError(
                f"client_order_id {fact.client_order_id!r} was used before "
                f"(broker_order_id={known.broker_order_id!r}); every order needs a fresh one: leave it out and qkt "
                "generates one"
            )
        order = new_order(fact)
        key = self._add(order)
        self._unnamed[key] = None
        return self._record(key, None, order, fact, ())

    def _apply_shown(self, fact: OrderReported | ExecutionReported) -> Change | None:
        shown = fact.report if isinstance(fact, OrderReported) else fact.execution
        key = self._by_broker_id.get(shown.broker_order_id)
        if key is None:
            is_deferred = shown in self._deferred_rows
            if (is_deferred or len(self._deferred) < _DEFERRED_AT_MOST) and self._is_undecided(fact):
                if not is_deferred:
                    self._deferred.append(fact)
                    self._deferred_rows.add(shown)
                return None
            key = self._own_order_named(fact)
        if key is not None:
            if isinstance(fact, ExecutionReported) and self._orders.is_compressed_with(key, fact.execution.exec_id):
                return None  # told long ago
            return self._advance(key, fact)
        order = new_order(fact)
        key = self._add(order)
        return self._advance(key, fact, is_first=True)

    def knows(self, fact: OrderReported | ExecutionReported) -> bool:
        """True when a row is about an order in these books."""
        shown = fact.report if isinstance(fact, OrderReported) else fact.execution
        return shown.broker_order_id in self._by_broker_id or self._own_order_named(fact) is not None

    def _own_order_named(self, fact: OrderReported | ExecutionReported) -> int | None:
        """Our order with the shown link id, unless the venue's row is provably about another order."""
        shown = fact.report if isinstance(fact, OrderReported) else fact.execution
        key = self._by_client_id.get(shown.client_order_id)
        if key is None:
            return None
        order = self._orders[key]
        if order.broker_order_id and order.broker_order_id != shown.broker_order_id:
            return None
        if order.external or (order.symbol, order.side) == (shown.symbol, shown.side):
            return None if self._is_other_order_with_our_link_id(order, fact) else key
        return None

    @staticmethod
    def _is_other_order_with_our_link_id(order: Order, fact: OrderReported | ExecutionReported) -> bool:
        """When the venue refused the id, only a matching order created after our send is ours (S16)."""
        if order.sent_ms is None or not (_is_disputed(order) or _is_refused(order)):
            return False
        if isinstance(fact, ExecutionReported):
            return _is_refused(order) or fact.execution.exec_time_ms < order.sent_ms - _SAME_MOMENT_MS
        if fact.report.created_ms < order.sent_ms - _SAME_MOMENT_MS:
            return True
        return fact.report.quantity not in (None, order.terms.quantity)

    def _is_undecided(self, fact: OrderReported | ExecutionReported) -> bool:
        """True for a row that only a later answer can place.

        One without a link id may be about an order whose acknowledgement is still on its way (S48). An execution under
        an id that the venue calls taken does not say how old its order is; the order's row will (S16).
        """
        shown = fact.report if isinstance(fact, OrderReported) else fact.execution
        if shown.client_order_id:
            key = self._by_client_id.get(shown.client_order_id)
            return isinstance(fact, ExecutionReported) and key is not None and _is_disputed(self._orders[key])
        return any(
            (self._orders[key].symbol, self._orders[key].side) == (shown.symbol, shown.side) for key in self._unnamed
        )

    def _release_deferred(self) -> list[Change]:
        """Try again what waited for an acknowledgement; what still cannot be placed waits on."""
        waiting, self._deferred, self._deferred_rows = list(self._deferred), deque(), set()
        changes = [self._apply_shown(fact) for fact in waiting]
        return [change for change in changes if change is not None]

    def _advance(self, key: int, fact: AnyFact, *, is_first: bool = False) -> Change:
        order = self._orders[key]
        if isinstance(fact, SubmitAcknowledged):
            order = self._merge_external_entry(key, order, fact.broker_order_id)
        after, events = apply(order, fact)
        return self._record(key, None if is_first else order, after, fact, events)

    def _merge_external_entry(self, key: int, order: Order, broker_order_id: str) -> Order:
        """What was taken for an outside order turns out to be ours: its knowledge moves over, told once already."""
        other_key = self._by_broker_id.get(broker_order_id, key)
        if other_key == key:
            return order
        other = self._orders[other_key]
        self._forget(other_key)
        kept = ("client_order_id", "order_type", "time_in_force", "sent_ms", "created_ms", "external")
        own = {name: getattr(order, name) for name in kept}
        return attrs.evolve(other, **own, cancel=order.cancel, modify=order.modify, unanswered_submit=None)

    # -- the books ---------------------------------------------------------------------------------------------------

    def _add(self, order: Order) -> int:
        key = self._next_key
        self._next_key += 1
        self._orders[key] = order
        self._open[key] = None
        self._known_since[key] = self.revision + 1
        self._index(key, order)
        return key

    def _index(self, key: int, order: Order) -> None:
        if order.broker_order_id:
            self._by_broker_id[order.broker_order_id] = key
            self._unnamed.pop(key, None)
        if order.client_order_id:
            self._by_client_id.setdefault(order.client_order_id, key)

    def _record(
        self, key: int, before: Order | None, after: Order, fact: AnyFact, events: tuple[OrderEvent, ...]
    ) -> Change:
        self.revision += 1
        self._touched[key] = self.revision
        change = Change(fact=fact, before=before, after=after, events=events)
        if not change.is_news and not events:
            return change
        self._orders[key] = after
        if before is None or (not before.broker_order_id and after.broker_order_id):
            self._index(key, after)
        if _is_known_to_venue(after) and (before is None or not _is_known_to_venue(before)):
            self._known_since[key] = self.revision
        self._sort_in(key, after)
        if before is None or events or _shown(before) != _shown(after):
            self._orders.note(key, describe(fact, before, after, events))
        if after.is_settled:
            self._orders.settled(key)
        return change

    def _sort_in(self, key: int, order: Order) -> None:
        if order.cancel is not None and order.cancel.is_remembered and order.has_evidence and order.is_open:
            self._due_cancels[key] = None
        else:
            self._due_cancels.pop(key, None)
        if order.is_open:
            self._open[key] = None
            self._unsettled.pop(key, None)
            return
        if key in self._open:
            del self._open[key]
            self._unnamed.pop(key, None)
            self._closed.append((order.updated_ms, key))
        if order.is_terminal_published and order.missing_quantity == 0:
            self._unsettled.pop(key, None)
        else:
            self._unsettled[key] = None

    def _forget(self, key: int) -> None:
        order = self._orders.pop(key)
        for index, name in ((self._by_broker_id, order.broker_order_id), (self._by_client_id, order.client_order_id)):
            if index.get(name) == key:
                del index[name]
        for book in (self._open, self._unsettled, self._touched, self._known_since, self._unnamed):
            book.pop(key, None)
        self._due_cancels.pop(key, None)

    def forget_closed(self, *, closed_before_ms: int, executed_before_ms: int) -> int:
        """Drop settled orders closed before the one time (our clock) whose fills are older than the other (venue's).

        The second bound is what the venue can still repeat: the start of the next execution window. Returns how many.
        """
        dropped = 0
        for _ in range(len(self._closed)):
            closed_ms, key = self._closed[0]
            if closed_ms >= closed_before_ms:
                break
            self._closed.popleft()
            order = self._orders.get(key)
            if order is None or order.is_open:
                continue
            last_ms = max((fill.exec_time_ms for fill in order.fills.values()), default=0)
            if key in self._unsettled or last_ms >= executed_before_ms:
                # Look again when the window may have passed it, not before: looking means unpacking.
                self._closed.append((closed_before_ms + max(0, last_ms - executed_before_ms), key))
                continue
            self._forget(key)
            dropped += 1
        return dropped

    # -- asking ------------------------------------------------------------------------------------------------------

    def _key_of(self, fact: AboutOrder | OrderReported | ExecutionReported) -> int:
        assert isinstance(fact, AboutOrder)
        key = self.find(fact.client_order_id or None, fact.broker_order_id or None)
        if key is None:
            raise InvalidRequestError(
                f"no order client_order_id={fact.client_order_id!r} broker_order_id={fact.broker_order_id!r}"
            )
        return key

    def find(self, client_order_id: str | None, broker_order_id: str | None = None) -> int | None:
        """The key of an order by either id, or None."""
        if client_order_id:
            return self._by_client_id.get(client_order_id)
        return self._by_broker_id.get(broker_order_id) if broker_order_id else None

    def get(self, client_order_id: str | None = None, broker_order_id: str | None = None) -> Order | None:
        """An order by either id, or None."""
        key = self.find(client_order_id, broker_order_id)
        return None if key is None else self._orders[key]

    def audit(self, client_order_id: str | None, broker_order_id: str | None = None) -> tuple[AuditEntry, ...]:
        """What changed an order, oldest first."""
        key = self.find(client_order_id, broker_order_id)
        return () if key is None else self._orders.audit(key)

    def open_orders(self) -> Iterator[Order]:
        """Orders not known to have ended."""
        return (self._orders[key] for key in self._open)

    def unsettled(self) -> Iterator[Order]:
        """Orders that ended and of which executions are still missing."""
        return (self._orders[key] for key in self._unsettled)

    def untouched_since(self, revision: int) -> Iterator[Order]:
        """Open orders, known to the venue by then, of which nothing has been heard since ``revision``."""
        return (
            self._orders[key]
            for key in self._open
            if self._touched[key] <= revision
            and self._known_since[key] <= revision
            and _is_known_to_venue(self._orders[key])  # a submit still under way need not be listed (S24)
        )

    def due_cancels(self) -> tuple[Order, ...]:
        """Orders whose remembered cancel can be sent now."""
        return tuple(self._orders[key] for key in self._due_cancels)

    @property
    def deferred(self) -> int:
        """How many rows wait to learn whose they are."""
        return len(self._deferred)

    def __len__(self) -> int:
        return len(self._orders)

    def __iter__(self) -> Iterator[Order]:
        return self._orders.values()

    def apply_all(self, facts: Iterable[AnyFact]) -> list[Change]:
        """`apply`, for several."""
        return [change for fact in facts for change in self.apply(fact)]


def _is_disputed(order: Order) -> bool:
    """The venue said that somebody has the id, and nobody has looked yet who."""
    return order.unanswered_submit is not None and order.unanswered_submit.is_duplicate_id and not order.has_evidence


def _is_refused(order: Order) -> bool:
    """The venue never took it: what shows itself under its id is another order."""
    terminal = order.terminal
    return (
        terminal is not None
        and terminal.kind is TerminalKind.REJECTED
        and terminal.reason != NEVER_ARRIVED
        and not order.has_evidence
    )


def _is_known_to_venue(order: Order) -> bool:
    return order.is_acknowledged or order.has_evidence


def _shown(order: Order) -> tuple[object, ...]:
    """What an operator would call a change; a row that merely confirms is none."""
    return (
        order.view_status,
        order.cum_quantity,
        order.missing_quantity,
        order.unanswered_submit,
        order.cancel,
        order.modify,
        order.empty_lookups_ms,
    )
