"""The account a command works on: keys from the environment, testnet unless ``--live``, opened and closed once.

Keys are never arguments: what is typed ends up in shell histories and process lists.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import attrs

from qkt.bus import EventBus
from qkt.bybit.broker import BybitBroker
from qkt.bybit.transport.client import BybitClient
from qkt.cli.progress import progress
from qkt.cli.screen import Screen
from qkt.clock import SystemClock
from qkt.errors import InvalidRequestError
from qkt.events import BrokerEvent
from qkt.model.orders import OrderView

PREFIXES = {"spot": "BYBIT_SPOT:", "linear": "BYBIT_LINEAR:"}
_LIVE_HOSTS = ("api.bybit.", "api.bytick.", "api.bybitgeorgia.", "api.manepa.")

KEYS_HELP = """Keys come from BYBIT_API_KEY and BYBIT_API_SECRET. Testnet unless --live;
BYBIT_REST_URL and BYBIT_WS_URL point elsewhere, e.g. at `qkt venue`."""


@attrs.frozen(kw_only=True)
class Session:
    """A connected account. ``place`` says where, for people: ``testnet``, ``LIVE`` or a host."""

    client: BybitClient
    broker: BybitBroker
    bus: EventBus
    place: str

    def now_ms(self) -> int:
        """This machine's wall time, which dates what brokers tell."""
        return SystemClock().now_ms()


def add_account_options(parser: argparse.ArgumentParser, *, has_category: bool = True) -> None:
    """``--live`` and, where no symbol tells it, ``--category``."""
    parser.add_argument("--live", action="store_true", help="the real venue with real money; testnet otherwise")
    if has_category:
        parser.add_argument("--category", choices=tuple(PREFIXES), default="spot", help="default: spot")


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
    """Where a command acts, for a person to see before it does."""
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
    """Connect, read the account's whole state, and close everything again.

    ``hear`` is subscribed before the first round, so that it hears what the round finds.
    Raises BybitConnectError or ReconcileError when the venue cannot be reached or read.
    """
    place = place_of(options)
    client, bus = new_client(options), EventBus()
    if hear is not None:
        bus.subscribe(BrokerEvent, hear)
    try:
        with progress(screen, f"connecting to {place}"):
            client.connect()
            broker = _broker_class(options)(client, bus, **broker_options)
        try:
            yield Session(client=client, broker=broker, bus=bus, place=place)
        finally:
            broker.close()
    finally:
        client.close()


def _broker_class(options: argparse.Namespace) -> type[BybitBroker]:
    if getattr(options, "category", "spot") == "linear":
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


def find_order(broker: BybitBroker, name: str) -> OrderView:
    """The open order with this client or broker order id; raises InvalidRequestError when there is none."""
    for view in broker.open_orders():
        if name and name in (view.client_order_id, view.broker_order_id):
            return view
    raise InvalidRequestError(
        f"no open order has the id {name!r}: `qkt orders` lists them, `qkt fills` shows what has traded"
    )


def ids_of(view: OrderView) -> dict[str, Any]:
    """How the broker wants an order named: by exactly one id."""
    if view.broker_order_id:
        return {"broker_order_id": view.broker_order_id}
    return {"client_order_id": view.client_order_id}
