"""The account that a command works on: keys from the environment, testnet unless ``--live``, opened and closed once.

Keys are never arguments, since arguments are kept in shell histories and process lists.
"""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any
from urllib.parse import urlsplit

import attrs

from qkt.broker.composite import CompositeBroker
from qkt.broker.protocol import Broker
from qkt.broker.symbol_pattern import SymbolPattern
from qkt.bus import EventBus
from qkt.bybit.broker import BybitBroker
from qkt.bybit.transport.client import BybitClient
from qkt.cli.output import Line, Screen
from qkt.cli.progress import progress
from qkt.clock import SystemClock
from qkt.errors import BybitApiError, InvalidRequestError, ReconcileError
from qkt.events import BrokerEvent
from qkt.model.orders import OrderView

PREFIXES = {"spot": "BYBIT_SPOT:", "linear": "BYBIT_LINEAR:"}
_LIVE_HOSTS = ("api.bybit.", "api.bytick.", "api.bybitgeorgia.", "api.manepa.")
_UNITS_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}

KEYS_HELP = """Keys come from BYBIT_API_KEY and BYBIT_API_SECRET. Testnet unless --live;
BYBIT_REST_URL and BYBIT_WS_URL point elsewhere, e.g. at `qkt venue`."""


@attrs.frozen(kw_only=True)
class Session:
    """A connected account.

    ``place`` names the venue: ``testnet``, ``LIVE`` or a host. ``brokers`` is category -> broker, for the categories
    that could be read; ``unread`` is category -> reason for those that could not.
    """

    client: BybitClient
    broker: Broker
    brokers: Mapping[str, BybitBroker]
    unread: Mapping[str, str]
    bus: EventBus
    place: str

    @property
    def scope(self) -> str:
        """The categories that were read, for a sentence: ``spot``, ``spot and linear``."""
        return " and ".join(self.brokers)

    @property
    def unresolved(self) -> tuple[str, ...]:
        """Orders without a definite answer, over all categories."""
        return tuple(name for broker in self.brokers.values() for name in broker.health.unresolved)

    def unread_lines(self) -> list[Line]:
        """A line for each category that could not be read."""
        return [[(f"{category} was not read: {reason}", "bold red")] for category, reason in self.unread.items()]

    def now_ms(self) -> int:
        """This machine's wall time in ms; brokers date events with it."""
        return SystemClock().now_ms()


def add_account_options(parser: argparse.ArgumentParser, *, categories: str = "") -> None:
    """``--live`` and, with ``categories`` (the default choice), ``--category``."""
    parser.add_argument("--live", action="store_true", help="the real venue with real money; testnet otherwise")
    if categories:
        choices = (*PREFIXES, "both") if categories == "both" else tuple(PREFIXES)
        parser.add_argument("--category", choices=choices, default=categories, help=f"default: {categories}")


def new_client(options: argparse.Namespace, **client_options: Any) -> BybitClient:
    """A client for the environment's account, not yet connected; raises InvalidRequestError without keys."""
    missing = [name for name in ("BYBIT_API_KEY", "BYBIT_API_SECRET") if not os.environ.get(name)]
    if missing:
        raise InvalidRequestError(
            f"{' and '.join(missing)} not set: put the keys into the environment (never on the command line), "
            "or try `qkt demo`, which needs none"
        )
    rest_url = os.environ.get("BYBIT_REST_URL", "")
    host = urlsplit(rest_url).hostname or ""
    if host.startswith(_LIVE_HOSTS) and not options.live:
        raise InvalidRequestError(f"BYBIT_REST_URL is the live venue ({host}): say --live if you mean it")
    return BybitClient(testnet=not options.live, **client_options)


def place_of(options: argparse.Namespace) -> str:
    """Name of the venue that a command acts on."""
    rest_url = os.environ.get("BYBIT_REST_URL")
    if rest_url:
        return urlsplit(rest_url).netloc or rest_url
    return "LIVE" if options.live else "testnet"


