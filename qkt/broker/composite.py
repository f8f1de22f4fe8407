"""Several brokers behind one `Broker`: the symbol selects the broker of an order, the id selects it afterwards.

`CompositeBroker` holds no orders. It remembers which leaf received an order and asks the leaves about other ids
(orders adopted at start, orders sent to a leaf directly). An id that no leaf knows, or that two leaves know, raises
InvalidRequestError and nothing is sent.

Give all leaves the same bus: then their events are in one sequence, delivered on one thread.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

import attrs

from qkt.broker.adapter import as_broker, never_sent
from qkt.broker.arguments import check_one_id, list_argument
from qkt.broker.protocol import BasicBroker, Broker, OrderTypeCapability, SubmitAck, WaitGoal
from qkt.broker.symbol_pattern import SymbolPattern
from qkt.errors import InvalidRequestError, QktError
from qkt.health import Health
from qkt.ids import new_client_order_id
from qkt.model.executions import Execution
from qkt.model.instruments import InstrumentRules
from qkt.model.orders import OrderModification, OrderRequest, OrderView
from qkt.orders.audit import OrderAudit
from qkt.readonly import ReadOnlyDict
from qkt.reconcile.report import ReconcileReport

log: logging.Logger = logging.getLogger(__name__)

R = TypeVar("R", bound=OrderRequest)
T = TypeVar("T")

# The oldest entries beyond this number are dropped; those orders are found by asking the leaves.
_OWNERS_KEPT = 100_000


class CompositeBroker:
    """Sends each order to the first route whose pattern matches its symbol, else to ``fallback``.

    Closing it closes every leaf. A broker may be in several routes; it is queried, and closed, once. Without a
    fallback an unmatched symbol is not supported, and submitting it raises InvalidRequestError. A leaf that has only
    the members of `BasicBroker` is completed by an adapter.
    """

    def __init__(
        self,
        routes: Iterable[tuple[SymbolPattern, BasicBroker]],
        fallback: BasicBroker | None = None,
        *,
        name: str = "COMPOSITE",
    ) -> None:
        self._name = name
        given = [_checked(route) for route in routes]
        if not given and fallback is None:
            raise InvalidRequestError("a CompositeBroker needs at least one route or a fallback")
        basic = [broker for _, broker in given] + ([] if fallback is None else [fallback])
        leaf_of = {id(broker): as_broker(broker) for broker in basic}
        self._routes = tuple((pattern, leaf_of[id(broker)]) for pattern, broker in given)
        self._fallback = None if fallback is None else leaf_of[id(fallback)]
        self._leaves = tuple(leaf_of.values())
        self._given = tuple({id(broker): broker for broker in basic}.values())
        self._lock = threading.Lock()
        self._owners: dict[str, Broker] = {}
        self._is_closed = False
        self._frozen_because: str | None = None

    @property
    def name(self) -> str:
        """Name of the broker in logs: ``COMPOSITE`` unless given."""
        return self._name

    @property
    def leaves(self) -> tuple[BasicBroker, ...]:
        """The brokers as they were given, each once, in the order of the routes, the fallback last."""
        return self._given

    def route(self, symbol: str) -> Broker | None:
        """The broker that trades ``symbol``, None when no route takes it."""
        return next((broker for pattern, broker in self._routes if pattern.matches(symbol)), self._fallback)

    def submit(self, request: OrderRequest) -> SubmitAck:
        """Send the order to its symbol's broker; raises InvalidRequestError when no route takes it."""
        self._check_not_frozen()
        leaf = self._route_or_refuse(_checked_order(request, "submit").symbol)
        return self._submit_at(leaf, [request], is_first=True)[0]

    def submit_many(self, requests: Iterable[OrderRequest]) -> list[SubmitAck]:
        """Send orders, one call per leaf; one ack each, in the order given.

        All orders are routed and checked by their leaves first, or none is sent. If a leaf then raises, orders that
        other leaves have accepted stand and its own are REJECTED as "never sent"; if no leaf had accepted any, it
        raises.
        """
        orders = list_argument(requests, "submit_many", "orders")
        self._check_not_frozen()
        leaves = [self._route_or_refuse(_checked_order(order, "submit_many").symbol) for order in orders]
        for order in orders:
            self.check(order)
        acks: dict[int, SubmitAck] = {}
        for leaf, places in _shares(leaves):
            share = self._submit_at(leaf, [orders[at] for at in places], is_first=not acks)
            acks |= zip(places, share, strict=True)
        return [acks[at] for at in range(len(orders))]

    def _submit_at(self, leaf: Broker, requests: Sequence[OrderRequest], *, is_first: bool) -> list[SubmitAck]:
        named = [_named(request) for request in requests]
        self._claim(named, leaf)
        try:
            return [leaf.submit(named[0])] if len(named) == 1 else leaf.submit_many(named)
        except Exception as error:
            # The leaf raised, so it sent nothing and the ids are free again.
            self._disclaim(named)
            if is_first or not isinstance(error, QktError):
                raise
            return [never_sent(request, error) for request in named]

    def cancel(self, client_order_id: str | None = None, *, broker_order_id: str | None = None) -> SubmitAck:
        """Request the cancellation of an order at the leaf that holds it; raises InvalidRequestError when no leaf, or
        two, do.
        """
        check_one_id(client_order_id, broker_order_id)
        leaf = self._owner(client_order_id, broker_order_id)
        return leaf.cancel(client_order_id, broker_order_id=broker_order_id)

    def modify(
        self,
        client_order_id: str | None = None,
        changes: OrderModification | None = None,
        *,
        broker_order_id: str | None = None,
    ) -> SubmitAck:
        """Request other terms at the leaf that holds the order."""
        if not isinstance(changes, OrderModification):
            raise InvalidRequestError(f"modify takes an OrderModification, got {changes!r}")
        self._check_not_frozen()
        check_one_id(client_order_id, broker_order_id)
        leaf = self._owner(client_order_id, broker_order_id)
        return leaf.modify(client_order_id, changes, broker_order_id=broker_order_id)

    def cancel_all(self, symbol: str | None = None, *, include_external: bool = False) -> list[SubmitAck]:
        """Request the cancellation of every open order of ours at every leaf, optionally of one symbol or external ones
        too.

        Every leaf is asked even when one fails; the failure is raised afterwards.
        """
        asked = self._leaves if symbol is None else tuple(filter(None, [self.route(symbol)]))
        acks: list[SubmitAck] = []
        _for_each(asked, lambda leaf: acks.extend(leaf.cancel_all(symbol, include_external=include_external)))
        return acks

    def cancel_many(
        self, client_order_ids: Iterable[str] = (), *, broker_order_ids: Iterable[str] = ()
    ) -> list[SubmitAck]:
        """Request the cancellation of orders wherever they are; one ack each, client ids first, in the order given.

        Every id is located before anything is sent: an unknown one raises InvalidRequestError.
        """
        wanted: list[tuple[str | None, str | None]] = [
            *((name, None) for name in list_argument(client_order_ids, "cancel_many", "ids")),
            *((None, name) for name in list_argument(broker_order_ids, "cancel_many", "ids")),
        ]
        owners = [self._owner(*ids) for ids in wanted]
        acks: dict[int, SubmitAck] = {}
        for leaf, places in _shares(owners):
            acks |= zip(places, _cancel_at(leaf, [wanted[at] for at in places]), strict=True)
        return [acks[at] for at in range(len(wanted))]

    def open_orders(self) -> Sequence[OrderView]:
        """Every leaf's open orders, in the order of the leaves."""
        return tuple(view for leaf in self._leaves for view in leaf.open_orders())

    def order(self, client_order_id: str | None = None, *, broker_order_id: str | None = None) -> OrderView:
        """Current view of one order, from the leaf that holds it."""
        return self._leaf_of(client_order_id, broker_order_id).order(client_order_id, broker_order_id=broker_order_id)

    def fills(self, client_order_id: str | None = None, *, broker_order_id: str | None = None) -> Sequence[Execution]:
        """Executions of one order, oldest first, from the leaf that holds it."""
        return self._leaf_of(client_order_id, broker_order_id).fills(client_order_id, broker_order_id=broker_order_id)

    def explain(self, client_order_id: str | None = None, *, broker_order_id: str | None = None) -> OrderAudit:
        """Audit trail of one order, from the leaf that holds it."""
        leaf = self._leaf_of(client_order_id, broker_order_id)
        return leaf.explain(client_order_id, broker_order_id=broker_order_id)

    def wait(
        self,
        client_order_id: str | None = None,
        *,
        broker_order_id: str | None = None,
        until: WaitGoal | Callable[[OrderView], bool] = "closed",
        timeout_ms: int = 5_000,
    ) -> OrderView:
        """Block until an order reaches a state, at the leaf that holds it; see `Broker.wait`."""
        leaf = self._leaf_of(client_order_id, broker_order_id)
        return leaf.wait(client_order_id, broker_order_id=broker_order_id, until=until, timeout_ms=timeout_ms)

    def _leaf_of(self, client_order_id: str | None, broker_order_id: str | None) -> Broker:
        check_one_id(client_order_id, broker_order_id)
        return self._owner(client_order_id, broker_order_id)

    @property
    def health(self) -> Mapping[str, Health]:
        """Leaf name -> its health, for the leaves that have one."""
        return _by_leaf((leaf.name, leaf.health) for leaf in self._leaves)

    def reconcile(self) -> Mapping[str, ReconcileReport]:
        """Reconcile every leaf with its venue; returns leaf name -> report."""
        reports: list[tuple[str, ReconcileReport | Mapping[str, ReconcileReport]]] = []
        _for_each(self._leaves, lambda leaf: reports.append((leaf.name, leaf.reconcile())))
        return _by_leaf(reports)

    def capabilities_for(self, symbol: str) -> frozenset[OrderTypeCapability]:
        """Capabilities of the leaf that trades ``symbol``; empty when no leaf does."""
        leaf = self.route(symbol)
        return frozenset() if leaf is None else leaf.capabilities_for(symbol)

    def supports(self, symbol: str) -> bool:
        """True when a route takes ``symbol`` and its leaf serves it."""
        leaf = self.route(symbol)
        return leaf is not None and leaf.supports(symbol)

    def check(self, request: OrderRequest) -> None:
        """Raise what its leaf's ``check`` raises for this order, and send nothing."""
        self._route_or_refuse(_checked_order(request, "check").symbol).check(request)

    def rules(self, symbol: str) -> InstrumentRules | None:
        """The venue's rules for a symbol, from its leaf; None where it has none."""
        leaf = self.route(symbol)
        return None if leaf is None else leaf.rules(symbol)

    def quantize(self, request: R) -> R:
        """Nearest order that fits the venue's steps and is no worse for its owner; unchanged without rules."""
        return self._route_or_refuse(_checked_order(request, "quantize").symbol).quantize(request)

    def freeze(self, reason: str = "asked") -> None:
        """Refuse submits and modifications here and at every leaf until `unfreeze`; cancels pass."""
        self._frozen_because = reason
        _for_each(self._leaves, lambda leaf: leaf.freeze(reason))

    def unfreeze(self) -> None:
        """Accept submits and modifications again, here and at every leaf."""
        self._frozen_because = None
        _for_each(self._leaves, lambda leaf: leaf.unfreeze())

    @property
    def is_frozen(self) -> bool:
        """True between `freeze` and `unfreeze` of this broker; a leaf frozen by itself does not count."""
        return self._frozen_because is not None

    def _check_not_frozen(self) -> None:
        reason = self._frozen_because
        if reason is not None:
            raise InvalidRequestError(
                f"not sent: {self.name} is frozen ({reason}); cancels pass, unfreeze() lets orders pass again"
            )

    def _route_or_refuse(self, symbol: str) -> Broker:
        if self._is_closed:
            raise InvalidRequestError(f"{self.name} is closed: nothing was sent; build a new broker to trade on")
        leaf = self.route(symbol)
        if leaf is None:
            routes = ", ".join(str(pattern) for pattern, _ in self._routes)
            raise InvalidRequestError(f"no route takes {symbol!r} (routes: {routes}) and there is no fallback")
        return leaf

    def _claim(self, requests: Sequence[OrderRequest], leaf: Broker) -> None:
        """Record the leaf of these ids before sending: an event handler may use an id before submit has returned."""
        ids = [request.client_order_id or "" for request in requests]
        with self._lock:
            taken = next((each for at, each in enumerate(ids) if each in self._owners or each in ids[:at]), None)
            if taken is not None:
                where = self._owners.get(taken, leaf).name
                raise InvalidRequestError(
                    f"client_order_id {taken!r} was used before, at {where}; every order needs a fresh one: leave it "
                    "out and qkt generates one"
                )
            self._owners |= dict.fromkeys(ids, leaf)
            while len(self._owners) > _OWNERS_KEPT:
                del self._owners[next(iter(self._owners))]

    def _disclaim(self, requests: Sequence[OrderRequest]) -> None:
        with self._lock:
            for request in requests:
                self._owners.pop(request.client_order_id or "", None)

    def _owner(self, client_order_id: str | None, broker_order_id: str | None = None) -> Broker:
        with self._lock:
            owner = self._owners.get(client_order_id or "")
        if owner is not None:
            return owner
        holders = [leaf for leaf in self._leaves if _holds(leaf, client_order_id, broker_order_id)]
        named = f"client_order_id={client_order_id!r}" if client_order_id else f"broker_order_id={broker_order_id!r}"
        if not holders:
            asked = ", ".join(leaf.name for leaf in self._leaves)
            raise InvalidRequestError(f"no order {named} at any leaf of {self.name} ({asked}); nothing was sent")
        if len(holders) > 1:
            several = ", ".join(leaf.name for leaf in holders)
            raise InvalidRequestError(
                f"{named} is an order at each of {several}: ask the broker you mean; nothing was sent"
            )
        return holders[0]

    def close(self) -> None:
        """Close every leaf once, even if one of them raises; its error is raised at the end. Idempotent."""
        with self._lock:
            was_closed, self._is_closed = self._is_closed, True
        if not was_closed:
            _for_each(self._leaves, lambda leaf: leaf.close())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        routes = " ".join(f"{pattern}->{broker.name}" for pattern, broker in self._routes)
        fallback = "none" if self._fallback is None else self._fallback.name
        state = " closed" if self._is_closed else " frozen" if self.is_frozen else ""
        return f"<CompositeBroker {self.name}{state} {routes} fallback={fallback}>"


