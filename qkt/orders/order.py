"""State of one order: the joined facts, and which events were published for it.

Every field is a join, so the order in which facts arrive does not matter: executions are a set, the reported quantity
a maximum, the terminal absorbing, the terms the latest venue version. `is_accepted_published` and
`is_terminal_published` record published events; every other field is knowledge about the venue.

An `Order` never changes. One fact makes at most one new value: `OrderDraft` is that value while it is being written.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from decimal import Decimal
from typing import Any, NamedTuple

import attrs

from qkt.events import Origin
from qkt.model.order_kinds import PLAIN, OrderDetails
from qkt.model.order_report import VenueStatus
from qkt.model.orders import OrderModification, OrderStatus, OrderType, OrderView, Side
from qkt.money import ZERO, exact_difference, quotient
from qkt.orders.fills import NO_FILLS, Fills
from qkt.slots import comparer, copier

NEVER_ARRIVED = "never_arrived"
AGED_OUT = "aged_out"
ID_ALREADY_USED = "client order id already used"


class TerminalKind(enum.Enum):
    """The three ways an order ends; a fuller end outranks an emptier one."""

    REJECTED = OrderStatus.REJECTED
    CANCELLED = OrderStatus.CANCELLED
    FILLED = OrderStatus.FILLED


_TERMINAL_RANK = {TerminalKind.REJECTED: 0, TerminalKind.CANCELLED: 1, TerminalKind.FILLED: 2}


@attrs.frozen(kw_only=True)
class Terminal:
    """How the venue says the order ended; ``since_ms`` (our clock) is when qkt first knew."""

    kind: TerminalKind
    reason: str
    quantity: Decimal = ZERO
    updated_ms: int = 0
    since_ms: int = 0

    def join(self, other: Terminal) -> Terminal:
        """The fuller of two; both see the earliest ``since_ms``."""
        winner = max(
            self,
            other,
            key=lambda terminal: (
                terminal.quantity,
                _TERMINAL_RANK[terminal.kind],
                terminal.updated_ms,
                terminal.reason,
            ),
        )
        return attrs.evolve(winner, since_ms=min(self.since_ms, other.since_ms))


@attrs.frozen(kw_only=True)
class Terms:
    """What the order asks for, as of the venue's version ``(updated_ms, as_of_ms)``; (0, 0) is our own request."""

    quantity: Decimal | None
    limit_price: Decimal | None
    stop_price: Decimal | None
    updated_ms: int = 0
    as_of_ms: int = 0

    def says_the_same_as(self, other: Terms) -> bool:
        """True when all values agree, whatever the versions."""
        return (self.quantity, self.limit_price, self.stop_price) == (
            other.quantity,
            other.limit_price,
            other.stop_price,
        )


@attrs.frozen(kw_only=True)
class UnansweredSubmit:
    """A submit without a definite answer. Nothing of it can arrive after ``provable_from_ms`` (venue time)."""

    reason: str
    since_ms: int
    provable_from_ms: int
    is_duplicate_id: bool = False


@attrs.frozen(kw_only=True)
class CancelIntent:
    """A cancel that was asked for and is not settled. ``is_remembered``: to be sent once the order appears."""

    sent_ms: int
    is_remembered: bool = False
    unanswered: str = ""
    provable_from_ms: int = 0


