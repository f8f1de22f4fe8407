"""Bybit's read endpoints as typed reads: every page, every order kind, explicit windows.

A row that cannot be read is reported and the others stand; an answer without a list is a failed read. Each read is
dated by the venue time at which it was *started*.

Source: docs v5/order/open-order, v5/order/order-list, v5/order/execution, v5/account/wallet-balance.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import product
from typing import Any, TypeVar

import attrs

from qkt.bybit.codec.balances import PATH as WALLET
from qkt.bybit.codec.balances import BybitBalanceTranslator, account_of
from qkt.bybit.codec.envelope import Envelope, vetted
from qkt.bybit.codec.executions import is_fill, is_funding, to_execution, to_funding
from qkt.bybit.codec.order_requests import CONDITIONAL
from qkt.bybit.codec.orders import BybitOrderTranslator
from qkt.bybit.codec.positions import to_position
from qkt.bybit.codec.rows import parse_rows
from qkt.bybit.codec.symbol import BybitSymbol
from qkt.bybit.transport.protocol import CompleteTransport
from qkt.bybit.transport.read_scope import ReadScope
from qkt.clock import Clock, SystemClock
from qkt.errors import QktError, VenueUnavailableError
from qkt.model.balances import AccountSummary, CoinBalance
from qkt.model.costs import FundingPayment
from qkt.model.executions import Execution
from qkt.model.order_report import OrderReport
from qkt.orders.order import Order
from qkt.reconcile.plan import is_conditional
from qkt.reconcile.positions import VenuePosition
from qkt.reconcile.snapshot import Completeness, Page, Read, listed, merged, walk, windows

REALTIME, HISTORY, EXECUTIONS = "/v5/order/realtime", "/v5/order/history", "/v5/execution/list"
POSITIONS, TIME = "/v5/position/list", "/v5/market/time"

_LONGEST_WINDOW_MS = 7 * 24 * 3_600_000
_ORDER_LIMIT, _EXECUTION_LIMIT, _POSITION_LIMIT = 50, 100, 200

# Closed orders and executions older than this are not shown (docs v5/order/order-list).
_HISTORY_MS = 2 * 365 * 24 * 3_600_000

# A page that takes longer is a failed read: the next round reads again, and the other paths must not wait for it.
_READ_TIMEOUT_MS = 3_000
_HANGING_MS = 1_000

# The venue says it lists all kinds by default, and others found conditionals missing: ask for each, join by order id.
_ORDER_FILTERS = {"spot": ("", CONDITIONAL, "tpslOrder"), "linear": ("", CONDITIONAL)}

# One read per settle coin: the venue lists none unasked, and an unlisted position would be taken for a flat one.
_SETTLED_IN: dict[str, tuple[dict[str, str], ...]] = {
    "spot": ({},),
    "linear": ({"settleCoin": "USDT"}, {"settleCoin": "USDC"}),
}

T = TypeVar("T")


@attrs.frozen(kw_only=True)
class OrderAnswer:
    """What asking for one order by id gave."""

    rows: Read[OrderReport]
    executions: Read[Execution] | None

    @property
    def is_read(self) -> bool:
        """True when every place that had to be asked was read completely, whatever its rows were."""
        return all(read.is_complete for read in (self.rows, self.executions) if read is not None)

    @property
    def is_complete(self) -> bool:
        """True when every place that had to be asked was read completely, down to each row.

        A row of the answer that cannot be read is about the order that was asked for, so nothing may be concluded
        from not having understood it (S15).
        """
        reads = [read for read in (self.rows, self.executions) if read is not None]
        return all(read.is_complete and not read.malformed for read in reads)


@attrs.frozen(kw_only=True)
class WalletRead(Read[tuple[str, CoinBalance]]):
    """The coins of an account, and its account-level amounts."""

    account: AccountSummary = attrs.field(factory=AccountSummary)


class _StepWatch:
    """Notices steps of the wall clock: it and the monotonic clock run apart by more than slewing explains."""

    _LEAST_STEP_MS = 250

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._apart_ms = clock.now_ms() - clock.monotonic_ms()

    def was_stepped(self) -> bool:
        """True once after each step."""
        apart_ms = self._clock.now_ms() - self._clock.monotonic_ms()
        was_stepped = abs(apart_ms - self._apart_ms) > self._LEAST_STEP_MS
        if was_stepped:
            self._apart_ms = apart_ms
        return was_stepped


class BybitQueries:
    """Typed reads of one category through a transport; ``on_funding`` hears the funding payments among executions.

    Until `read_briefly` is called a read may be repeated as long as the transport's patience lasts; afterwards each
    request is one try of at most three seconds.
    """

    def __init__(self, client: CompleteTransport, category: str, clock: Clock) -> None:
        self._client = client
        self._category = category
        self._clock = clock
        self._scope = ReadScope()
        self.on_funding: Callable[[FundingPayment], None] = lambda _payment: None
        self._is_brief = False
        self._machine = SystemClock()  # deadlines use the system clock, even when another clock dates the reads
        self._deadline_ms: int | None = None
        self._step_watch = _StepWatch(clock)

    def read_briefly(self) -> None:
        """From now on one short try per request: a failing path must not hold up the others."""
        self._is_brief = True

    def within(self, budget_ms: int) -> BybitQueries:
        """The same queries, of which all together may take so long; afterwards they fail without being sent."""
        hurried = copy.copy(self)
        hurried._is_brief = True
        hurried._deadline_ms = self._machine.monotonic_ms() + budget_ms
        return hurried

    def cut(self, reason: str) -> None:
        """End the reads under way and refuse later ones: the broker closes."""
        self._scope.cut(reason)

    def pause(self, pause_ms: int) -> bool:
        """Wait; False, and at once, when the reads are cut."""
        return not self._scope.stopping.wait(pause_ms / 1000)

    @property
    def is_under_maintenance(self) -> bool:
        """True while an announced maintenance runs: what the venue does not show is then no evidence."""
        return any(one.is_running(self.venue_ms()) for one in self._client.maintenances)

    def venue_ms(self) -> int:
        """Venue time now: by a clock that cannot step where the transport has one, else wall time and its offset."""
        steady_ms = self._client.venue_ms()
        return steady_ms if steady_ms is not None else self._clock.now_ms() + self._client.clock_offset_ms

    def measured_venue_ms(self) -> int:
        """Venue time now, before a request is sent: measured first when the host's wall clock was stepped.

        A transport that learns the offset from answers has a wrong one until the next answer, so one cheap read is
        made. Transports with a clock that cannot step need none.
        """
        if self._client.venue_ms() is None and self._step_watch.was_stepped():
            self.venue_answers()
        return self.venue_ms()

    def venue_answers(self) -> bool:
        """True when the venue answers a cheap question: worth reading everything again after an outage."""
        try:
            self._get(TIME, {})
        except QktError:
            return False
        return True

    def open_orders(self) -> Read[OrderReport]:
        """Every open order of every kind; a read that hangs is the last."""
        reads: list[Read[OrderReport]] = []
        for settled_in, order_filter in product(_SETTLED_IN[self._category], _ORDER_FILTERS[self._category]):
            query: dict[str, Any] = {"category": self._category, "openOnly": 0, "limit": _ORDER_LIMIT, **settled_in}
            if order_filter:
                query["orderFilter"] = order_filter
            reads.append(self._orders("orders", REALTIME, query))
            if _hangs(reads[-1]):
                break
        return merged("orders", reads, key=_order_key, fuller=_newer_row)

    def executions(self, start_ms: int, end_ms: int) -> list[tuple[int, Read[Execution]]]:
        """Every execution of explicit windows of at most 7 days, oldest window first, each with its end.

        Stops after the first window that is not complete: what lies behind a hole is read again next time.
        """
        found = []
        for begin_ms, until_ms in windows(self.oldest_ms(start_ms), end_ms, _LONGEST_WINDOW_MS):
            query = {
                "category": self._category,
                "startTime": begin_ms,
                "endTime": until_ms,
                "limit": _EXECUTION_LIMIT,
            }
            read = self._executions(query)
            found.append((until_ms, read))
            if not read.is_complete:
                break
        return found

    def order(self, order: Order, *, with_executions: bool) -> OrderAnswer:
        """One order by id: realtime, then history back to its creation, then (if wanted or unknown) executions.

        The first read that fails ends the lookup: what follows could prove nothing any more.
        """
        named = self._named(order)
        reads: list[Read[OrderReport]] = []
        for read_next in self._places_of(order, named):
            reads.append(read_next())
            is_known = any(_is_about(order, row) for row in reads[-1].rows)
            if is_known or not reads[-1].is_complete:
                break
        rows = merged("lookup", reads, key=_order_key, fuller=_newer_row)
        wants_executions = rows.is_complete and (with_executions or not is_known)
        return OrderAnswer(rows=rows, executions=self.executions_of(order) if wants_executions else None)

    def _places_of(self, order: Order, named: Mapping[str, Any]) -> Iterator[Callable[[], Read[OrderReport]]]:
        """Where an order's row can be, the likeliest place first."""
        yield partial(self._orders, "lookup", REALTIME, named)
        if is_conditional(order) and self._category == "spot":
            yield partial(self._orders, "lookup", REALTIME, {**named, "orderFilter": CONDITIONAL})
        yield from self._history(order, named)

    def order_named(self, client_order_id: str | None, broker_order_id: str | None) -> OrderAnswer:
        """An order of which nothing but an id is known: everything the venue shows of it, ended or not.

        Executions are shown for two years whatever their age; they say where in the history the order's row is.
        """
        ids = {"orderLinkId": client_order_id} if client_order_id else {"orderId": broker_order_id or ""}
        reads: list[Read[OrderReport]] = []
        for settled_in in _SETTLED_IN[self._category]:
            reads.append(self._orders("lookup", REALTIME, {"category": self._category, **ids, **settled_in}))
        reads.append(self._orders("lookup", HISTORY, {"category": self._category, **ids}))
        executions = self._executions({"category": self._category, **ids, "limit": _EXECUTION_LIMIT})
        if executions.rows and not any(read.rows for read in reads):
            times = [execution.exec_time_ms for execution in executions.rows]
            around = (self.oldest_ms(min(times) - _LONGEST_WINDOW_MS), max(times) + _LONGEST_WINDOW_MS)
            for begin_ms, until_ms in windows(*around, _LONGEST_WINDOW_MS):
                times_asked = {"startTime": begin_ms, "endTime": min(until_ms, self.venue_ms())}
                reads.append(self._orders("lookup", HISTORY, {"category": self._category, **ids, **times_asked}))
                if reads[-1].rows or not reads[-1].is_complete or until_ms >= self.venue_ms():
                    break
        return OrderAnswer(rows=merged("lookup", reads, key=_order_key, fuller=_newer_row), executions=executions)

    def executions_of(self, order: Order) -> Read[Execution]:
        """Every execution of one order, whenever it was (the venue ignores all other filters then)."""
        return self._executions({**self._named(order), "limit": _EXECUTION_LIMIT})

    def wallet(self, account_type: str) -> WalletRead:
        """Every coin with a balance, and the account as a whole."""
        begun_ms, started = self.measured_venue_ms(), self._clock.monotonic_ms()
        coins: Mapping[str, CoinBalance] = {}
        summary = AccountSummary()
        problems: tuple[str, ...] = ()
        try:
            row = BybitBalanceTranslator.account(self._get(WALLET, {"accountType": account_type}))
            coins, summary = BybitBalanceTranslator.coins_of(row), account_of(row, as_of_ms=begun_ms)
        except QktError as error:
            problems = (str(error),)
        return WalletRead(
            path="balances",
            completeness=Completeness.FAILED if problems else Completeness.COMPLETE,
            rows=tuple(coins.items()),
            problems=problems,
            begun_ms=begun_ms,
            pages=0 if problems else 1,
            duration_ms=self._clock.monotonic_ms() - started,
            account=summary,
        )

    def positions(self) -> Read[VenuePosition]:
        """Every position that is not flat (linear only)."""
        begun_ms = self.measured_venue_ms()
        reads: list[Read[VenuePosition]] = []
        for settled_in in _SETTLED_IN[self._category]:
            reads.append(
                self._walk(
                    "positions",
                    POSITIONS,
                    {"category": self._category, "limit": _POSITION_LIMIT, **settled_in},
                    lambda row: to_position(row, self._category, as_of_ms=begun_ms),
                    key=lambda position: position.key,
                    fuller=lambda _first, second: second,
                )
            )
            if _hangs(reads[-1]):
                break
        return merged("positions", reads, key=lambda position: position.key, fuller=lambda _first, second: second)

    def positions_on(self, symbol: str) -> tuple[VenuePosition, ...]:
        """The positions of one symbol, flat ones included: one in one-way mode, two in hedge mode.

        Raises QktError when they could not be read.
        """
        begun_ms = self.measured_venue_ms()
        query = {"category": self._category, "symbol": BybitSymbol.parse(symbol).bare}
        rows, _malformed = parse_rows(
            listed(self._get(POSITIONS, query), POSITIONS),
            lambda row: to_position(row, self._category, as_of_ms=begun_ms),
            POSITIONS,
        )
        return rows

    def _history(self, order: Order, named: Mapping[str, Any]) -> Iterator[Callable[[], Read[OrderReport]]]:
        """Reads of closed orders, back to the order's creation; without times the venue shows the last 7 days only."""
        now_ms = self.venue_ms()
        created_ms = order.sent_ms if order.sent_ms is not None else order.created_ms
        if now_ms - created_ms <= _LONGEST_WINDOW_MS:
            yield partial(self._orders, "lookup", HISTORY, named)
            return
        for begin_ms, until_ms in windows(self.oldest_ms(created_ms), now_ms, _LONGEST_WINDOW_MS):
            yield partial(self._orders, "lookup", HISTORY, {**named, "startTime": begin_ms, "endTime": until_ms})

    def oldest_ms(self, start_ms: int) -> int:
        """``start_ms``, but not from before what the venue still shows: two years."""
        return max(0, start_ms, self.venue_ms() - _HISTORY_MS)

    def _named(self, order: Order) -> dict[str, Any]:
        symbol = BybitSymbol.parse(order.symbol).bare
        if order.broker_order_id:
            return {"category": self._category, "symbol": symbol, "orderId": order.broker_order_id}
        return {"category": self._category, "symbol": symbol, "orderLinkId": order.client_order_id}

    def _orders(self, path: str, endpoint: str, query: Mapping[str, Any]) -> Read[OrderReport]:
        return self._walk(
            path,
            endpoint,
            query,
            lambda row: BybitOrderTranslator.to_report(row, str(row.get("category") or self._category)),
            key=_order_key,
            fuller=_newer_row,
        )

    def _executions(self, query: Mapping[str, Any]) -> Read[Execution]:
        read = self._walk(
            "executions",
            EXECUTIONS,
            query,
            self._parse_execution,
            key=lambda execution: (execution.broker_order_id, execution.exec_id),
            fuller=lambda first, _second: first,
        )
        return attrs.evolve(read, rows=tuple(sorted(read.rows, key=lambda execution: execution.trading_order)))

    def _parse_execution(self, row: Mapping[str, Any]) -> Execution | None:
        """A fill; funding comes in the same list and is passed on."""
        if is_fill(row):
            return to_execution(row, self._category)
        if is_funding(row, self._category):
            self.on_funding(to_funding(row, self._category))
        return None

    def _walk(
        self,
        path: str,
        endpoint: str,
        query: Mapping[str, Any],
        parse: Callable[[Mapping[str, Any]], T | None],
        *,
        key: Callable[[T], Any],
        fuller: Callable[[T, T], T],
    ) -> Read[T]:
        begun_ms, started = self.measured_venue_ms(), self._clock.monotonic_ms()

        def fetch(cursor: str) -> Page[T]:
            asked = {**query, "cursor": cursor} if cursor else query
            envelope = self._get(endpoint, asked)
            raw = listed(envelope, endpoint)
            rows, malformed = parse_rows(raw, parse, endpoint)
            return Page(
                rows=rows,
                malformed=malformed,
                cursor=str(envelope["result"].get("nextPageCursor") or ""),
                is_full=len(raw) >= int(query.get("limit", _ORDER_LIMIT)),
            )

        read = walk(path, fetch, key=key, fuller=fuller, begun_ms=begun_ms)
        return attrs.evolve(read, duration_ms=self._clock.monotonic_ms() - started)

    def _get(self, path: str, query: Mapping[str, Any]) -> Envelope:
        """Ask the transport. Whatever one of the user's own raises is a read that failed, and never ends a round."""
        try:
            if self._is_brief:
                timeout_ms = self._timeout_ms(path)
                envelope = self._client.read_once(path, query, timeout_ms=timeout_ms, scope=self._scope)
            else:
                envelope = self._client.get_signed(path, query)
        except QktError:
            raise
        except Exception as error:
            raise VenueUnavailableError(f"GET {path} failed in the transport: {error!r}", path=path) from error
        return vetted(path, envelope, is_write=False)

    def _timeout_ms(self, path: str) -> int:
        if self._deadline_ms is None:
            return _READ_TIMEOUT_MS
        left_ms = self._deadline_ms - self._machine.monotonic_ms()
        if left_ms <= 0:
            raise VenueUnavailableError(f"GET {path} was not sent: the time for it is up", path=path)
        return left_ms


def _is_about(order: Order, row: OrderReport) -> bool:
    if order.broker_order_id:
        return row.broker_order_id == order.broker_order_id
    return row.client_order_id == order.client_order_id


def _hangs(read: Read[Any]) -> bool:
    return not read.is_complete and read.duration_ms >= _HANGING_MS


def _order_key(row: OrderReport) -> str:
    return row.broker_order_id


def _newer_row(first: OrderReport, second: OrderReport) -> OrderReport:
    """Of two rows about one order, the one that is further."""
    return max(first, second, key=lambda row: (row.cum_quantity, row.updated_ms, row.status.is_final))
