"""Several brokers behind one: a symbol decides who trades it, an id decides who answers for it.

`CompositeBroker` holds no orders. It knows which leaf it gave an order to, asks the leaves about the others (orders
adopted at start, orders sent to a leaf directly), and never guesses: an id nobody knows, or one that two leaves know,
is an InvalidRequestError and nothing is sent. Whatever a leaf can do beyond the protocol (look up and wait, batches,
rules, rounds, the kill switch) can be asked of the composite, which asks the leaves that can.

Give the leaves one bus: then all their events are one order, on one thread.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType, TracebackType
from typing import Any, Self, TypeVar

import attrs

from qkt.broker.protocol import Broker, OrderTypeCapability, SubmitAck, SubmitOutcome
from qkt.errors import InvalidRequestError, QktError
from qkt.health import Health
from qkt.ids import new_client_order_id
from qkt.model.executions import Execution
from qkt.model.instruments import InstrumentRules
from qkt.model.orders import OrderModification, OrderRequest, OrderView
from qkt.orders.audit import OrderAudit

log = logging.getLogger(__name__)

R = TypeVar("R", bound=OrderRequest)
T = TypeVar("T")

# Beyond this many the oldest are forgotten, and found again by asking the leaves.
_OWNERS_KEPT = 100_000


@attrs.frozen
class SymbolPattern:
    """Which symbols a route takes: one, all that begin alike, or all. Case matters, as it does to the venue."""

    text: str
    is_prefix: bool

    @classmethod
    def prefix(cls, text: str) -> SymbolPattern:
        """Symbols that begin with ``text``: ``SymbolPattern.prefix("BYBIT_SPOT:")``."""
        return cls(_text(text), is_prefix=True)

    @classmethod
    def exact(cls, symbol: str) -> SymbolPattern:
        """That one symbol."""
        return cls(_text(symbol), is_prefix=False)

    @classmethod
    def any(cls) -> SymbolPattern:
        """Every symbol."""
        return cls("", is_prefix=True)

    def matches(self, symbol: str) -> bool:
        """True when the route takes ``symbol``."""
        return symbol.startswith(self.text) if self.is_prefix else symbol == self.text

    def __str__(self) -> str:
        return self.text + "*" * self.is_prefix


def _text(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise InvalidRequestError(f'a symbol pattern is text like "BYBIT_SPOT:", got {value!r}')
    return value


class CompositeBroker:
    """Routes each symbol to the first route that matches, else to ``fallback``; closes every leaf when it closes.

    A broker may stand in several routes; it is asked, and closed, once. With no fallback an unmatched symbol is not
    supported, and submitting it raises.
    """

    def __init__(
        self,
        routes: Iterable[tuple[SymbolPattern, Broker]],
        fallback: Broker | None = None,
        *,
        name: str = "COMPOSITE",
    ) -> None:
        self._name = name
        self._routes = tuple(_checked(route) for route in routes)
        self._fallback = fallback
        if not self._routes and fallback is None:
            raise InvalidRequestError("a CompositeBroker needs at least one route or a fallback")
        everyone = [broker for _, broker in self._routes] + ([] if fallback is None else [fallback])
        self._leaves = tuple({id(broker): broker for broker in everyone}.values())
        self._lock = threading.Lock()
        self._owners: dict[str, Broker] = {}
        self._is_closed = False
        self._frozen_because: str | None = None

    @property
    def name(self) -> str:
        """Who this is in logs: ``COMPOSITE`` unless named."""
        return self._name

    @property
    def leaves(self) -> tuple[Broker, ...]:
        """The brokers behind it, each once, in the order of the routes, the fallback last."""
        return self._leaves

    def route(self, symbol: str) -> Broker | None:
        """The broker that trades ``symbol``, None when nobody does."""
        return next((broker for pattern, broker in self._routes if pattern.matches(symbol)), self._fallback)

    # -- orders --------------------------------------------------------------------------------------------------------

    def submit(self, request: OrderRequest) -> SubmitAck:
        """Send the order to its symbol's broker; raises InvalidRequestError when no route takes it."""
        self._check_not_frozen()
        leaf = self._route_or_refuse(_checked_order(request, "submit").symbol)
        return self._submit_at(leaf, [request], is_first=True)[0]

    def submit_many(self, requests: Iterable[OrderRequest]) -> list[SubmitAck]:
        """Send orders, to each leaf its own in one call where it takes several; one ack each, in the order given.

        All are routed and pass the leaves' ``check``, or none is sent. If a leaf then raises for its share, what other
        leaves have taken stands, and its own orders are REJECTED as "never sent"; if no leaf had taken any, it raises.
        """
        orders = _several(requests, "submit_many", "orders")
        self._check_not_frozen()
        leaves = [self._route_or_refuse(_checked_order(order, "submit_many").symbol) for order in orders]
        for order in orders:
            self.check(order)
        acks: dict[int, SubmitAck] = {}
        for leaf, places in _shares(leaves, "submit_many"):
            share = self._submit_at(leaf, [orders[at] for at in places], is_first=not acks)
            acks |= zip(places, share, strict=True)
        return [acks[at] for at in range(len(orders))]

    def _submit_at(self, leaf: Broker, requests: Sequence[OrderRequest], *, is_first: bool) -> list[SubmitAck]:
        named = [_named(request) for request in requests]
        self._claim(named, leaf)
        try:
            acks: list[SubmitAck] = [leaf.submit(named[0])] if len(named) == 1 else _ability(leaf, "submit_many")(named)
            return acks
        except Exception as error:
            # It raised, so nothing was sent: the ids are free, unless older orders of this leaf have them.
            self._disclaim(named)
            if is_first or not isinstance(error, QktError):
                raise
            return [_never_sent(request, error) for request in named]

    def cancel(self, client_order_id: str | None = None, *, broker_order_id: str | None = None) -> SubmitAck:
        """Ask for an order's end at the leaf that holds it; raises InvalidRequestError when none, or several, do."""
        _exactly_one(client_order_id, broker_order_id)
        leaf = self._owner(client_order_id, broker_order_id)
        return leaf.cancel(client_order_id, broker_order_id=broker_order_id)

    def modify(
        self,
        client_order_id: str | None = None,
        changes: OrderModification | None = None,
        *,
        broker_order_id: str | None = None,
    ) -> SubmitAck:
        """Ask for other terms at the leaf that holds the order."""
        if not isinstance(changes, OrderModification):
            raise InvalidRequestError(f"modify takes an OrderModification, got {changes!r}")
        self._check_not_frozen()
        _exactly_one(client_order_id, broker_order_id)
        leaf = self._owner(client_order_id, broker_order_id)
        if client_order_id is not None:
            return leaf.modify(client_order_id, changes)
        ack: SubmitAck = _ability(leaf, "modify")(None, changes, broker_order_id=broker_order_id)
        return ack

    def cancel_all(self, symbol: str | None = None, *, include_external: bool = False) -> list[SubmitAck]:
        """Cancel every open order of ours (and the outside ones, if told), at every leaf, or only on ``symbol``.

        A leaf without a ``cancel_all`` of its own has its open orders cancelled one by one. Every leaf is asked even
        when one fails; then the failure is raised.
        """
        asked = self._leaves if symbol is None else tuple(filter(None, [self.route(symbol)]))
        acks: list[SubmitAck] = []
        _for_each(asked, lambda leaf: acks.extend(_cancel_all_at(leaf, symbol, include_external)))
        return acks

    def cancel_many(
        self, client_order_ids: Iterable[str] = (), *, broker_order_ids: Iterable[str] = ()
    ) -> list[SubmitAck]:
        """Ask for the end of orders, wherever they are; one ack each, client ids first, in the order given.

        Every id is found before anything is sent: one that nobody knows raises.
        """
        wanted: list[tuple[str | None, str | None]] = [
            *((name, None) for name in _several(client_order_ids, "cancel_many", "ids")),
            *((None, name) for name in _several(broker_order_ids, "cancel_many", "ids")),
        ]
        owners = [self._owner(*ids) for ids in wanted]
        acks: dict[int, SubmitAck] = {}
        for leaf, places in _shares(owners, "cancel_many"):
            acks |= zip(places, _cancel_at(leaf, [wanted[at] for at in places]), strict=True)
        return [acks[at] for at in range(len(wanted))]

    # -- looking -------------------------------------------------------------------------------------------------------

    def open_orders(self) -> Sequence[OrderView]:
        """Every leaf's open orders, in the order of the leaves."""
        return tuple(view for leaf in self._leaves for view in leaf.open_orders())

    def order(self, client_order_id: str | None = None, *, broker_order_id: str | None = None) -> OrderView:
        """What the leaf that holds the order believes of it."""
        view: OrderView = self._ask_owner("order", client_order_id, broker_order_id)
        return view

    def fills(self, client_order_id: str | None = None, *, broker_order_id: str | None = None) -> tuple[Execution, ...]:
        """The executions of one order, as its leaf has seen them."""
        fills: tuple[Execution, ...] = self._ask_owner("fills", client_order_id, broker_order_id)
        return fills

    def explain(self, client_order_id: str | None = None, *, broker_order_id: str | None = None) -> OrderAudit:
        """The trail of facts behind an order, from its leaf."""
        story: OrderAudit = self._ask_owner("explain", client_order_id, broker_order_id)
        return story

    def wait(
        self,
        client_order_id: str | None = None,
        *,
        broker_order_id: str | None = None,
        until: str | Callable[[OrderView], bool] = "closed",
        timeout_ms: int = 5_000,
    ) -> OrderView:
        """Wait at the order's leaf until it is ``"accepted"``, ``"resolved"``, ``"closed"``, or a function is true."""
        view: OrderView = self._ask_owner("wait", client_order_id, broker_order_id, until=until, timeout_ms=timeout_ms)
        return view

    def _ask_owner(self, what: str, client_order_id: str | None, broker_order_id: str | None, **options: Any) -> Any:
        _exactly_one(client_order_id, broker_order_id)
        leaf = self._owner(client_order_id, broker_order_id)
        return _ability(leaf, what)(client_order_id, broker_order_id=broker_order_id, **options)

    @property
    def health(self) -> Mapping[str, Health]:
        """Leaf name -> its health, for the leaves that have one."""
        return MappingProxyType({leaf.name: leaf.health for leaf in self._leaves if hasattr(leaf, "health")})

    def reconcile(self) -> Mapping[str, Any]:
        """Have every leaf that can compare itself with its venue do so: leaf name -> its report."""
        reports: dict[str, Any] = {}
        _for_each(self._able("reconcile"), lambda leaf: reports.update({leaf.name: _ability(leaf, "reconcile")()}))
        return MappingProxyType(reports)

    def capabilities_for(self, symbol: str) -> frozenset[OrderTypeCapability]:
        """What the broker of ``symbol`` can do with it; empty when nobody serves it."""
        leaf = self.route(symbol)
        return frozenset() if leaf is None else leaf.capabilities_for(symbol)

    def supports(self, symbol: str) -> bool:
        """True when a route takes ``symbol`` and the broker behind it serves it."""
        leaf = self.route(symbol)
        return leaf is not None and leaf.supports(symbol)

    # -- rules and the kill switch -------------------------------------------------------------------------------------

    def check(self, request: OrderRequest) -> None:
        """Raise what its leaf's ``check`` raises for this order, and send nothing; a leaf without one says nothing."""
        leaf = self._route_or_refuse(_checked_order(request, "check").symbol)
        if hasattr(leaf, "check"):
            _ability(leaf, "check")(request)

    def rules(self, symbol: str) -> InstrumentRules | None:
        """The venue's rules for a symbol, from its leaf; None where it has none."""
        leaf = self.route(symbol)
        if leaf is None or not hasattr(leaf, "rules"):
            return None
        found: InstrumentRules | None = _ability(leaf, "rules")(symbol)
        return found

    def quantize(self, request: R) -> R:
        """The nearest order that fits the venue's steps and is no worse for you; unchanged where there are no rules."""
        leaf = self._route_or_refuse(_checked_order(request, "quantize").symbol)
        fitted: R = _ability(leaf, "quantize")(request) if hasattr(leaf, "quantize") else request
        return fitted

    def freeze(self, reason: str = "asked") -> None:
        """The kill switch, for everything behind it: refuse submits and amends until `unfreeze`; cancels pass."""
        self._frozen_because = reason
        _for_each(self._able("freeze"), lambda leaf: _ability(leaf, "freeze")(reason))

    def unfreeze(self) -> None:
        """Let orders pass again, at every leaf."""
        self._frozen_because = None
        _for_each(self._able("unfreeze"), lambda leaf: _ability(leaf, "unfreeze")())

    @property
    def is_frozen(self) -> bool:
        """True between `freeze` and `unfreeze`; a leaf frozen by itself speaks for itself."""
        return self._frozen_because is not None

    def _check_not_frozen(self) -> None:
        reason = self._frozen_because
        if reason is not None:
            raise InvalidRequestError(
                f"not sent: {self.name} is frozen ({reason}); cancels pass, unfreeze() lets orders pass again"
            )

    def _able(self, ability: str) -> list[Broker]:
        return [leaf for leaf in self._leaves if hasattr(leaf, ability)]

    # -- who owns what -------------------------------------------------------------------------------------------------

    def _route_or_refuse(self, symbol: str) -> Broker:
        if self._is_closed:
            raise InvalidRequestError(f"{self.name} is closed: nothing was sent; build a new broker to trade on")
        leaf = self.route(symbol)
        if leaf is None:
            routes = ", ".join(str(pattern) for pattern, _ in self._routes)
            raise InvalidRequestError(f"no route takes {symbol!r} (routes: {routes}) and there is no fallback")
        return leaf

    def _claim(self, requests: Sequence[OrderRequest], leaf: Broker) -> None:
        """Note who answers for these ids, before anything is sent: a handler may ask before the submit has returned."""
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

    # -- the end -------------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Close every leaf once, also when one of them raises; that error is raised at the end. Idempotent."""
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


