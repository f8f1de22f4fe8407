"""`SimulatedBybit`: a Bybit V5 venue in this process, for any client that uses HTTP and WebSocket.

It trades by the documented rules, fails on command in the ways the real one does, and reports afterwards what really
happened. It shares no code with the SDK, so a mistake cannot be in both.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from types import TracebackType
from typing import Any

from .admin import Admin
from .api.gateway import Gateway
from .api.limits import RateLimits
from .api.orders import OrderEndpoints
from .api.protection import DisconnectProtection
from .api.reads import ReadEndpoints
from .api.status import SystemStatus
from .clock import Clock, RealClock, SkewedClock, VirtualClock
from .contract_controls import ContractControls
from .controls import Amount
from .exchange.candle_history import Past
from .exchange.exchange import Exchange
from .exchange.instruments import instrument_for
from .exchange.journal import Entry, Journal
from .exchange.linear.contracts import contract_for
from .exchange.money import wire
from .exchange.retcodes import Refusal
from .faults import Fault, Faults
from .http import HttpShell
from .market import LiveMarket
from .server import ServerThread
from .streams.hub import OpenSession, StreamHub
from .streams.private import PrivateSession
from .streams.public import PublicFeed, PublicSession
from .streams.trade import TradeSession

_CATCH_UP_STEPS = 1000
DEFAULT_BALANCES: Mapping[str, Amount] = {"USDT": 100_000, "BTC": 10, "ETH": 100, "SOL": 1000}


class SimulatedBybit(ContractControls):
    """A simulated Bybit on loopback, with its own accounts and markets.

    Args:
        seed: of every random decision; the same seed and the same commands give the same venue.
        symbols: the spot pairs traded.
        linear_symbols: the perpetual contracts traded, such as ``BTCUSDT`` or, settled in USDC, ``BTCPERP``.
        port: 0 picks a free one; the venue listens on loopback only.
        clock: None for real time, or a `VirtualClock` to step.
        balances: of the default account (``key`` / ``secret``), coin -> amount.
        market: ``still`` (prices move only by command) or ``live`` (a seeded price process with counterparties).
        rate_limits: False grants every request; the headers still show the nominal limit.
        frame_latency_ms: how long after a change its frames are sent.
        market_speed: how much market time passes per venue time in a live market.
    """

    def __init__(
        self,
        seed: int = 1,
        symbols: tuple[str, ...] = ("BTCUSDT", "ETHUSDT", "SOLUSDT"),
        port: int = 0,
        clock: Clock | None = None,
        balances: Mapping[str, Amount] | None = None,
        market: str = "still",
        rate_limits: bool = True,
        *,
        linear_symbols: tuple[str, ...] = ("BTCUSDT", "ETHUSDT", "SOLUSDT", "BTCPERP"),
        frame_latency_ms: int = 3,
        market_speed: float = 1.0,
    ) -> None:
        if market not in ("still", "live"):
            raise ValueError(f"market is 'still' or 'live', not {market!r}")
        self.symbols: tuple[str, ...] = tuple(symbols)
        self.seed = seed
        self._clock = SkewedClock(clock or RealClock())
        self.linear_symbols: tuple[str, ...] = tuple(linear_symbols)
        instruments = [
            *(instrument_for(symbol, 30_001 + at) for at, symbol in enumerate(self.symbols)),
            *(contract_for(symbol, 1001 + at) for at, symbol in enumerate(self.linear_symbols)),
        ]
        exchange = Exchange(self._clock.now_ms, seed, instruments)
        super().__init__(exchange, SystemStatus(exchange.now_ms, seed))
        for book in self._exchange.books.values():
            book.tape.past = Past(seed, book.instrument, self._exchange.now_ms())
        self.faults: Faults = Faults(seed, self._clock.base.now_ms)
        self.faults.on_hit = self._note_hit
        self.limits: RateLimits = RateLimits(rate_limits)
        self._later_pending = 0
        orders = OrderEndpoints(self._exchange, self.faults, self._later)
        reads = ReadEndpoints(self._exchange, self.faults)
        self._protection = DisconnectProtection(self._exchange)
        gateway = Gateway(self._exchange, orders, reads, self._protection, self._status, self.limits)
        self._hub = StreamHub(self._exchange, self.faults, self._exclusive, seed, frame_latency_ms)
        self._feed = PublicFeed(self._hub, self._exchange.books, self._status, self._exchange.now_ms)
        self._exchange.engine.listeners.append(self._feed.on_trade)
        streams: dict[str, OpenSession] = {
            "/v5/private": PrivateSession,
            "/v5/trade": partial(TradeSession, gateway, self.limits, self._clock),
        }
        for category in ("spot", "linear", "inverse", "option"):
            streams[f"/v5/public/{category}"] = partial(PublicSession, self._feed)
        streams["/v5/public/misc/status"] = partial(PublicSession, self._feed)
        self._market = LiveMarket(self._exchange, seed, speed=market_speed) if market == "live" else None
        self._admin = Admin(
            self.faults,
            {
                "price": self.set_price,
                "fill": self.fill,
                "cancel": self.cancel,
                "place": self.place,
                "trade": self.trade,
                "deposit": self.deposit,
                "mark-price": self.set_mark_price,
                "index-price": self.set_index_price,
                "funding-rate": self.set_funding_rate,
                "fund": self.fund,
                "liquidate": self.liquidate,
                "adl": self.adl,
                "insurance": self.add_insurance,
                "account": self.add_account,
                "restart": self.restart,
                "maintenance": self.announce_maintenance,
                "end-maintenance": self.end_maintenance,
                "cut": lambda **options: {"cut": self.cut_streams(**options)},
            },
            {
                "": self._index,
                "truth": self.truth,
                "positions": lambda **options: {"positions": self.positions(**options)},
            },
        )
        self._shell = HttpShell(
            gateway,
            self.limits,
            self._hub,
            streams,
            self._admin.handle,
            self.faults,
            self._clock,
            self._exchange.journal,
            self._exclusive,
        )
        self._server = ServerThread(self._shell.handle, "127.0.0.1", port, self._on_loop, self._housekeeping)
        self._refusing = False
        if isinstance(self._clock.base, VirtualClock):
            self._clock.base.listen(self._advance_market)
        self.faults.listen(self._faults_changed)
        self.add_account("key", "secret", balances=DEFAULT_BALANCES if balances is None else balances)

    def start(self) -> SimulatedBybit:
        """Open the port; returns when it accepts connections.

        Raises:
            OSError: the port is taken.
        """
        self._refusing = False
        self._server.start()
        self._faults_changed()
        return self

    def stop(self) -> None:
        """Close every connection and the port; `truth` and `journal` stay readable. Idempotent."""
        self._server.stop()

    def __enter__(self) -> SimulatedBybit:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def is_running(self) -> bool:
        return self._server.is_running

    @property
    def port(self) -> int:
        return int(self._server.port)

    @property
    def rest_url(self) -> str:
        """The base URL of REST.

        Raises:
            RuntimeError: the venue was not started yet and has no port; so do the other URLs.
        """
        return f"http://{self._address}"

    @property
    def ws_url(self) -> str:
        """The full URL of the private stream."""
        return f"ws://{self._address}/v5/private"

    @property
    def trade_ws_url(self) -> str:
        """The full URL of order entry by WebSocket."""
        return f"ws://{self._address}/v5/trade"

    @property
    def status_ws_url(self) -> str:
        """The full URL of the topic ``system.status``."""
        return self.public_ws_url("misc/status")

    def public_ws_url(self, category: str = "spot") -> str:
        """The full URL of the public stream of a category."""
        return f"ws://{self._address}/v5/public/{category}"

    @property
    def _address(self) -> str:
        if not self.port:
            raise RuntimeError("the venue has no port yet: call start() first, or use it in a with statement")
        return f"127.0.0.1:{self.port}"

    def _index(self) -> dict[str, Any]:
        urls = {"rest_url": self.rest_url, "ws_url": self.ws_url, "trade_ws_url": self.trade_ws_url}
        more = {"linear_symbols": list(self.linear_symbols)}
        return {**urls, "accounts": self.accounts, "symbols": list(self.symbols), **more, **self._admin.index()}

    @property
    def accounts(self) -> list[str]:
        return list(self._exchange.accounts)

    @property
    def journal(self) -> Journal:
        return self._exchange.journal

    def now_ms(self) -> int:
        """The venue's time, clock faults included."""
        return self._clock.now_ms()

    def restart(self, *, cut_streams: bool = False) -> None:
        """Restart the matching service: its cache of closed orders is wiped (docs v5/order/open-order)."""
        with self._exclusive():
            self._exchange.restart()
        if cut_streams:
            self.cut_streams()

    def cut_streams(self, account: str | None = None, *, path: str = "/v5/private") -> int:
        """Abort the WebSocket connections to a path; returns how many there were.

        Args:
            account: only those of this account.
            path: ``/v5/private``, ``/v5/trade`` or ``/v5/public/spot``.
        """
        with self._exclusive():
            self._exchange.journal.note("streams cut")
        counts: list[int] = []
        self._server.call(lambda: counts.append(self._hub.cut(path, account)))
        return sum(counts)

    def wait_idle(self, timeout_s: float = 5) -> bool:
        """Wait until every frame is sent and every delayed action is done; False when that took too long."""
        deadline = time.monotonic() + timeout_s
        idle = False

        async def look() -> None:
            nonlocal idle
            while True:
                idle = self._hub.is_idle and not self._later_pending
                if idle or time.monotonic() > deadline:
                    return
                await asyncio.sleep(0.001)

        self._server.run(look, timeout_s + 5)
        return idle

    def wait_for(self, event: str, *, count: int = 1, timeout_s: float = 5, **details: Any) -> bool:
        """Wait until the journal has ``count`` entries of an event with these details; False when it took too long.

        For example ``venue.wait_for("stream subscribed")`` before the first order, or
        ``venue.wait_for("order", orderLinkId="mine-1", orderStatus="Filled")``.
        """
        enough = threading.Event()
        seen = 0

        def look(entry: Entry) -> None:
            nonlocal seen
            seen += entry["event"] == event and all(entry.get(name) == value for name, value in details.items())
            if seen >= count:
                enough.set()

        with self._exclusive():
            for entry in self.journal.entries():
                look(entry)
            self.journal.listen(look)
        found = enough.wait(timeout_s)
        with self._exclusive():
            self.journal.unlisten(look)
        return found

    def _later(self, delay_ms: int, action: Callable[[], object]) -> None:
        """Run an action after a delay; called on the loop, under the lock."""
        loop = self._server.loop
        if loop is None:
            return
        self._later_pending += 1
        loop.call_soon_threadsafe(loop.call_later, delay_ms / 1000, self._run_now, action)

    def _run_now(self, action: Callable[[], object]) -> None:
        with self._exclusive():
            self._later_pending -= 1
            try:
                action()
            except (Refusal, ValueError) as error:
                self._exchange.journal.note("nothing to do", reason=str(error))

    def _note_hit(self, fault: Fault, context: dict[str, str]) -> None:
        with self._exclusive():
            self._exchange.journal.note("fault", fault=fault.name, id=fault.id, **context)

    def _on_loop(self, loop: asyncio.AbstractEventLoop | None) -> None:
        if loop is not None:
            self._shell.stopping = asyncio.Event()
        elif self._shell.stopping is not None:
            self._shell.stopping.set()
            self._hub.close_all()
            self._later_pending = 0
        self._hub.attach(loop)

    def _advance_market(self, now_ms: int, at_most: int | None = None) -> None:
        with self._exclusive():
            if self._market is not None:
                self._market.advance(now_ms, at_most=at_most)
            self._exchange.fund_due(now_ms)

    def _housekeeping(self) -> None:
        self._hub.cut_idle()
        if not isinstance(self._clock.base, VirtualClock):
            self._advance_market(self._clock.base.now_ms(), at_most=_CATCH_UP_STEPS)
        if self._protection.is_configured:
            with self._exclusive():
                self._protection.sweep(self._hub.dcp_connections())
        if self._feed.sessions:
            with self._exclusive():
                self._feed.sweep()
        if self._clock.offset_ms or self._refusing or self.faults.armed("clock") or self.faults.armed("listen"):
            self._faults_changed()

    def _faults_changed(self) -> None:
        """Apply the faults that are states: the offset of the clock, and whether the port is open."""
        skew_ms = sum(int(fault["ms"]) for fault in self.faults.standing("clock_skew"))
        jump_ms = sum(int(fault.memory or 0) for fault in self.faults.all if fault.name == "clock_jump")
        self._clock.offset_ms = skew_ms + jump_ms
        refusals = self.faults.standing("connection_refused")
        if bool(refusals) == self._refusing or not self._server.is_running:
            return
        self._refusing = bool(refusals)
        for fault in refusals:
            fault.hits += 1
        cut = any(fault["cut"] for fault in refusals)
        if refusals:
            self._server.run(lambda: self._server.stop_listening(cut=cut))
        else:
            self._server.run(self._server.listen)

    def __repr__(self) -> str:
        state = f"at {self.rest_url}" if self.is_running else "stopped"
        orders = sum(len(account.orders) for account in self._exchange.accounts.values())
        prices = " ".join(
            f"{book.instrument.symbol}={wire(book.last_price)}"
            for book in self._exchange.books.values()
            if book.instrument.category == "spot"
        )
        return f"<SimulatedBybit {state} orders={orders} {prices} faults={len(self.faults.active)}>"
