"""Stay inside the venue's limits, spend what is scarce on orders, and say when there is room again.

Three limits (docs v5/rate-limit): requests per second per account and endpoint, 600 requests per 5 s per address over
everything this process sends, and 500 stream connections per 5 minutes per address. A window here is pure: numbers of
milliseconds in, waits out. The budgets around it hold a lock for microseconds and wait on an event outside it, before
anything is signed.

Who yields: reads may fill a part of the address limit only, orders most of it, and cancels all, so a bot can always
get out. One limit a caller cannot wait out in time is refused at once with the time when it ends.
"""

from __future__ import annotations

import enum
import os
import threading
from collections import deque
from collections.abc import Callable, Hashable
from typing import Protocol, TypeVar
from urllib.parse import urlsplit
from weakref import WeakValueDictionary

from qkt.bybit.codec.bounds import MAX_LIMIT_PER_SECOND
from qkt.clock import Clock, SystemClock
from qkt.errors import BybitRateLimitError


class Stopping(Protocol):
    """The part of `threading.Event` that a wait for room needs."""

    def is_set(self) -> bool:
        """True when the wait shall end."""
        ...

    def wait(self, timeout: float) -> bool:
        """Wait at most ``timeout`` seconds; True when set."""
        ...


class Priority(enum.IntEnum):
    """Who yields to whom."""

    READ = 0
    ORDER = 1
    CANCEL = 2


class Window:
    """At most ``limit`` uses in any ``span_ms``. Pure: the time comes in."""

    def __init__(self, limit: int, span_ms: int) -> None:
        self.limit: int = limit
        self.span_ms = span_ms
        self._used: deque[int] = deque()
        self._closed_until_ms = 0

    def used(self, now_ms: int) -> int:
        """How many uses the window holds at ``now_ms``."""
        while self._used and self._used[0] <= now_ms - self.span_ms:
            self._used.popleft()
        return len(self._used)

    def wait_ms(self, now_ms: int, limit: int | None = None) -> int:
        """How long until one more use fits below ``limit`` (default: the whole window); 0 is now."""
        limit = self.limit if limit is None else max(1, min(limit, self.limit))
        closed_ms = max(0, self._closed_until_ms - now_ms)
        used = self.used(now_ms)
        if used < limit:
            return closed_ms
        return max(closed_ms, self._used[used - limit] + self.span_ms - now_ms)

    def take(self, now_ms: int) -> None:
        """Count one use."""
        self._used.append(now_ms)

    def close_for(self, now_ms: int, for_ms: int) -> None:
        """No use until ``for_ms`` from now: the venue said so."""
        self._closed_until_ms = max(self._closed_until_ms, now_ms + for_ms)

    def closed_ms(self, now_ms: int) -> int:
        """How long the window is still closed by the venue's word."""
        return max(0, self._closed_until_ms - now_ms)

    def learn(self, now_ms: int, limit: int, remaining: int) -> None:
        """Take over what the venue says of its own window: others may use the same account."""
        if limit > 0:
            self.limit = limit
        unseen = self.limit - max(0, remaining) - self.used(now_ms)
        for _ in range(min(unseen, self.limit)):
            self._used.append(now_ms)