def _checked(route: tuple[SymbolPattern, Broker]) -> tuple[SymbolPattern, Broker]:
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


def _never_sent(request: OrderRequest, error: QktError) -> SubmitAck:
    """Part of the call stands at other leaves already, so the rest is told of, not raised."""
    return SubmitAck(
        client_order_id=request.client_order_id or "",
        outcome=SubmitOutcome.REJECTED,
        reject_reason=f"never sent: {error}",
    )


def _several(given: Iterable[T], asked: str, what: str) -> list[T]:
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise InvalidRequestError(f"{asked} takes a list of {what}; got {given!r}")
    return list(given)


def _exactly_one(client_order_id: str | None, broker_order_id: str | None) -> None:
    if (client_order_id is None) == (broker_order_id is None):
        raise InvalidRequestError("name the order by exactly one of client_order_id and broker_order_id")


def _holds(leaf: Broker, client_order_id: str | None, broker_order_id: str | None) -> bool:
    """True when ``leaf`` knows the order: any order if it can look one up, else an open one."""
    look_up = getattr(leaf, "order", None)
    if look_up is not None:
        try:
            return look_up(client_order_id, broker_order_id=broker_order_id) is not None
        except InvalidRequestError:
            return False
    wanted = (client_order_id or None, broker_order_id or None)
    return any(view.client_order_id == wanted[0] or view.broker_order_id == wanted[1] for view in leaf.open_orders())


