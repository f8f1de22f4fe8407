"""What all REST calls of one client share: address, key, clocks, budgets, connection pool and counters."""

from __future__ import annotations

import threading

import attrs

from qkt.bybit.transport.observer import TransportObserver
from qkt.bybit.transport.rate_limits import AccountBudget, AddressBudget
from qkt.bybit.transport.signer import BybitSigner
from qkt.clock import Clock
from qkt.net.http import HttpPool
from qkt.net.venue_clock import VenueClock

_MEASURE_AGAIN_MS = 10_000


@attrs.frozen(kw_only=True)
class Timeouts:
    """How long to wait, in ms: for a connection, one silent read, one call in all, room in a write's rate budget."""

    connect_ms: int = 3_000
    read_ms: int = 5_000
    call_ms: int = 10_000
    write_budget_ms: int = 2_000


@attrs.define
class RestStats:
    """Counters since the client was built."""

    requests: int = 0
    retries: int = 0
    throttled: int = 0
    failed_reads: int = 0
    unknown_writes: int = 0
    clock_refusals: int = 0
    waited_for_budget_ms: int = 0
    last_round_trip_ms: int | None = None
    _lock: threading.Lock = attrs.field(factory=threading.Lock, init=False, repr=False, eq=False)

    def add(self, **more: int) -> None:
        """Add to the counters; thread-safe."""
        with self._lock:
            for name, number in more.items():
                setattr(self, name, getattr(self, name) + number)


@attrs.define(kw_only=True, eq=False)
class RestContext:
    """Shared by the calls of a `RestClient`. ``machine`` times waits and deadlines, ``venue_clock`` dates requests."""

    base_url: str
    signer: BybitSigner = attrs.field(repr=False)
    venue_clock: VenueClock
    machine: Clock
    recv_window_ms: int
    address: AddressBudget
    account: AccountBudget
    timeouts: Timeouts
    pool: HttpPool
    stats: RestStats = attrs.field(factory=RestStats)
    observer: TransportObserver | None = None
    stopping: threading.Event = attrs.field(factory=threading.Event, repr=False)  # set while the client is closed
    _measure_again_at_ms: int = attrs.field(default=0, init=False)

    def may_measure_clock(self) -> bool:
        """False for ten seconds after a failed measurement, so that a venue without a time endpoint stays usable."""
        return self.machine.monotonic_ms() >= self._measure_again_at_ms

    def clock_measurement_failed(self) -> None:
        """Pause the measurements."""
        self._measure_again_at_ms = self.machine.monotonic_ms() + _MEASURE_AGAIN_MS