@attrs.frozen(kw_only=True)
class ModifyIntent:
    """An amend that was asked for and is not settled."""

    changes: OrderModification
    sent_ms: int
    unanswered: str = ""
    provable_from_ms: int = 0

    def is_met_by(self, terms: Terms) -> bool:
        """True when the terms show every value that was asked for."""
        wanted = self.changes
        return (
            wanted.new_quantity in (None, terms.quantity)
            and wanted.new_limit_price in (None, terms.limit_price)
            and wanted.new_stop_price in (None, terms.stop_price)
        )

    @property
    def changes_exits(self) -> bool:
        """True when the amend asked for other exits, or another price to trigger by."""
        wanted = self.changes
        return any(one is not None for one in (wanted.new_take_profit, wanted.new_stop_loss, wanted.new_trigger_by))

    def is_shown_by(self, details: OrderDetails) -> bool:
        """True when the details show every exit that was asked for; zero asks for none."""
        wanted = self.changes
        return (
            wanted.new_take_profit in (None, details.take_profit or ZERO)
            and wanted.new_stop_loss in (None, details.stop_loss or ZERO)
            and wanted.new_trigger_by in (None, details.trigger_by)
        )


class AuditEntry(NamedTuple):
    """One line of an order's audit: when qkt learnt a fact, from where, what it was, what it changed."""

    at_ms: int
    origin: Origin
    fact: str
    changed: str