def _checked(route: tuple[SymbolPattern, BasicBroker]) -> tuple[SymbolPattern, BasicBroker]:
    try:
        pattern, broker = route
    except (TypeError, ValueError):
        raise InvalidRequestError(f"a route is (SymbolPattern, broker), got {route!r}") from None
    if not isinstance(pattern, SymbolPattern):
        raise InvalidRequestError(
            f'a route begins with a SymbolPattern, e.g. SymbolPattern.prefix("X:"); got {pattern!r}'
        )
    return pattern, broker


def _checked_order(request: Any, asked: str) -> OrderRequest:
    if not isinstance(request, OrderRequest):
        raise InvalidRequestError(f"{asked} takes an order such as LimitOrder(...), got {request!r}")
    return request


def _named(request: R) -> R:
    return attrs.evolve(request, client_order_id=request.client_order_id or new_client_order_id())


def _holds(leaf: Broker, client_order_id: str | None, broker_order_id: str | None) -> bool:
    try:
        leaf.order(client_order_id, broker_order_id=broker_order_id)
    except InvalidRequestError:
        return False
    return True


def _shares(leaves: Sequence[Broker]) -> list[tuple[Broker, list[int]]]:
    """Each leaf once, with the positions of its items in the given sequence."""
    shares: dict[int, tuple[Broker, list[int]]] = {}
    for at, leaf in enumerate(leaves):
        shares.setdefault(id(leaf), (leaf, []))[1].append(at)
    return list(shares.values())


