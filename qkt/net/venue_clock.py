"""Venue time, measured over a network, on a host whose wall clock may be wrong or jump.

A server stamp was made between sending and receiving, so it bounds the offset from both sides: half the round trip is
the best guess, and a guess that still lies between the bounds is kept. Every reply is such a measurement. The wall
clock is compared with the monotonic one: when their difference changes, the machine slept or the clock was stepped, and
the offset is measured anew before anything is signed.
"""

from __future__ import annotations

import threading

from qkt.clock import Clock, SystemClock

_JUMP_MS = 500
_BELIEVABLE_MS = 2_000


class VenueClock:
    """Venue time from the monotonic clock and an offset kept fresh by `observe`. Thread-safe.

    A step of the host's wall clock moves nothing: after the first measurement, venue time is monotonic time plus a
    number. ``clock`` gives both readings.
    """

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._lock = threading.Lock()
        self._base_ms = self._drift()  # local time is monotonic time plus this, from construction on
        self._offset_ms = 0  # venue time minus local time
        self._is_measured = False
        self._is_doubtful = False
        self._trusted_drift_ms = self._base_ms

    @property
    def offset_ms(self) -> int:
        """Server time minus local wall time, now; 0 before the first measurement."""
        return self.now_ms() - self._clock.now_ms() if self._is_measured else 0

    @property
    def is_measured(self) -> bool:
        """True after the first measurement."""
        return self._is_measured

    def local_ms(self) -> int:
        """Local time, by the monotonic clock: the wall time at construction plus what has passed since."""
        return self._clock.monotonic_ms() + self._base_ms

    def now_ms(self) -> int:
        """Venue time now; local wall time before the first measurement."""
        return self.local_ms() + self._offset_ms if self._is_measured else self._clock.now_ms()

    @property
    def is_trustworthy(self) -> bool:
        """False before the first measurement, after a suspend or a clock step, or after a stamp that did not fit."""
        return self._is_measured and not self._is_doubtful and not self._has_jumped()

    def _has_jumped(self) -> bool:
        return abs(self._drift() - self._trusted_drift_ms) >= _JUMP_MS

    def measured(self, sent_ms: int, received_ms: int, server_ms: int) -> None:
        """Take over a deliberate measurement: `local_ms` of sending and receiving, and the stamp in between."""
        with self._lock:
            self._offset_ms = server_ms - (sent_ms + received_ms) // 2
            self._is_measured, self._is_doubtful = True, False
            self._trusted_drift_ms = self._drift()

    def observe(self, sent_ms: int, received_ms: int, server_ms: int) -> None:
        """Follow the stamp of an ordinary reply; one far off only raises doubt, since it may be a stale copy."""
        with self._lock:
            if not self._is_measured or received_ms < sent_ms or self._has_jumped():
                return
            least, most = server_ms - received_ms, server_ms + 1 - sent_ms
            if least <= self._offset_ms <= most:
                return
            guess = (least + most) // 2
            if abs(guess - self._offset_ms) > _BELIEVABLE_MS:
                self._is_doubtful = True
                return
            self._offset_ms = guess

    def _drift(self) -> int:
        return self._clock.now_ms() - self._clock.monotonic_ms()


class GapDetector:
    """Notices that the machine slept, was stopped, or had its clock stepped, from readings taken every so often. Pure.

    `look` returns how many milliseconds went missing or appeared, 0 when time ran as it should.
    """

    def __init__(self, *, jump_ms: int = 1_000, late_ms: int = 10_000) -> None:
        self._jump_ms = jump_ms
        self._late_ms = late_ms
        self._last: tuple[int, int] | None = None

    def look(self, wall_ms: int, monotonic_ms: int, *, expected_ms: int) -> int:
        """Compare with the last reading, which should have been ``expected_ms`` ago."""
        last, self._last = self._last, (wall_ms, monotonic_ms)
        if last is None:
            return 0
        wall_passed, passed = wall_ms - last[0], monotonic_ms - last[1]
        if abs(wall_passed - passed) >= self._jump_ms:
            return wall_passed - passed
        return passed if passed - expected_ms >= self._late_ms else 0
