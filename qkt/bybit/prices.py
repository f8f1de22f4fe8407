"""`PriceFeed`: last prices and best bid and ask by the public stream, each with its age.

A price that is old, or that came before a connection was lost, is not given as if it were current: `PriceFeed.last`
raises. Every category has a connection of its own; a lost one is opened again, and its topics begin with a new
snapshot. Threads: ``qkt-prices`` reads, one per category, and ``qkt-prices-link`` connects.

Source: docs v5/websocket/public/ticker, v5/websocket/public/orderbook.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable
from decimal import Decimal
from types import TracebackType
from typing import Self

import attrs

from qkt.broker.price_source import PriceListener
from qkt.bybit.codec.envelope import Envelope
from qkt.bybit.codec.prices import PriceUpdate, to_price_update
from qkt.bybit.codec.symbol import BybitSymbol
from qkt.bybit.transport.client import BybitClient
from qkt.bybit.transport.stream import PublicStream, StreamHooks
from qkt.clock import Clock, SystemClock
from qkt.errors import InvalidRequestError, QktError, StalePriceError, VenueProtocolError
from qkt.net.scheduler import ThreadScheduler

log: logging.Logger = logging.getLogger(__name__)


@attrs.frozen(kw_only=True)
class Quote:
    """Prices of one symbol at one moment; None where nothing is known, or that side of the book is empty.

    ``last_age_ms`` and ``quote_age_ms`` count from the venue's last message about the value. ``is_live`` is False when
    the connection was lost since.
    """

    symbol: str
    last: Decimal | None = None
    last_age_ms: int | None = None
    bid: Decimal | None = None
    bid_quantity: Decimal | None = None
    ask: Decimal | None = None
    ask_quantity: Decimal | None = None
    quote_age_ms: int | None = None
    is_live: bool = False


@attrs.define
class _Known:
    """What is known of one symbol; times are of the monotonic clock."""

    last: Decimal | None = None
    last_at_ms: int | None = None
    bid: tuple[Decimal | None, Decimal] | None = None
    ask: tuple[Decimal | None, Decimal] | None = None
    quoted_at_ms: int | None = None
    is_live: bool = False


class PriceFeed:
    """Follows the prices of symbols from `follow` to `close`.

    Args:
        client: whose venue and connection settings are used; it need not be connected, and its key is not sent.
        symbols: qkt symbols to follow at once, e.g. ``["BYBIT_SPOT:BTCUSDT"]``.
        max_age_ms: how old a price may be for `last` to give it. The venue sends a message when something changed, so
            a quiet market needs more than a busy one.
        clock: measures ages.

    Safe from any thread. Raises what `follow` raises.
    """

    def __init__(
        self,
        client: BybitClient,
        symbols: Iterable[str] = (),
        *,
        max_age_ms: int = 10_000,
        clock: Clock | None = None,
    ) -> None:
        if not isinstance(client, BybitClient):
            raise InvalidRequestError(f"client must be a BybitClient, got {type(client).__name__}")
        if not isinstance(max_age_ms, int) or isinstance(max_age_ms, bool) or max_age_ms <= 0:
            raise InvalidRequestError(f"max_age_ms must be a whole number of ms above zero, got {max_age_ms!r}")
        self._client = client
        self._max_age_ms = max_age_ms
        self._clock = clock or SystemClock()
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._known: dict[str, _Known] = {}
        self._streams: dict[str, PublicStream] = {}
        self._listeners: tuple[PriceListener, ...] = ()
        self._opening = threading.Lock()
        self._link: ThreadScheduler | None = None
        self._is_closed = False
        try:
            self.follow(*symbols)
        except BaseException:
            self.close()
            raise

    def follow(self, *symbols: str) -> None:
        """Follow more symbols; their connection is opened when it is the first of its category.

        A venue that cannot be reached is tried again in the background: `last` raises meanwhile.
        Raises InvalidRequestError for what is no symbol of Bybit, or when the feed is closed.
        """
        parsed = [BybitSymbol.parse(symbol) for symbol in symbols]
        with self._opening:
            for symbol, found in zip(symbols, parsed, strict=True):
                with self._lock:
                    self._check_open()
                    if symbol in self._known:
                        continue
                    self._known[symbol] = _Known()
                stream = self._stream_of(found.category)
                for topic in (f"tickers.{found.bare}", f"orderbook.1.{found.bare}"):
                    stream.subscribe(topic)

    def _stream_of(self, category: str) -> PublicStream:
        stream = self._streams.get(category)
        if stream is not None:
            return stream
        with self._lock:  # as `close`, which may come in between: what it does not find is not made afterwards
            self._check_open()
            if self._link is None:
                self._link = ThreadScheduler(2, name="qkt-prices-link")
        hooks = StreamHooks(
            on_frames=lambda frames: self._frames_came(category, frames),
            on_ready=lambda: None,
            on_lost=lambda _reason: self._lost(category),
            on_fault=lambda fault: log.warning("price topic refused topic=%s reason=%s", fault.topic, fault.reason),
            on_malformed=lambda _reason: None,
            resynchronise=lambda: None,
        )
        stream = self._client.public_stream(category, hooks, scheduler=self._link, thread_name="qkt-prices")
        with self._lock:
            self._streams[category] = stream
            is_closed = self._is_closed
        if is_closed:
            stream.close()
            self._check_open()
        try:
            stream.open()
        except (OSError, QktError) as error:
            log.warning("price stream not open category=%s error=%s", category, error)
            stream.reconnect("price stream not open")
        return stream

    def _check_open(self) -> None:
        if self._is_closed:
            raise InvalidRequestError("the price feed is closed; build a new one")

    def last(self, symbol: str, *, max_age_ms: int | None = None) -> Decimal:
        """The last traded price.

        Raises:
            StalePriceError: it is not known yet, is older than ``max_age_ms`` (the feed's by default), or the
                connection was lost since it came.
            InvalidRequestError: the symbol is not followed.
        """
        quote = self.quote(symbol)
        limit_ms = self._max_age_ms if max_age_ms is None else max_age_ms
        if quote.last is None or quote.last_age_ms is None:
            raise StalePriceError(f"no price of {symbol} yet: wait for it, e.g. with wait(), or check the symbol")
        if not quote.is_live:
            raise StalePriceError(
                f"the connection was lost since the price of {symbol} came {quote.last_age_ms} ms ago; it reconnects"
            )
        if quote.last_age_ms > limit_ms:
            raise StalePriceError(f"the price of {symbol} is {quote.last_age_ms} ms old and {limit_ms} are allowed")
        return quote.last

    def quote(self, symbol: str) -> Quote:
        """Last price, best bid and ask, and their ages, however old; raises InvalidRequestError if not followed."""
        now_ms = self._clock.monotonic_ms()
        with self._lock:
            known = self._known.get(symbol)
            if known is None:
                followed = ", ".join(self._known) or "nothing"
                raise InvalidRequestError(f"{symbol!r} is not followed (followed: {followed}); call follow() first")
            bid, ask = known.bid, known.ask
            return Quote(
                symbol=symbol,
                last=known.last,
                last_age_ms=None if known.last_at_ms is None else now_ms - known.last_at_ms,
                bid=bid[0] if bid else None,
                bid_quantity=bid[1] if bid else None,
                ask=ask[0] if ask else None,
                ask_quantity=ask[1] if ask else None,
                quote_age_ms=None if known.quoted_at_ms is None else now_ms - known.quoted_at_ms,
                is_live=known.is_live,
            )

    def wait(self, symbol: str, *, timeout_ms: int = 5_000) -> Decimal:
        """`last`, waiting for it up to ``timeout_ms``; raises StalePriceError afterwards."""
        self.quote(symbol)
        with self._changed:
            self._changed.wait_for(lambda: self._is_closed or self._is_known(symbol), timeout=timeout_ms / 1000)
        return self.last(symbol)

    def _is_known(self, symbol: str) -> bool:
        known = self._known[symbol]
        return known.is_live and known.last is not None

    def on_price(self, listener: PriceListener) -> None:
        """Call ``listener(symbol, price)`` for each last price from now on, and at once for those that are current.

        It runs on the thread that reads and must return quickly. `PaperBroker.follow` uses it.
        """
        with self._lock:
            self._listeners = (*self._listeners, listener)
            now = [(symbol, one.last) for symbol, one in self._known.items() if one.is_live and one.last is not None]
        for symbol, price in now:
            self._tell(listener, symbol, price)

    @property
    def symbols(self) -> tuple[str, ...]:
        """The symbols that are followed."""
        return tuple(self._known)

    @property
    def is_live(self) -> bool:
        """True while every connection is open and subscribed."""
        streams = list(self._streams.values())
        return bool(streams) and all(stream.state == "live" for stream in streams)

    def close(self) -> None:
        """End the connections; idempotent, from any thread. Prices are stale afterwards."""
        with self._changed:
            self._is_closed = True
            self._listeners = ()
            for known in self._known.values():
                known.is_live = False
            self._changed.notify_all()
            streams, link = list(self._streams.values()), self._link
        for stream in streams:
            stream.close()
        if link is not None:
            link.close()

    def _frames_came(self, category: str, frames: list[Envelope]) -> None:
        prices: list[tuple[str, Decimal]] = []
        for frame in frames:
            try:
                update = to_price_update(frame)
            except VenueProtocolError as error:
                log.warning("price frame unreadable error=%s", error)
                continue
            if update is not None:
                prices += self._learn(category, update)
        listeners = self._listeners
        for symbol, price in prices:
            for listener in listeners:
                self._tell(listener, symbol, price)

    def _learn(self, category: str, update: PriceUpdate) -> list[tuple[str, Decimal]]:
        symbol = str(BybitSymbol(category=category, bare=update.symbol))
        now_ms = self._clock.monotonic_ms()
        with self._changed:
            known = self._known.get(symbol)
            if known is None or self._is_closed:
                return []
            if not known.is_live:  # the first message after a gap: what was known before does not count
                known.last = known.bid = known.ask = known.last_at_ms = known.quoted_at_ms = None
                known.is_live = True
            if update.bid is not None or update.ask is not None:
                known.bid, known.ask = update.bid or known.bid, update.ask or known.ask
                known.quoted_at_ms = now_ms
            if update.last is not None:
                known.last = update.last
            if known.last is not None and update.bid is None and update.ask is None:
                known.last_at_ms = now_ms  # a ticker without a price says that it has not changed
            self._changed.notify_all()
        return [] if update.last is None else [(symbol, update.last)]

    def _lost(self, category: str) -> None:
        with self._lock:
            for symbol, known in self._known.items():
                if BybitSymbol.parse(symbol).category == category:
                    known.is_live = False

    def _tell(self, listener: PriceListener, symbol: str, price: Decimal) -> None:
        try:
            listener(symbol, price)
        except Exception:
            log.exception("price listener failed symbol=%s", symbol)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        if self._is_closed:
            return "<PriceFeed closed>"
        shown = []
        for symbol in self.symbols:
            quote = self.quote(symbol)
            age = "" if quote.last_age_ms is None else f" ({quote.last_age_ms} ms)"
            shown.append(f"{symbol}={quote.last}{age}{'' if quote.is_live else ' stale'}")
        return f"<PriceFeed {' '.join(shown) or 'follows nothing'}>"
