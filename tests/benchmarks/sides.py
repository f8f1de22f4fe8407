"""How each contestant is connected to a door of the benchmark server. Peers are unpatched but for their URLs."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import Any

from tests.benchmarks import wire
from tests.benchmarks.servers import Door

KEY, SECRET = "benchmark-key", "benchmark-secret"
_NEVER_MS = 24 * 3_600_000
_ARRIVES_WITHIN_S = 300.0


class Arrivals:
    """Counts what a handler is called with, and wakes the benchmark at the last one expected."""

    def __init__(self) -> None:
        self._done = threading.Event()
        self._left = 0

    def expect(self, count: int) -> None:
        """Begin to count down from ``count``."""
        self._done.clear()
        self._left = count

    def __call__(self, *_arguments: object) -> None:
        self._left -= 1
        if self._left == 0:
            self._done.set()

    def wait(self) -> None:
        """Until the last one came; raises TimeoutError when it does not come."""
        if not self._done.wait(_ARRIVES_WITHIN_S):
            raise TimeoutError(f"{self._left} events did not arrive in {_ARRIVES_WITHIN_S:.0f} s")


class QktSession:
    """A connected `BybitClient` with a spot broker that polls by itself only when told to."""

    def __init__(self, door: Door, *, poll_interval_ms: int = _NEVER_MS, **client_options: Any) -> None:
        import qkt

        self.client = qkt.BybitClient(
            KEY, SECRET, testnet=True, rest_url=door.rest_url, ws_url=door.ws_url, **client_options
        )
        self.client.connect()
        self.bus = qkt.EventBus()
        self.broker = qkt.BybitSpotBroker(self.client, self.bus, poll_interval_ms=poll_interval_ms)

    def submit(self, numbers: Iterable[int]) -> None:
        """Submit one limit order for each number."""
        for order in limit_orders(numbers):
            self.broker.submit(order)

    def close(self) -> None:
        self.broker.close()
        self.client.close()


def limit_orders(numbers: Iterable[int]) -> list[Any]:
    """Limit orders as `qkt.BybitSpotBroker.submit` takes them."""
    import qkt

    return [
        qkt.LimitOrder(
            symbol=f"BYBIT_SPOT:{wire.SYMBOL}",
            side=qkt.Side.BUY,
            quantity=Decimal(wire.ORDER_QUANTITY),
            limit_price=Decimal("59000.1"),
            client_order_id=wire.client_order_id(number),
        )
        for number in numbers
    ]


def can_enter_orders_by_websocket() -> bool:
    """True from the version on whose client takes ``order_entry``."""
    import qkt

    return "order_entry" in inspect.signature(qkt.BybitClient).parameters


def pybit_http(door: Door) -> Any:
    """pybit's REST session."""
    from pybit.unified_trading import HTTP

    session = HTTP(testnet=True, api_key=KEY, api_secret=SECRET)
    session.endpoint = door.rest_url
    return session


def pybit_stream(door: Door) -> Any:
    """pybit's private WebSocket."""
    from pybit import unified_trading

    unified_trading.PRIVATE_WSS = door.ws_url  # type: ignore[misc,unused-ignore]
    return unified_trading.WebSocket(channel_type="private", testnet=True, api_key=KEY, api_secret=SECRET)


def pybit_subscribe(stream: Any, **callbacks: Callable[[Any], object]) -> None:
    """Subscribe to topics, and wait until the server has acknowledged them."""
    for topic, callback in callbacks.items():
        getattr(stream, f"{topic}_stream")(callback)
    threading.Event().wait(0.04 * len(callbacks))


def ccxt_exchange(door: Door) -> Any:
    """ccxt's Bybit, without its own pause between requests."""
    import ccxt

    exchange = ccxt.bybit({"apiKey": KEY, "secret": SECRET, "enableRateLimit": False})
    exchange.urls["api"] = dict.fromkeys(exchange.urls["api"], door.rest_url)
    exchange.options["defaultType"] = "spot"
    exchange.options["fetchMarkets"] = {"types": ["spot"]}
    exchange.has["fetchCurrencies"] = False
    exchange.enableLastJsonResponse = True
    exchange.load_markets()
    return exchange