def _cancel_at(leaf: Broker, wanted: Sequence[tuple[str | None, str | None]]) -> list[SubmitAck]:
    if len(wanted) == 1:
        return [leaf.cancel(wanted[0][0], broker_order_id=wanted[0][1])]
    ours = [client_order_id for client_order_id, _ in wanted if client_order_id is not None]
    theirs = [broker_order_id for _, broker_order_id in wanted if broker_order_id is not None]
    return leaf.cancel_many(ours, broker_order_ids=theirs)


def _by_leaf(answers: Iterable[tuple[str, T | Mapping[str, T]]]) -> Mapping[str, T]:
    """Leaf name -> answer; the answers of a composite leaf are listed under the names of its own leaves."""
    found: dict[str, T] = {}
    for name, answer in answers:
        found.update(answer if isinstance(answer, Mapping) else {name: answer})
    return ReadOnlyDict(found)


def _for_each(leaves: Iterable[Broker], act: Callable[[Broker], object]) -> None:
    """Call ``act`` for every leaf, then raise the errors: a single one as it is, several as an ExceptionGroup."""
    errors: list[Exception] = []
    for leaf in leaves:
        try:
            act(leaf)
        except Exception as error:  # noqa: BLE001 - the other leaves come first
            log.warning("leaf failed leaf=%s error=%s", leaf.name, error)
            errors.append(error)
    if len(errors) == 1:
        raise errors[0]
    if errors:
        raise ExceptionGroup("several brokers failed", errors)
