"""Uniform read access to brokers, whatever they are: Bybit, paper, composite, or of another venue.

Members that only some brokers have (``client``, ``bus``, ``positions``, ``ownership``, ``reports``) are read if they
exist. Every read is from memory; no method makes a request.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol, cast

import attrs

from qkt.broker.protocol import BasicBroker
from qkt.bus import EventBus
from qkt.errors import InvalidRequestError
from qkt.events import BrokerEvent, OrderEvent
from qkt.health import Health
from qkt.model.balances import Wallet
from qkt.model.order_kinds import PositionSide
from qkt.model.orders import OrderView
from qkt.model.positions import Position
from qkt.model.protection import Protection, ProtectionState
from qkt.orders.audit import OrderAudit
from qkt.reconcile.report import ReconcileReport

Brokers = BasicBroker | Iterable[BasicBroker]
"""One broker (a composite counts as its leaves) or several."""


class ConnectionStats(Protocol):
    """The figures of a client's connection that monitoring reads; `qkt.bybit.transport.client_stats` has them all."""

    @property
    def frame_age_ms(self) -> int | None: ...
    @property
    def lag_ms(self) -> int | None: ...
    @property
    def connections(self) -> int: ...
    @property
    def losses(self) -> int: ...
    @property
    def listener_errors(self) -> int: ...
    @property
    def requests(self) -> int: ...
    @property
    def retries(self) -> int: ...
    @property
    def throttled(self) -> int: ...
    @property
    def failed_reads(self) -> int: ...
    @property
    def unknown_writes(self) -> int: ...
    @property
    def clock_refusals(self) -> int: ...
    @property
    def rest_round_trip_ms(self) -> int | None: ...
    @property
    def requests_in_5_s(self) -> int: ...
    @property
    def request_limit_in_5_s(self) -> int: ...
    @property
    def shut_out_ms(self) -> int: ...


@attrs.frozen(kw_only=True)
class PositionRow:
    """A position that is not flat; ``index`` is 0 in one-way mode, 1 (long) or 2 (short) in hedge mode.

    ``unrealized_pnl`` is in the settle coin, None where the venue did not tell. ``protection`` names the exits with
    their state, and is None where the broker does not keep them.
    """

    symbol: str
    index: int
    quantity: str
    avg_price: str
    unrealized_pnl: str | None = None
    protection: tuple[str, ...] | None = None
    is_protection_lost: bool = False


@attrs.frozen(kw_only=True)
class OwnershipRow:
    """Who owns the account, as far as the broker knows."""

    state: str
    epoch: int
    owner: str


def headroom(stats: ConnectionStats) -> float:
    """Share of the request budget that is free, from 0 to 1; 0 while the venue shuts this address out."""
    if stats.shut_out_ms > 0 or stats.request_limit_in_5_s <= 0:
        return 0.0
    return max(0.0, 1 - stats.requests_in_5_s / stats.request_limit_in_5_s)


class ObservedBroker:
    """One leaf broker with a name that is unique among those observed."""

    def __init__(self, broker: BasicBroker, name: str) -> None:
        self.broker = broker
        self.name = name

    @property
    def bus(self) -> EventBus | None:
        """The bus of its events, None where the broker names none."""
        return cast("EventBus | None", getattr(self.broker, "bus", None))

    @property
    def client(self) -> Any:
        """The client it works on, None where it has none."""
        return getattr(self.broker, "client", None)

    def health(self) -> Health:
        """Ages and open episodes; a broker without ``health`` has no ages."""
        found = getattr(self.broker, "health", None)
        return found if isinstance(found, Health) else Health(source=self.name)

    def open_orders(self) -> Sequence[OrderView]:
        """Every order not known to have ended."""
        return self.broker.open_orders()

    def reports(self) -> Sequence[ReconcileReport]:
        """The last rounds, oldest first."""
        return tuple(getattr(self.broker, "reports", ()))

    def stats(self) -> ConnectionStats | None:
        """Figures of the connection, None where the client keeps none."""
        return cast("ConnectionStats | None", getattr(self.client, "stats", None))

    def wallet(self) -> Wallet | None:
        """Coins of the account; None without a client."""
        wallet = getattr(self.client, "wallet", None)
        return wallet if isinstance(wallet, Wallet) else None

    def clock_offset_ms(self) -> int | None:
        """Venue time minus this machine's; None where no client measures it."""
        offset = getattr(self.client, "clock_offset_ms", None)
        return offset if isinstance(offset, int) else None

    def positions(self) -> list[PositionRow] | None:
        """Positions that are not flat, by symbol; None where the broker has none."""
        read = getattr(self.broker, "positions", None)
        if not callable(read):
            return None
        held = cast("Mapping[tuple[str, int] | str, Position]", read())
        exits = self.protections()
        rows = [_position_row(key, position, exits) for key, position in held.items()]
        return sorted(rows, key=lambda row: (row.symbol, row.index))

    def protections(self) -> Sequence[Protection] | None:
        """Exits of open positions; None where the broker does not keep them."""
        read = getattr(self.broker, "protections", None)
        return cast("Sequence[Protection]", read()) if callable(read) else None

    def ownership(self) -> OwnershipRow | None:
        """Owner and epoch of the account; None without a journal."""
        found = getattr(self.broker, "ownership", None)
        if found is None or str(getattr(found, "state", "none")) == "none":
            return None
        return OwnershipRow(state=str(found.state), epoch=int(found.epoch), owner=str(found.owner))

    def order(self, client_order_id: str, broker_order_id: str) -> OrderView | None:
        """The view of one order, None for an unknown id."""
        read = getattr(self.broker, "order", None)
        if read is None or not (client_order_id or broker_order_id):
            return None
        try:
            return cast(
                OrderView, read(*_id_argument(client_order_id), **_id_options(client_order_id, broker_order_id))
            )
        except InvalidRequestError:
            return None

    def explain(self, client_order_id: str, broker_order_id: str) -> OrderAudit | None:
        """The audit trail of one order, None for an unknown id."""
        read = getattr(self.broker, "explain", None)
        if read is None or not (client_order_id or broker_order_id):
            return None
        try:
            return cast(
                OrderAudit, read(*_id_argument(client_order_id), **_id_options(client_order_id, broker_order_id))
            )
        except InvalidRequestError:
            return None

    def __repr__(self) -> str:
        return f"<ObservedBroker {self.name} {self.broker!r}>"


