"""Bybit's read endpoints as typed reads: every page, every order kind, explicit windows.

A row that cannot be read is reported and the others stand; an answer without a list is a failed read. Each read is
dated by the venue time at which it was *started*.

Source: docs v5/order/open-order, v5/order/order-list, v5/order/execution, v5/account/wallet-balance.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import attrs

from qkt.bybit.codec.balances import PATH as WALLET
from qkt.bybit.codec.balances import BybitBalanceTranslator
from qkt.bybit.codec.envelope import Envelope, vetted
from qkt.bybit.codec.executions import is_fill, to_execution
from qkt.bybit.codec.order_requests import CONDITIONAL
from qkt.bybit.codec.orders import BybitOrderTranslator
from qkt.bybit.codec.positions import to_position
from qkt.bybit.codec.rows import parse_rows
from qkt.bybit.codec.symbol import BybitSymbol
from qkt.bybit.transport.protocol import BybitTransport
from qkt.clock import Clock
from qkt.errors import QktError, VenueUnavailableError
from qkt.model.balances import CoinBalance
from qkt.model.executions import Execution
from qkt.model.reports import OrderReport
from qkt.orders.order import Order
from qkt.reconcile.plan import is_conditional
from qkt.reconcile.positions import VenuePosition
from qkt.reconcile.snapshot import Completeness, Page, Read, listed, merged, walk, windows

REALTIME, HISTORY, EXECUTIONS = "/v5/order/realtime", "/v5/order/history", "/v5/execution/list"
POSITIONS = "/v5/position/list"

_LONGEST_WINDOW_MS = 7 * 24 * 3_600_000
_ORDER_LIMIT, _EXECUTION_LIMIT, _POSITION_LIMIT = 50, 100, 200

# The venue says it lists all kinds by default, and others found conditionals missing: ask for each, join by order id.
_DRAWERS = {"spot": ("", CONDITIONAL, "tpslOrder"), "linear": ("", CONDITIONAL)}

# One question per settle coin: the venue lists none unasked, and an unlisted position would be taken for a flat one.
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
    def is_complete(self) -> bool:
        """True when every place that had to be asked was read completely, down to each row.

        A row of the answer that cannot be read is about the order that was asked for, so nothing may be concluded
        from not having understood it (S15).
        """
        reads = [read for read in (self.rows, self.executions) if read is not None]
        return all(read.is_complete and not read.malformed for read in reads)


class BybitQueries:
    """Typed reads of one category through a transport."""

    def __init__(self, client: BybitTransport, category: str, clock: Clock) -> None:
        self._client = client
        self._category = category
        self._clock = clock

    def venue_ms(self) -> int:
        """The venue's time now, as well as the transport knows it."""
        return self._clock.now_ms() + int(getattr(self._client, "clock_offset_ms", 0) or 0)

    def open_orders(self) -> Read[OrderReport]:
        """Every open order of every kind."""
        reads = []
        for settled_in in _SETTLED_IN[self._category]:
            for drawer in _DRAWERS[self._category]:
                query: dict[str, Any] = {"category": self._category, "openOnly": 0, "limit": _ORDER_LIMIT, **settled_in}
                if drawer:
                    query["orderFilter"] = drawer
                reads.append(self._orders("orders", REALTIME, query))
        return merged("orders", reads, key=_order_key, fuller=_newer_row)

    def executions(self, start_ms: int, end_ms: int) -> list[tuple[int, Read[Execution]]]:
        """Every execution of explicit windows of at most 7 days, oldest window first, each with its end.

        Stops after the first window that is not complete: what lies behind a hole is read again next time.
        """
        found = []
        for begin_ms, until_ms in windows(max(0, start_ms), end_ms, _LONGEST_WINDOW_MS):
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
        """One order by id: realtime, then history back to its creation, then (if wanted or unknown) executions."""
        named = self._named(order)
        reads = [self._orders("lookup", REALTIME, named)]
        if is_conditional(order) and self._category == "spot" and not reads[0].rows:
            reads.append(self._orders("lookup", REALTIME, {**named, "orderFilter": CONDITIONAL}))
        if not any(_is_about(order, row) for read in reads for row in read.rows):
            reads.extend(self._history(order, named))
        rows = merged("lookup", reads, key=_order_key, fuller=_newer_row)
        is_known = any(_is_about(order, row) for row in rows.rows)
        executions = self.executions_of(order) if with_executions or not is_known else None
        return OrderAnswer(rows=rows, executions=executions)

    def executions_of(self, order: Order) -> Read[Execution]:
        """Every execution of one order, whenever it was (the venue ignores all other filters then)."""
        return self._executions({**self._named(order), "limit": _EXECUTION_LIMIT})

    def wallet(self, account_type: str) -> Read[tuple[str, CoinBalance]]:
        """Every coin with a balance."""
        begun_ms, started = self.venue_ms(), self._clock.monotonic_ms()
        try:
            envelope = self._get(WALLET, {"accountType": account_type})
            coins = BybitBalanceTranslator.coins(envelope)
        except QktError as error:
            return Read(
                path="balances",
                completeness=Completeness.FAILED,
                problems=(str(error),),
                begun_ms=begun_ms,
                duration_ms=self._clock.monotonic_ms() - started,
            )
        return Read(
            path="balances",
            completeness=Completeness.COMPLETE,
            rows=tuple(coins.items()),
            begun_ms=begun_ms,
            pages=1,
            duration_ms=self._clock.monotonic_ms() - started,
        )

    def positions(self) -> Read[VenuePosition]:
        """Every position that is not flat (linear only)."""
        begun_ms = self.venue_ms()
        reads = [
            self._walk(
                "positions",
                POSITIONS,
                {"category": self._category, "limit": _POSITION_LIMIT, **settled_in},
                lambda row: to_position(row, self._category, as_of_ms=begun_ms),
                key=lambda position: position.key,
                fuller=lambda _first, second: second,
            )
            for settled_in in _SETTLED_IN[self._category]
        ]
        return merged("positions", reads, key=lambda position: position.key, fuller=lambda _first, second: second)

    # -- one walk ----------------------------------------------------------------------------------------------------

    def _history(self, order: Order, named: Mapping[str, Any]) -> list[Read[OrderReport]]:
        """Closed orders; without times the venue shows the last 7 days only."""
        now_ms = self.venue_ms()
        created_ms = order.sent_ms if order.sent_ms is not None else order.created_ms
        if now_ms - created_ms <= _LONGEST_WINDOW_MS:
            return [self._orders("lookup", HISTORY, named)]
        return [
            self._orders("lookup", HISTORY, {**named, "startTime": begin_ms, "endTime": until_ms})
            for begin_ms, until_ms in windows(created_ms, now_ms, _LONGEST_WINDOW_MS)
        ]

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
            lambda row: to_execution(row, self._category) if is_fill(row) else None,
            key=lambda execution: (execution.broker_order_id, execution.exec_id),
            fuller=lambda first, _second: first,
        )
        return attrs.evolve(read, rows=tuple(sorted(read.rows, key=lambda execution: execution.trading_order)))

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
        begun_ms, started = self.venue_ms(), self._clock.monotonic_ms()

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
            envelope = self._client.get_signed(path, query)
        except QktError:
            raise
        except Exception as error:
            raise VenueUnavailableError(f"GET {path} failed in the transport: {error!r}", path=path) from error
        return vetted(path, envelope, is_write=False)


def _is_about(order: Order, row: OrderReport) -> bool:
    if order.broker_order_id:
        return row.broker_order_id == order.broker_order_id
    return row.client_order_id == order.client_order_id


def _order_key(row: OrderReport) -> str:
    return row.broker_order_id


def _newer_row(first: OrderReport, second: OrderReport) -> OrderReport:
    """Of two rows about one order, the one that is further."""
    return max(first, second, key=lambda row: (row.cum_quantity, row.updated_ms, row.status.is_final))