@attrs.define(kw_only=True, eq=False, on_setattr=attrs.setters.NO_OP)
class OrderDraft:
    """All that is known of one order while a fact is being joined into it. Seen only by `apply` and what it calls."""

    client_order_id: str
    broker_order_id: str = ""
    symbol: str
    side: Side | None
    order_type: OrderType = OrderType.UNKNOWN
    time_in_force: str = ""
    quote_sized: bool = False
    order_filter: str = ""
    external: bool = False
    details: OrderDetails = PLAIN
    is_owned: bool = False
    terms: Terms

    sent_ms: int | None = None
    created_ms: int = 0
    is_acknowledged: bool = False
    has_evidence: bool = False
    unanswered_submit: UnansweredSubmit | None = None

    status: VenueStatus | None = None
    venue_status: str = ""
    fills: Fills = NO_FILLS
    reported_quantity: Decimal = ZERO
    terminal: Terminal | None = None
    is_terminal_released: bool = False
    has_final_row: bool = False

    cancel: CancelIntent | None = None
    modify: ModifyIntent | None = None
    has_terms_conflict: bool = False
    empty_lookups_ms: tuple[int, ...] = ()
    is_status_unknown: bool = False

    is_accepted_published: bool = False
    is_terminal_published: bool = False
    updated_ms: int = 0

    @property
    def is_external(self) -> bool:
        """True for an order of others: not sent by this broker (``external``), nor by an earlier run of its owner."""
        return self.external and not self.is_owned

    @property
    def filled_quantity(self) -> Decimal:
        """The sum of the executions seen."""
        return self.fills.quantity

    @property
    def is_open(self) -> bool:
        """True while no terminal state is known, whether or not it was published."""
        return self.terminal is None

    @property
    def is_settled(self) -> bool:
        """True when nothing more is expected: the terminal is published and every reported execution was seen."""
        return self.is_terminal_published and self.reported_quantity <= self.fills.quantity

    @property
    def is_unresolved(self) -> bool:
        """True while it is not known whether, or how, the order stands."""
        return self.terminal is None and (
            self.is_status_unknown or (self.unanswered_submit is not None and not self.has_evidence)
        )

    @property
    def is_known_to_venue(self) -> bool:
        """True once the venue acknowledged the order or showed it."""
        return self.is_acknowledged or self.has_evidence

    @property
    def is_refused(self) -> bool:
        """True when the order was refused or proved lost, and the venue never showed it."""
        return self.terminal is not None and self.terminal.kind is TerminalKind.REJECTED and not self.has_evidence

    @property
    def missing_quantity(self) -> Decimal:
        """What the venue reports as executed and no execution row has shown."""
        filled, reported = self.fills.quantity, self.reported_quantity
        return exact_difference(reported, filled) if reported > filled else ZERO

    @property
    def cum_quantity(self) -> Decimal:
        """The larger of what was seen and what was reported."""
        return max(self.fills.quantity, self.reported_quantity)

    @property
    def leaves_quantity(self) -> Decimal | None:
        """What may still trade; None when the venue measures the order in quote or never told its size."""
        return None if self.quote_sized else self.leaves_after(self.cum_quantity)

    def leaves_after(self, traded: Decimal) -> Decimal | None:
        """What is left of the order's size after ``traded``; None when its size in base coin is not known."""
        quantity = self.terms.quantity
        if self.quote_sized or (quantity is None and self.terminal is None):
            return None
        if quantity is None or self.terminal is not None or traded >= quantity:
            return ZERO
        return exact_difference(quantity, traded)

    @property
    def view_status(self) -> OrderStatus:
        """The one word for where the order is."""
        if self.terminal is not None:
            return self.terminal.kind.value
        if self.is_unresolved:
            return OrderStatus.UNRESOLVED
        if self.fills.quantity or self.reported_quantity:
            return OrderStatus.PARTIALLY_FILLED
        if self.status in _OPEN_STATUS:
            return _OPEN_STATUS[self.status]
        if self.has_evidence:
            return OrderStatus.NEW
        return OrderStatus.ACKNOWLEDGED if self.is_acknowledged else OrderStatus.SUBMITTING

    @property
    def average_price(self) -> Decimal | None:
        """The mean price of the executions seen, to 28 digits; None before the first."""
        return quotient(self.fills.value, self.fills.quantity) if self.fills.quantity else None

    def view(self) -> OrderView:
        """A frozen copy for the user."""
        if self.terminal is not None:
            reason = self.terminal.reason
        else:
            reason = self.unanswered_submit.reason if self.unanswered_submit and self.is_unresolved else ""
        return OrderView(
            client_order_id=self.client_order_id,
            broker_order_id=self.broker_order_id,
            symbol=self.symbol,
            side=self.side,
            order_type=self.order_type,
            time_in_force=self.time_in_force,
            quantity=self.terms.quantity,
            quote_sized=self.quote_sized,
            limit_price=self.terms.limit_price,
            stop_price=self.terms.stop_price,
            status=self.view_status,
            venue_status=self.venue_status,
            is_open=self.is_open,
            is_unresolved=self.is_unresolved,
            external=self.is_external,
            cum_quantity=self.cum_quantity,
            leaves_quantity=self.leaves_quantity,
            avg_price=self.average_price,
            missing_quantity=self.missing_quantity,
            fees=self.fills.fees,
            reason=reason,
            reduce_only=self.details.reduce_only,
            close_on_trigger=self.details.close_on_trigger,
            position_side=self.details.position_side,
            stop_kind=self.details.stop_kind,
            parent_client_order_id=self.details.parent_client_order_id,
            trigger_by=self.details.trigger_by,
            take_profit=self.details.take_profit,
            stop_loss=self.details.stop_loss,
            exit_mode=self.details.exit_mode,
            created_ms=self.created_ms,
            updated_ms=self.updated_ms,
        )


@attrs.frozen(kw_only=True)
class Order(OrderDraft):
    """All that is known of one order. Immutable."""


_copied = copier(Order, OrderDraft)
# a new collection is made only for a new execution, so fills are compared by identity
are_equal: Callable[[Any, Any], bool] = comparer(Order, by_identity=("fills",))


def draft_of(order: Order) -> OrderDraft:
    """A draft with everything the order has."""
    return _copied(order)


def frozen(draft: OrderDraft) -> Order:
    """The draft as an order; the draft must not be used afterwards."""
    draft.__class__ = Order  # the same object with the same fields: a copy would cost more than the whole join
    assert isinstance(draft, Order)
    return draft


_OPEN_STATUS = {
    VenueStatus.NEW: OrderStatus.NEW,
    VenueStatus.PARTIALLY_FILLED: OrderStatus.PARTIALLY_FILLED,
    VenueStatus.UNTRIGGERED: OrderStatus.UNTRIGGERED,
    VenueStatus.TRIGGERED: OrderStatus.TRIGGERED,
}