@contextmanager
def session(
    options: argparse.Namespace,
    screen: Screen,
    *,
    hear: Callable[[BrokerEvent], object] | None = None,
    **broker_options: Any,
) -> Iterator[Session]:
    """Connect, read the account's whole state in the chosen categories, and close everything at the end.

    ``hear`` is subscribed before the first round, so that it receives what the round finds. With both categories, one
    that cannot be read is reported in ``Session.unread`` as long as the other can.
    Raises BybitConnectError or ReconcileError when the venue cannot be reached or read.
    """
    place, chosen = place_of(options), getattr(options, "category", "spot")
    client, bus = new_client(options), EventBus()
    if hear is not None:
        bus.subscribe(BrokerEvent, hear)
    with ExitStack() as stack:
        stack.callback(client.close)
        with progress(screen, f"connecting to {place}"):
            client.connect()
            brokers, unread = _open_brokers(chosen, client, bus, stack, broker_options)
        routes = [(SymbolPattern.prefix(PREFIXES[category]), broker) for category, broker in brokers.items()]
        broker: Broker = next(iter(brokers.values())) if len(brokers) == 1 else CompositeBroker(routes)
        yield Session(client=client, broker=broker, brokers=brokers, unread=unread, bus=bus, place=place)


def _open_brokers(
    chosen: str, client: BybitClient, bus: EventBus, stack: ExitStack, options: Mapping[str, Any]
) -> tuple[dict[str, BybitBroker], dict[str, str]]:
    brokers: dict[str, BybitBroker] = {}
    unread: dict[str, str] = {}
    failure: Exception | None = None
    for category in PREFIXES if chosen == "both" else (chosen,):
        try:
            broker = _broker_class(category)(client, bus, **options)
        except (ReconcileError, BybitApiError) as error:
            failure, unread[category] = error, str(error)
            continue
        stack.callback(broker.close)
        brokers[category] = broker
    if not brokers and failure is not None:
        raise failure
    return brokers, unread


def _broker_class(category: str) -> type[BybitBroker]:
    if category == "linear":
        from qkt.bybit.linear import BybitLinearBroker

        return BybitLinearBroker
    from qkt.bybit.spot import BybitSpotBroker

    return BybitSpotBroker


def full_symbol(text: str, category: str = "spot") -> str:
    """``btcusdt`` and ``BTCUSDT`` as ``BYBIT_SPOT:BTCUSDT``; a symbol with a prefix stays as it is."""
    return text if ":" in text else PREFIXES[category] + text.upper()


def bare_symbol(symbol: str) -> str:
    """The venue's own name, for tables."""
    return symbol.partition(":")[2] or symbol


def category_of(symbol: str) -> str:
    """``spot`` or ``linear``, from a symbol's prefix."""
    return next((category for category, prefix in PREFIXES.items() if symbol.startswith(prefix)), "")


def matches(symbol: str, wanted: str | None) -> bool:
    """True when a symbol is the wanted one, given with or without its prefix; None takes all."""
    return wanted is None or symbol == wanted or bare_symbol(symbol) == wanted.upper()


def check_symbol(account: Session, wanted: str | None) -> None:
    """Raise InvalidRequestError for a symbol that no read category lists, so that a typo is not an empty list."""
    if wanted is None:
        return
    if ":" in wanted:
        candidates = [wanted]
    else:
        candidates = [PREFIXES[category] + wanted.upper() for category in account.brokers]
    if not any(account.broker.rules(symbol) for symbol in candidates):
        raise InvalidRequestError(f"{account.place} lists no symbol {wanted!r} in {account.scope}")


def find_order(account: Session, name: str) -> OrderView:
    """The open order with this client or broker order id; raises InvalidRequestError when there is none."""
    for view in account.broker.open_orders():
        if name and name in (view.client_order_id, view.broker_order_id):
            return view
    raise InvalidRequestError(
        f"no open order has the id {name!r} in {account.scope}: `qkt orders` lists them, `qkt fills` shows what has "
        "traded"
    )


def ids_of(view: OrderView) -> dict[str, Any]:
    """Keyword arguments that name an order to a broker: exactly one id."""
    if view.broker_order_id:
        return {"broker_order_id": view.broker_order_id}
    return {"client_order_id": view.client_order_id}


def span_ms(text: str) -> int:
    """``500ms``, ``30s``, ``5m``, ``12h``, ``7d`` in milliseconds; raises InvalidRequestError for anything else."""
    match = re.fullmatch(r"(\d+)(ms|s|m|h|d)", text)
    if match is None:
        raise InvalidRequestError(f"a span is a number and one of ms, s, m, h, d, e.g. 12h; got {text!r}")
    return int(match[1]) * _UNITS_MS[match[2]]