def _ability(leaf: Broker, name: str) -> Callable[..., Any]:
    """A method beyond the protocol, or a clear refusal."""
    method: Callable[..., Any] | None = getattr(leaf, name, None)
    if method is None:
        raise InvalidRequestError(f"{leaf.name} ({type(leaf).__name__}) cannot {name}")
    return method


def _shares(leaves: Sequence[Broker], ability: str) -> list[tuple[Broker, list[int]]]:
    """Which places go to which leaf: together where the leaf has ``ability``, else one by one."""
    shares: dict[tuple[int, int], tuple[Broker, list[int]]] = {}
    for at, leaf in enumerate(leaves):
        key = (id(leaf), -1 if hasattr(leaf, ability) else at)
        shares.setdefault(key, (leaf, []))[1].append(at)
    return list(shares.values())


def _cancel_at(leaf: Broker, wanted: Sequence[tuple[str | None, str | None]]) -> list[SubmitAck]:
    if len(wanted) == 1:
        return [leaf.cancel(wanted[0][0], broker_order_id=wanted[0][1])]
    ours = [client_order_id for client_order_id, _ in wanted if client_order_id is not None]
    theirs = [broker_order_id for _, broker_order_id in wanted if broker_order_id is not None]
    acks: list[SubmitAck] = _ability(leaf, "cancel_many")(ours, broker_order_ids=theirs)
    return acks


def _cancel_all_at(leaf: Broker, symbol: str | None, include_external: bool) -> Iterable[SubmitAck]:
    if hasattr(leaf, "cancel_all"):
        acks: Iterable[SubmitAck] = _ability(leaf, "cancel_all")(symbol, include_external=include_external)
        return acks
    chosen = [
        view for view in leaf.open_orders() if symbol in (None, view.symbol) and (include_external or not view.external)
    ]
    return [
        leaf.cancel(broker_order_id=view.broker_order_id) if view.broker_order_id else leaf.cancel(view.client_order_id)
        for view in chosen
    ]


def _for_each(leaves: Iterable[Broker], act: Callable[[Broker], object]) -> None:
    """Do it at every leaf; only then raise what went wrong: the error itself, or all of them as a group."""
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