class ObservedBrokers(tuple[ObservedBroker, ...]):
    """The observed leaf brokers, in the order given."""

    __slots__ = ()

    @property
    def buses(self) -> tuple[EventBus, ...]:
        """Each bus once."""
        return tuple({id(bus): bus for bus in (each.bus for each in self) if bus is not None}.values())

    @property
    def clients(self) -> tuple[tuple[str, ObservedBroker], ...]:
        """Each client once: the names of its brokers joined by ``+``, and the first of these brokers."""
        groups: dict[int, list[ObservedBroker]] = {}
        for each in self:
            if each.client is not None:
                groups.setdefault(id(each.client), []).append(each)
        return tuple(("+".join(each.name for each in group), group[0]) for group in groups.values())

    def names_on(self, bus: EventBus) -> str:
        """The names of the brokers on ``bus``, joined by ``+``."""
        return "+".join(each.name for each in self if each.bus is bus)

    def name_of(self, bus: EventBus, event: BrokerEvent) -> str:
        """The name of the broker that an event on ``bus`` is from; "" where that cannot be told."""
        on_bus = [each for each in self if each.bus is bus]
        if len(on_bus) == 1:
            return on_bus[0].name
        source = str(getattr(event, "source", "") or getattr(event, "symbol", "").partition(":")[0])
        named = [each for each in on_bus if source and source in (each.name, each.broker.name)]
        if len(named) == 1:
            return named[0].name
        if isinstance(event, OrderEvent):
            for each in named or on_bus:
                if each.order(event.client_order_id, event.broker_order_id) is not None:
                    return each.name
        return source


def observe(brokers: Brokers) -> ObservedBrokers:
    """The leaf brokers behind ``brokers``, each once; names that repeat are numbered: ``BYBIT_SPOT``, ``BYBIT_SPOT-2``.

    Raises InvalidRequestError when there is none, or when something is no broker.
    """
    given = [brokers] if isinstance(brokers, BasicBroker) else list(brokers)
    leaves: dict[int, BasicBroker] = {}
    for broker in given:
        if not isinstance(broker, BasicBroker):
            raise InvalidRequestError(f"expected a broker, a CompositeBroker or a list of brokers; got {broker!r}")
        leaves |= {id(leaf): leaf for leaf in _leaves(broker)}
    if not leaves:
        raise InvalidRequestError("there is no broker to observe: the list is empty")
    counted: dict[str, int] = {}
    observed = []
    for leaf in leaves.values():
        counted[leaf.name] = counted.get(leaf.name, 0) + 1
        number = counted[leaf.name]
        observed.append(ObservedBroker(leaf, leaf.name if number == 1 else f"{leaf.name}-{number}"))
    return ObservedBrokers(observed)


def applicable_ages(health: Health) -> dict[str, int | None]:
    """Domain -> age in ms for the domains that the broker has; None while one was never read."""
    return {domain: health.ages_ms[domain] for domain in health.domains}


def _leaves(broker: BasicBroker) -> list[BasicBroker]:
    below = getattr(broker, "leaves", None)
    if below is None:
        return [broker]
    return [leaf for each in below for leaf in _leaves(each)]


def _position_row(key: tuple[str, int] | str, position: Position, exits: Sequence[Protection] | None) -> PositionRow:
    symbol, index = key if isinstance(key, tuple) else (key, 0)
    side = {1: PositionSide.LONG, 2: PositionSide.SHORT}.get(index)
    its_own = [each for each in exits or () if each.symbol == symbol and each.position_side in (None, side)]
    return PositionRow(
        symbol=symbol,
        index=index,
        quantity=f"{position.quantity:f}",
        avg_price=f"{position.avg_price:f}",
        unrealized_pnl=None if position.unrealized_pnl is None else f"{position.unrealized_pnl:f}",
        protection=None if exits is None else tuple(map(_exit_text, its_own)),
        is_protection_lost=any(each.state is ProtectionState.DOES_NOT_STAND for each in its_own),
    )


def _exit_text(each: Protection) -> str:
    name = {"TAKE_PROFIT": "target", "STOP_LOSS": "stop", "TRAILING_STOP": "trailing"}.get(each.kind.value, "exit")
    price = each.price if each.price is not None else each.wanted
    told = name if price is None else f"{name} {price:f}"
    return told if each.stands else f"{told} {each.state.value.lower().replace('_', ' ')}"


def _id_argument(client_order_id: str) -> tuple[str, ...]:
    return (client_order_id,) if client_order_id else ()


def _id_options(client_order_id: str, broker_order_id: str) -> dict[str, str]:
    return {} if client_order_id else {"broker_order_id": broker_order_id}