class _BudgetWaiter:
    """Sleeps in slices until there is room, told apart from closing."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    def until(
        self,
        try_take: Callable[[int], int],
        *,
        max_wait_ms: int,
        stopping: Stopping,
        refuse: Callable[[int], Exception],
    ) -> int:
        """Call ``try_take(now)`` until it returns 0 or the wait is stopped; returns the milliseconds waited."""
        began_ms = self.clock.monotonic_ms()
        while True:
            now_ms = self.clock.monotonic_ms()
            wait_ms = try_take(now_ms)
            if wait_ms <= 0 or stopping.is_set():
                return now_ms - began_ms
            if now_ms + wait_ms - began_ms > max_wait_ms:
                raise refuse(wait_ms)
            stopping.wait(wait_ms / 1000)


_READ_SHARE, _ORDER_SHARE = 0.70, 0.90


class AddressBudget:
    """What one address may send to the venue: shared by every client of the process that talks to it.

    ``requests`` per 5 s and ``connections`` per 5 minutes, both kept below the venue's own numbers.
    """

    def __init__(self, clock: Clock | None = None, *, requests: int = 580, connections: int = 450) -> None:
        self._clock = clock or SystemClock()
        self._waiter = _BudgetWaiter(self._clock)
        self._lock = threading.Lock()
        self._requests = Window(requests, 5_000)
        self._connections = Window(connections, 300_000)
        self._banned_because = ""

    def acquire(self, priority: Priority, *, max_wait_ms: int, stopping: Stopping, path: str = "") -> int:
        """Wait for room for one request; returns the milliseconds waited.

        Raises:
            BybitRateLimitError: there is none within ``max_wait_ms``, or the venue has shut this address out.
        """

        def try_take(now_ms: int) -> int:
            with self._lock:
                wait_ms = self._requests.wait_ms(now_ms, self._share_of(priority))
                if wait_ms <= 0:
                    self._requests.take(now_ms)
                return wait_ms

        def refuse(wait_ms: int) -> Exception:
            why = self._banned_because or "the address's request budget (600 per 5 s) is spent"
            return BybitRateLimitError(
                f"{path} not sent: {why}; there is room in {wait_ms} ms", path=path, retry_after_ms=wait_ms
            )

        return self._waiter.until(try_take, max_wait_ms=max_wait_ms, stopping=stopping, refuse=refuse)

    def _share_of(self, priority: Priority) -> int:
        match priority:
            case Priority.READ:
                return int(self._requests.limit * _READ_SHARE)
            case Priority.ORDER:
                return int(self._requests.limit * _ORDER_SHARE)
            case Priority.CANCEL:
                return self._requests.limit

    def shut_out(self, for_ms: int, because: str) -> None:
        """The venue turned this address away: nothing is sent for ``for_ms``."""
        with self._lock:
            self._banned_because = because
            self._requests.close_for(self._clock.monotonic_ms(), for_ms)

    @property
    def shut_out_ms(self) -> int:
        """How long the venue still turns this address away; 0 when it does not."""
        with self._lock:
            return self._requests.closed_ms(self._clock.monotonic_ms())

    @property
    def request_limit(self) -> int:
        """How many requests this process sends in 5 s at most."""
        return self._requests.limit

    def connection_wait_ms(self) -> int:
        """Count a new stream connection if there is room for it (0), or say in how many milliseconds there is."""
        now_ms = self._clock.monotonic_ms()
        with self._lock:
            wait_ms = self._connections.wait_ms(now_ms)
            if wait_ms <= 0:
                self._connections.take(now_ms)
            return wait_ms

    def used(self) -> tuple[int, int]:
        """Requests in the last 5 s, connections in the last 5 minutes."""
        now_ms = self._clock.monotonic_ms()
        with self._lock:
            return self._requests.used(now_ms), self._connections.used(now_ms)


# docs v5/rate-limit; only where to start, the venue's headers decide. The lower of spot and linear where they differ.
_PER_SECOND = {
    "/v5/order/create": 10,
    "/v5/order/amend": 10,
    "/v5/order/cancel": 10,
    "/v5/order/cancel-all": 10,
    "/v5/order/create-batch": 10,
    "/v5/order/amend-batch": 10,
    "/v5/order/cancel-batch": 10,
    "/v5/order/disconnected-cancel-all": 5,
    "/v5/position/set-leverage": 10,
    "/v5/position/switch-mode": 10,
    "/v5/position/trading-stop": 10,
    "/v5/account/transaction-log": 25,
    "/v5/account/fee-rate": 5,
    "/v5/account/query-dcp-info": 5,
    "/v5/account/smp-group": 5,
    "/v5/account/instruments-info": 10,
    "/v5/account/set-limit-px-action": 10,
    "/v5/user/query-api": 10,
}
_PER_SECOND_OTHERWISE = 50
# The venue counts when a request arrives. One that came early is asked again; items of a batch would come back refused.
_BATCH_MARGIN_MS = 100
_UNLIMITED = "/v5/market/"


class AccountBudget:
    """What one key may ask of each endpoint per second, as the ``X-Bapi-Limit*`` headers last said."""

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._waiter = _BudgetWaiter(self._clock)
        self._lock = threading.Lock()
        self._windows: dict[tuple[str, str], Window] = {}

    def acquire(self, path: str, category: str, *, max_wait_ms: int, stopping: Stopping, units: int = 1) -> int:
        """Wait for room for one request to ``path``; returns the milliseconds waited.

        A batch spends as many ``units`` as it has items (docs v5/rate-limit); one larger than the limit waits until
        nothing else is in the window.

        Raises:
            BybitRateLimitError: there is none within ``max_wait_ms``.
        """
        if path.startswith(_UNLIMITED):
            return 0

        def try_take(now_ms: int) -> int:
            with self._lock:
                window = self._window(path, category)
                wait_ms = window.wait_ms(now_ms, window.limit - units + 1)
                if wait_ms <= 0:
                    for _ in range(units):
                        window.take(now_ms if units == 1 else now_ms + _BATCH_MARGIN_MS)
                return wait_ms

        def refuse(wait_ms: int) -> Exception:
            return BybitRateLimitError(
                f"{path} not sent: the account's budget for it is spent; there is room in {wait_ms} ms",
                path=path,
                retry_after_ms=wait_ms,
            )

        return self._waiter.until(try_take, max_wait_ms=max_wait_ms, stopping=stopping, refuse=refuse)

    def learn(self, path: str, category: str, limit: int, remaining: int) -> None:
        """Take over the ``X-Bapi-Limit`` and ``X-Bapi-Limit-Status`` of a reply; absurd numbers are ignored."""
        if not 0 < limit <= MAX_LIMIT_PER_SECOND or remaining > limit:
            return
        with self._lock:
            self._window(path, category).learn(self._clock.monotonic_ms(), limit, remaining)

    def close_for(self, path: str, category: str, for_ms: int) -> None:
        """The venue said 10006: nothing to this endpoint until ``for_ms`` from now."""
        with self._lock:
            self._window(path, category).close_for(self._clock.monotonic_ms(), for_ms)

    def _window(self, path: str, category: str) -> Window:
        key = (path, category)
        if key not in self._windows:
            self._windows[key] = Window(_PER_SECOND.get(path, _PER_SECOND_OTHERWISE), 1_000)
        return self._windows[key]


_VENUE = "bybit"
_VENUE_DOMAINS = tuple(
    f".{domain}"
    for domain in (
        *("bybit.com", "bytick.com", "bybit.nl", "bybit.ae", "bybit.eu", "bybit.tr", "bybit-tr.com", "bybit.id"),
        *("bybit.kz", "bybitgeorgia.ge", "manepa.jp"),
    )
)
_shared_lock = threading.Lock()
# Held weakly, since a simulated venue comes and goes with its port; the real venue's budgets and bans outlive clients.
_addresses: WeakValueDictionary[str, AddressBudget] = WeakValueDictionary()
_accounts: WeakValueDictionary[tuple[str, Hashable], AccountBudget] = WeakValueDictionary()
_kept: list[object] = []
_Budget = TypeVar("_Budget")
_Key = TypeVar("_Key", bound=Hashable)


def domain_of(url: str) -> str:
    """Whose limits a URL falls under: all of the venue's public hosts are one, any other host and port its own."""
    parts = urlsplit(url)
    host = (parts.hostname or "").lower()
    if host.endswith(_VENUE_DOMAINS):
        return _VENUE
    return f"{host}:{parts.port}"


def address_budget(url: str) -> AddressBudget:
    """The one budget of this process for the venue behind ``url``."""
    domain = domain_of(url)
    return _shared(_addresses, domain, AddressBudget, is_kept=domain == _VENUE)


def account_budget(url: str, key: Hashable) -> AccountBudget:
    """The one budget of this process for a key at the venue behind ``url``."""
    domain = domain_of(url)
    return _shared(_accounts, (domain, key), AccountBudget, is_kept=domain == _VENUE)


def _shared(
    known: WeakValueDictionary[_Key, _Budget], key: _Key, make: Callable[[], _Budget], *, is_kept: bool
) -> _Budget:
    with _shared_lock:
        budget = known.get(key)
        if budget is None:
            known[key] = budget = make()
            if is_kept:
                _kept.append(budget)
        return budget


def _forget_budgets() -> None:
    """In a forked child: other threads of the parent may have held these locks, and the child has no clients yet."""
    global _shared_lock
    _shared_lock = threading.Lock()
    for known in (_addresses, _accounts, _kept):
        known.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_budgets)
