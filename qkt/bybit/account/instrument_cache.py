"""The rules of one account's instruments, shared by every broker on the same client: read once, refreshed when old.

What this room must never do is stand in the way of an order: a read that failed or came back empty is a WARNING, the
rules last known are kept, and a symbol without rules is left to the venue's judgement. A submit reads nothing here
over the network, except for the last price where a check cannot do without it.

Source: GET /v5/market/instruments-info (docs v5/market/instrument; spot has no pages, linear is paged),
GET /v5/market/tickers.
"""

from __future__ import annotations

import logging
import threading
import weakref
from collections.abc import Mapping
from decimal import Decimal
from types import MappingProxyType
from typing import Any

import attrs

from qkt.bybit.account.registry import PerClient
from qkt.bybit.codec.instruments import to_last_price, to_rules
from qkt.bybit.codec.rows import parse_rows
from qkt.bybit.codec.symbol import BybitSymbol
from qkt.bybit.transport.protocol import CompleteTransport
from qkt.clock import Clock
from qkt.model.instruments import InstrumentRules
from qkt.reconcile.snapshot import Page, listed, walk

log: logging.Logger = logging.getLogger(__name__)

INSTRUMENTS, TICKERS = "/v5/market/instruments-info", "/v5/market/tickers"

# Maximum sizes change twice a month, new symbols come any day: an hour is young enough for both.
_OLD_AFTER_MS = 3_600_000
_AGAIN_AFTER_MS = 300_000
_LINEAR_PAGE = 1_000

# An order waits for this price: a stop must not come late because a ticker hangs.
_PRICE_WITHIN_MS = 1_000


@attrs.frozen(kw_only=True)
class _CategoryRules:
    """The rules of one category, when they were read, and when a read was last attempted."""

    rules: Mapping[str, InstrumentRules] = MappingProxyType({})
    read_ms: int | None = None
    tried_ms: int | None = None


class InstrumentCache:
    """Keeps the rules per category. Safe from any thread: a caller never waits for a read of the rules."""

    def __init__(self, client: CompleteTransport) -> None:
        self._client = weakref.proxy(client)
        self._one_at_a_time = threading.Lock()
        self._lock = threading.Lock()
        self._categories: dict[str, _CategoryRules] = {}
        self._missed: set[str] = set()

    def rules(self, symbol: str) -> InstrumentRules | None:
        """The rules of a qkt symbol as last read; None when the venue did not list it. Never asks the venue."""
        category = BybitSymbol.parse(symbol).category
        return self._category(category).rules.get(symbol)

    def rules_or_warning(self, symbol: str) -> InstrumentRules | None:
        """`rules`, with a WARNING the first time there are none."""
        rules = self.rules(symbol)
        if rules is None:
            with self._lock:
                is_first = symbol not in self._missed
                self._missed.add(symbol)
            if is_first:
                log.warning("no instrument rules symbol=%s: orders go out unchecked and the venue decides", symbol)
        return rules

    def age_ms(self, category: str, monotonic_ms: int) -> int | None:
        """How long ago a category's rules were read; None before the first time."""
        read_ms = self._category(category).read_ms
        return None if read_ms is None else monotonic_ms - read_ms

    def is_due(self, category: str, monotonic_ms: int) -> bool:
        """True when the rules are old or missing and no read was attempted recently."""
        known = self._category(category)
        if known.tried_ms is not None and monotonic_ms - known.tried_ms < _AGAIN_AFTER_MS:
            return False
        return known.read_ms is None or monotonic_ms - known.read_ms >= _OLD_AFTER_MS

    def refresh(self, category: str, clock: Clock) -> bool:
        """Read a category's rules if they are due; True when they are fresh afterwards. Never raises for the venue."""
        with self._one_at_a_time:
            if not self.is_due(category, clock.monotonic_ms()):
                return self._category(category).read_ms is not None
            found = self._read(category, clock)
            now_ms = clock.monotonic_ms()
            with self._lock:
                known = self._categories.get(category, _CategoryRules())
                if not found:
                    self._categories[category] = attrs.evolve(known, tried_ms=now_ms)
                    return False
                self._categories[category] = _CategoryRules(
                    rules=MappingProxyType(found), read_ms=now_ms, tried_ms=now_ms
                )
                self._missed -= found.keys()
            log.debug("instrument rules read category=%s symbols=%d", category, len(found))
            return True

    def last_price(self, symbol: str) -> Decimal | None:
        """What a symbol last traded at, asked now: one GET. None, with a WARNING, when it cannot be had."""
        parsed = BybitSymbol.parse(symbol)
        try:
            query = {"category": parsed.category, "symbol": parsed.bare}
            envelope = self._client.read_once(TICKERS, query, timeout_ms=_PRICE_WITHIN_MS)
            tickers, _broken = parse_rows(listed(envelope, TICKERS), to_last_price, TICKERS)
        except Exception as error:  # noqa: BLE001 - whatever it is, an order must not hang on it
            log.warning("last price unknown symbol=%s error=%r", symbol, error)
            return None
        price = dict(tickers).get(parsed.bare)
        if price is None:
            log.warning("last price unknown symbol=%s error=the ticker has none", symbol)
        return price

    def _read(self, category: str, clock: Clock) -> dict[str, InstrumentRules]:
        as_of_ms = clock.now_ms() + self._client.clock_offset_ms
        query: dict[str, Any] = {"category": category}
        if category != "spot":
            query["limit"] = _LINEAR_PAGE

        def fetch(cursor: str) -> Page[InstrumentRules]:
            envelope = self._client.get_signed(INSTRUMENTS, {**query, "cursor": cursor} if cursor else query)
            raw = listed(envelope, INSTRUMENTS)
            rows, malformed = parse_rows(raw, lambda row: to_rules(row, category, as_of_ms=as_of_ms), INSTRUMENTS)
            for bad in malformed:
                log.warning("malformed instrument problem=%s row=%s", bad.problem, bad.excerpt)
            following = "" if category == "spot" else str(envelope["result"].get("nextPageCursor") or "")
            return Page(rows=rows, malformed=malformed, cursor=following, is_full=len(raw) >= _LINEAR_PAGE)

        try:
            read = walk(
                "instruments", fetch, key=lambda one: one.symbol, fuller=lambda _old, new: new, begun_ms=as_of_ms
            )
        except Exception as error:  # noqa: BLE001 - whatever it is, no order and no construction hangs on it
            log.warning("instrument rules not read category=%s error=%r", category, error)
            return {}
        if not read.rows or not read.is_complete:
            problems = "; ".join(read.problems) or ("the venue lists none" if not read.rows else "some rows are broken")
            log.warning("instrument rules not read category=%s rows=%d error=%s", category, len(read.rows), problems)
        # What an incomplete read shows is true of what it shows; the rest keeps the rules last known.
        if read.rows and not read.is_complete:
            return {**self._category(category).rules, **{one.symbol: one for one in read.rows}}
        return {one.symbol: one for one in read.rows}

    def _category(self, category: str) -> _CategoryRules:
        with self._lock:
            return self._categories.get(category, _CategoryRules())

    def __repr__(self) -> str:
        with self._lock:
            categories = " ".join(f"{category}={len(known.rules)}" for category, known in self._categories.items())
        return f"<InstrumentCache {categories or 'nothing read'}>"


_caches = PerClient(InstrumentCache)


def instrument_cache(client: CompleteTransport) -> InstrumentCache:
    """The one cache of this client."""
    return _caches.of(client)
