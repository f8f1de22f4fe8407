"""All orders of one broker: which order a fact is about, and what to remember for how long.

The ledger finds the order (by the venue's id, else by ours), lets `apply` join the fact, and keeps the indices. Three
things it must never do: mix two orders because both lack a link id, take an external order for one of ours because an
id was reused, or forget an execution id while the venue can still repeat it.

A change has two steps. `prepare` computes it and changes nothing, so an error in it leaves the books as they were.
`commit` writes it; each of its operations has the same effect when it is done again, so that a commit which was
interrupted is completed by committing once more.

Pure in what it decides: no I/O, no thread, no clock. It is mutable, so its owner guards it with a lock.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator

import attrs

from qkt.errors import InvalidRequestError
from qkt.events import OrderEvent
from qkt.ids import owner_of
from qkt.orders.audit import AuditRecord, record_of
from qkt.orders.deferred import DeferredRows, RowFact, row_of
from qkt.orders.facts import (
    AboutOrder,
    AnyFact,
    ExecutionReported,
    OrderReported,
    SubmitAcknowledged,
    SubmitIntended,
    SubmitWithdrawn,
)
from qkt.orders.machine import apply
from qkt.orders.order import AGED_OUT, ID_ALREADY_USED, NEVER_ARRIVED, AuditEntry, Order
from qkt.orders.report_rules import new_order
from qkt.orders.store import OrderStore
from qkt.slots import constructor

_SAME_MOMENT_MS = 1_000


@attrs.frozen(kw_only=True)
class Change:
    """What one fact did: the order before (None when it was unknown) and after, and the events it causes."""

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


@attrs.frozen(kw_only=True)
class Commit:
    """One fact's whole effect on the books, computed and not yet written.

    ``change`` is None when the fact waits (``cause`` says for what) or removes an order. ``forgotten`` is the key of an
    order that goes. ``is_stored`` is False when the order stays as it is.
    """

    fact: AnyFact
    revision: int
    key: int = -1
    change: Change | None = None
    record: AuditRecord | None = None
    forgotten: int | None = None
    cause: Hashable = None
    is_stored: bool = False


_change = constructor(Change)
_commit = constructor(Commit)


class Ledger:
    """Every order this broker knows, by both ids.

    ``owner``: orders whose client order id carries it were sent by an earlier run, and are ours. ``is_ours``: so are
    those whose client order id it says yes to.
    """

    def __init__(self, owner: str | None = None, is_ours: Callable[[str], bool] | None = None) -> None:
        self._owner = owner
        self._is_ours = is_ours
        self.revision: int = 0
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
        self._deferred = DeferredRows()
        self._unnamed: dict[int, Hashable] = {}  # ours, sent, and the venue's id is not known yet: key -> market
        self._unnamed_in: dict[Hashable, dict[int, None]] = {}  # market -> keys of sent orders without a venue id

    def apply(self, fact: AnyFact) -> list[Change]:
        """Learn one fact; several changes only when it released facts that waited for it."""
        commits = [self.prepare(fact)]
        self.commit(commits[0])
        while (commit := self.prepare_released()) is not None:
            self.commit(commit)
            commits.append(commit)
        self.compress_settled()
        return [commit.change for commit in commits if commit.change is not None]

    def apply_all(self, facts: Iterable[AnyFact]) -> list[Change]:
        """`apply`, for several."""
        return [change for fact in facts for change in self.apply(fact)]

    def prepare(self, fact: AnyFact) -> Commit:
        """The effect of a fact. Changes nothing; raises InvalidRequestError for an unknown or a reused id."""
        match fact:
            case ExecutionReported() | OrderReported():
                return self._prepare_row(fact, may_wait=True)
            case SubmitIntended():
                return self._prepare_own(fact)
            case SubmitWithdrawn():
                return _commit(fact=fact, revision=self.revision, forgotten=self._key_of(fact))
            case SubmitAcknowledged():
                return self._prepare_acknowledgement(fact)
            case _:
                key = self._key_of(fact)
                return self._prepare_change(key, self._orders[key], fact)

    def prepare_released(self) -> Commit | None:
        """The effect of a row whose wait is over, None when there is none."""
        fact = self._deferred.next_ready if self._deferred else None
        return None if fact is None else self._prepare_row(fact, may_wait=False)

    def prepare_submits(self, facts: Iterable[SubmitIntended]) -> list[Commit]:
        """The effects of several submits, to be committed together; raises for the first id that was used before."""
        commits: list[Commit] = []
        names: set[str] = set()
        for number, fact in enumerate(facts):
            commit = self._prepare_own(fact)
            if fact.client_order_id in names:
                raise InvalidRequestError(
                    f"client_order_id {fact.client_order_id!r} was used before in this call; each order needs its own"
                )
            names.add(fact.client_order_id)
            commits.append(attrs.evolve(commit, key=commit.key + number, revision=commit.revision + number))
        return commits

    def drop_released(self) -> None:
        """Give up the row that `prepare_released` would prepare next: it could not be taken in."""
        fact = self._deferred.next_ready if self._deferred else None
        if fact is not None:
            self._deferred.placed(fact)

    def _prepare_own(self, fact: SubmitIntended) -> Commit:
        if fact.client_order_id in self._by_client_id:
            known = self._orders[self._by_client_id[fact.client_order_id]]
            raise InvalidRequestError(
                f"client_order_id {fact.client_order_id!r} was used before "
                f"(broker_order_id={known.broker_order_id!r}); every order needs a fresh one: leave it out and qkt "
                "generates one"
            )
        return self._commit_of(self._next_key, None, new_order(fact), fact, ())

    def _prepare_row(self, fact: RowFact, *, may_wait: bool) -> Commit:
        shown = row_of(fact)
        key = self._by_broker_id.get(shown.broker_order_id)
        if key is None:
            cause = self._undecided_cause(fact) if may_wait else None
            if cause is not None and self._deferred.has_room(fact):
                return _commit(fact=fact, revision=self.revision, cause=cause)
            key = self._own_order_named(fact)
        if key is None:
            found = new_order(fact)
            is_named = self._owner is not None and owner_of(found.client_order_id) == self._owner
            if is_named or (self._is_ours is not None and self._is_ours(found.client_order_id)):
                found = attrs.evolve(found, is_owned=True)
            after, events = apply(found, fact)
            return self._commit_of(self._next_key, None, after, fact, events)
        if isinstance(fact, ExecutionReported) and self._orders.is_compressed_with(key, fact.execution.exec_id):
            return _commit(fact=fact, revision=self.revision)  # published long ago
        return self._prepare_change(key, self._orders[key], fact)

    def _prepare_acknowledgement(self, fact: SubmitAcknowledged) -> Commit:
        """What was taken for an external order may turn out to be ours: its state moves over, its events were told."""
        key = self._key_of(fact)
        order, other_key = self._orders[key], self._by_broker_id.get(fact.broker_order_id, key)
        if other_key == key:
            return self._prepare_change(key, order, fact)
        kept = ("client_order_id", "order_type", "time_in_force", "sent_ms", "created_ms", "external", "quote_sized")
        own = {name: getattr(order, name) for name in kept}
        if self._orders[other_key].status is None:  # known by its executions alone: they say nothing of details
            own["details"] = order.details
        merged = attrs.evolve(
            self._orders[other_key], **own, cancel=order.cancel, modify=order.modify, unanswered_submit=None
        )
        after, events = apply(merged, fact)
        return self._commit_of(key, merged, after, fact, events, forgotten=other_key)

    def _prepare_change(self, key: int, order: Order, fact: AnyFact) -> Commit:
        after, events = apply(order, fact)
        return self._commit_of(key, order, after, fact, events)

    def _commit_of(
        self,
        key: int,
        before: Order | None,
        after: Order,
        fact: AnyFact,
        events: tuple[OrderEvent, ...],
        *,
        forgotten: int | None = None,
    ) -> Commit:
        revision = self.revision + 1
        is_stored = after is not before or forgotten is not None
        return _commit(
            fact=fact,
            revision=revision,
            key=key,
            change=_change(fact=fact, before=before, after=after, events=events),
            record=record_of(revision, fact, before, after, events) if is_stored or events else None,
            forgotten=forgotten,
            is_stored=is_stored,
        )

    def commit(self, commit: Commit) -> Change | None:
        """Write a prepared effect. Committing it once more completes it when it was interrupted."""
        fact, change, deferred = commit.fact, commit.change, self._deferred
        if commit.forgotten is not None:
            self._forget(commit.forgotten)
        if commit.cause is not None:
            assert isinstance(fact, OrderReported | ExecutionReported)
            deferred.add(fact, commit.cause)
        elif change is not None:
            key, before, after = commit.key, change.before, change.after
            self.revision = commit.revision
            self._touched[key] = commit.revision
            if commit.is_stored:
                self._store(key, before, after, commit.revision)
            if commit.record is not None:
                self._orders.note(key, commit.record)
            if commit.is_stored and after.is_settled:
                self._orders.settled(key)
        if deferred:
            self._release_deferred(commit)
        return change

    def compress_settled(self) -> None:
        """Put away orders that have been settled for long. Apart from `commit`, since it takes time and may fail."""
        self._orders.compress_settled()

    def _store(self, key: int, before: Order | None, after: Order, revision: int) -> None:
        self._orders[key] = after
        if before is None:
            self._next_key = max(self._next_key, key + 1)
            self._known_since[key] = revision
            self._open[key] = None
            if after.sent_ms is not None and not after.broker_order_id:
                self._set_unnamed(key, after)
        elif after.is_known_to_venue and not before.is_known_to_venue:
            self._known_since[key] = revision
        if after.broker_order_id:
            self._by_broker_id[after.broker_order_id] = key
            self._set_named(key)
        if after.client_order_id:
            self._by_client_id.setdefault(after.client_order_id, key)
        self._sort_in(key, after)

    def _sort_in(self, key: int, order: Order) -> None:
        if order.cancel is not None and order.cancel.is_remembered and order.has_evidence and order.terminal is None:
            self._due_cancels[key] = None
        elif self._due_cancels:
            self._due_cancels.pop(key, None)
        if order.terminal is None:
            self._open[key] = None
            if self._unsettled:
                self._unsettled.pop(key, None)
            return
        if key in self._open:
            self._closed.append((order.updated_ms, key))
            self._set_named(key)
            self._open.pop(key, None)
        if order.is_settled:
            self._unsettled.pop(key, None)
        else:
            self._unsettled[key] = None

    def _set_unnamed(self, key: int, order: Order) -> None:
        market = (order.symbol, order.side)
        self._unnamed_in.setdefault(market, {})[key] = None
        self._unnamed[key] = market

    def _set_named(self, key: int) -> None:
        market = self._unnamed.get(key)
        if market is None:
            return
        waiting = self._unnamed_in.get(market, {})
        waiting.pop(key, None)
        if not waiting:
            self._unnamed_in.pop(market, None)
            self._deferred.release_caused_by(market)
        self._unnamed.pop(key, None)

    def _forget(self, key: int) -> None:
        order = self._orders.get(key)
        if order is not None:
            if self._by_broker_id.get(order.broker_order_id) == key:
                del self._by_broker_id[order.broker_order_id]
            if self._by_client_id.get(order.client_order_id) == key:
                del self._by_client_id[order.client_order_id]
        self._set_named(key)
        for book in (self._open, self._unsettled, self._touched, self._known_since, self._due_cancels):
            book.pop(key, None)
        self._orders.pop(key)

    def _own_order_named(self, fact: RowFact) -> int | None:
        """Our order with the shown link id, unless the venue's row is provably about another order."""
        shown = row_of(fact)
        key = self._by_client_id.get(shown.client_order_id) if shown.client_order_id else None
        if key is None:
            return None
        order = self._orders[key]
        if order.broker_order_id and order.broker_order_id != shown.broker_order_id:
            return None
        if order.external or (order.symbol, order.side) == (shown.symbol, shown.side):
            return None if _is_other_order_with_our_link_id(order, fact) else key
        return None

    def _undecided_cause(self, fact: RowFact) -> Hashable:
        """What a row waits for that only a later answer can place; None for a row that can be placed now."""
        shown = row_of(fact)
        if shown.client_order_id:
            key = self._by_client_id.get(shown.client_order_id)
            if isinstance(fact, ExecutionReported) and key is not None and _is_disputed(self._orders[key]):
                return shown.client_order_id
            return None
        market = (shown.symbol, shown.side)
        return market if fact.may_lack_client_id and market in self._unnamed_in else None

    def _release_deferred(self, commit: Commit) -> None:
        """Rows that this fact places, or that have waited for too long; each costs only its own."""
        deferred, fact, change = self._deferred, commit.fact, commit.change
        if isinstance(fact, OrderReported | ExecutionReported) and commit.cause is None:
            deferred.placed(fact)
        if change is not None and commit.is_stored:
            after = change.after
            if after.broker_order_id:
                deferred.release(after.broker_order_id)
            if after.client_order_id and not _is_disputed(after):
                deferred.release_caused_by(after.client_order_id)
        if fact.at_ms:
            deferred.release_overdue(fact.at_ms)

    def forget_closed(self, *, closed_before_ms: int, executed_before_ms: int) -> int:
        """Drop settled orders closed before the one time (our clock) whose fills are older than the other (venue's).

        The second bound is what the venue can still repeat: the start of the next execution window. Returns how many.
        """
        dropped = 0
        for _ in range(len(self._closed)):
            closed_ms, key = self._closed[0]
            if closed_ms >= closed_before_ms:
                break
            order = self._orders.get(key)
            if order is not None and not order.is_open:
                last_ms = order.fills.newest_ms
                if key in self._unsettled or last_ms >= executed_before_ms:
                    # Look again when the window may have passed it, not before: looking means decompressing.
                    self._closed.append((closed_before_ms + max(0, last_ms - executed_before_ms), key))
                else:
                    self._forget(key)
                    dropped += 1
            self._closed.popleft()
        return dropped

    def knows(self, fact: OrderReported | ExecutionReported) -> bool:
        """True when a row is about an order in these books."""
        return row_of(fact).broker_order_id in self._by_broker_id or self._own_order_named(fact) is not None

    def _key_of(self, fact: AnyFact) -> int:
        assert isinstance(fact, AboutOrder)
        # an acknowledgement is about the order that was sent; whose the venue's id is, is what it tells
        named = "" if isinstance(fact, SubmitAcknowledged) else fact.broker_order_id
        key = self.find(fact.client_order_id or None, named or None)
        if key is None:
            raise InvalidRequestError(
                f"no order client_order_id={fact.client_order_id!r} broker_order_id={fact.broker_order_id!r}"
            )
        return key

    def find(self, client_order_id: str | None, broker_order_id: str | None = None) -> int | None:
        """The key of an order by either id, or None.

        The venue's id decides where it is known: two of the venue's orders may have had the same client order id.
        """
        key = self._by_broker_id.get(broker_order_id) if broker_order_id else None
        if key is None and client_order_id:
            key = self._by_client_id.get(client_order_id)
        return key

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
            and self._orders[key].is_known_to_venue  # a submit still under way need not be listed (S24)
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


def _is_other_order_with_our_link_id(order: Order, fact: RowFact) -> bool:
    """When the venue refused an order of ours, only a matching one created after our send is ours (S16)."""
    if order.sent_ms is None or not (_is_disputed(order) or order.is_refused):
        return False
    earliest_ms = order.sent_ms - _SAME_MOMENT_MS
    if isinstance(fact, OrderReported):
        created_ms, quantity = fact.report.created_ms, fact.report.quantity
    else:
        # An old order may trade after our send, so for an id that was in use before an execution is no evidence.
        if order.terminal is not None and order.terminal.reason == ID_ALREADY_USED:
            return True
        created_ms, quantity = fact.execution.exec_time_ms, fact.execution.order_quantity
    if order.terminal is not None and order.terminal.reason in (NEVER_ARRIVED, AGED_OUT):
        return False  # nothing was refused: it is the order that was taken for lost
    return created_ms < earliest_ms or (quantity is not None and quantity != order.terms.quantity)


def _is_disputed(order: Order) -> bool:
    """The venue said that the id is in use, and no lookup has told yet by which order."""
    return order.unanswered_submit is not None and order.unanswered_submit.is_duplicate_id and not order.has_evidence
