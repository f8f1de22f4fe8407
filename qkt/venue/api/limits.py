"""Rate limits (docs v5/rate-limit): per UID and endpoint in a rolling second, per IP in five seconds.

They are measured on the monotonic clock, even when the venue's clock is a stepped one; only the reset time in the
headers is venue time.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass

UID_LIMITS: dict[str, int] = {
    "/v5/order/create": 20,
    "/v5/order/amend": 10,
    "/v5/order/cancel": 20,
    "/v5/order/cancel-all": 20,
    "/v5/order/create-batch": 20,
    "/v5/order/amend-batch": 20,
    "/v5/order/cancel-batch": 20,
    "/v5/order/disconnected-cancel-all": 5,
    "/v5/order/realtime": 50,
    "/v5/order/history": 50,
    "/v5/order/spot-borrow-check": 50,
    "/v5/execution/list": 50,
    "/v5/account/wallet-balance": 50,
    "/v5/account/info": 50,
    "/v5/account/fee-rate": 5,
    "/v5/account/instruments-info": 10,
    "/v5/account/query-dcp-info": 5,
    "/v5/account/withdrawal": 50,
    "/v5/account/transaction-log": 25,
    "/v5/account/user-setting-config": 50,
    "/v5/account/set-limit-px-action": 10,
    "/v5/position/list": 50,
    "/v5/position/closed-pnl": 50,
    "/v5/position/set-leverage": 10,
    "/v5/position/switch-mode": 10,
    "/v5/position/trading-stop": 10,
    "/v5/user/query-api": 10,
}
_IP_REQUESTS, _IP_WINDOW_S, BAN_S = 600, 5.0, 600.0
_IP_STREAMS, _STREAMS_WINDOW_S = 500, 300.0
_IP_TRADES = 3000


@dataclass(frozen=True, slots=True)
class Allowance:
    """The numbers of the limit headers, and how many of the requested units are granted."""

    limit: int
    remaining: int
    granted: int
    reset_in_ms: int

    def headers(self, now_ms: int) -> dict[str, str]:
        return {
            "X-Bapi-Limit": str(self.limit),
            "X-Bapi-Limit-Status": str(self.remaining),
            "X-Bapi-Limit-Reset-Timestamp": str(now_ms + self.reset_in_ms),
        }


class RateLimits:
    """Rolling windows; when disabled everything is granted and the headers still show the nominal limit.

    Attributes:
        uid_limits: requests per second, UID and endpoint.
        trade_sessions: how many ``/v5/trade`` connections a UID may have (10003 beyond).
        session_requests: how many requests a second one of them may send (20003 beyond).

    The real numbers of the last two are not documented; these are assumptions, and may be set.
    """

    def __init__(self, enabled: bool) -> None:
        self.enabled = enabled
        self.uid_limits: dict[str, int] = dict(UID_LIMITS)
        self.trade_sessions = 50
        self.session_requests = 1000
        self._used: dict[tuple[int, str], deque[float]] = {}
        self._by_ip: dict[str, deque[float]] = {}
        self._streams: dict[str, deque[float]] = {}
        self._trades: dict[str, deque[float]] = {}
        self._banned_until: dict[str, float] = {}

    def take(self, uid: int, path: str, units: int = 1) -> Allowance | None:
        """Take units of an endpoint's limit; None when the endpoint has none."""
        limit = self.uid_limits.get(path)
        if limit is None:
            return None
        if not self.enabled:
            return Allowance(limit, limit - 1, units, 0)
        now = time.monotonic()
        used = self._used.get((uid, path))
        if used is None:
            used = self._used[(uid, path)] = deque()
        while used and used[0] <= now - 1:
            used.popleft()
        granted = max(0, min(units, limit - len(used)))
        used.extend([now] * granted)
        reset_in_ms = 0 if granted == units else int((used[0] + 1 - now) * 1000) + 1
        return Allowance(limit, limit - len(used), granted, reset_in_ms)

    def admits(self, ip: str) -> bool:
        """Whether an IP is within 600 requests in 5 s; beyond that, it is refused for ten minutes."""
        if not self.enabled:
            return True
        now = time.monotonic()
        if now < self._banned_until.get(ip, 0.0):
            return False
        if _count(self._by_ip, ip, now, _IP_WINDOW_S) > _IP_REQUESTS:
            self._banned_until[ip] = now + BAN_S
            return False
        return True

    def admits_stream(self, ip: str) -> bool:
        """Whether an IP has opened at most 500 stream connections in the last five minutes."""
        return not self.enabled or _count(self._streams, ip, time.monotonic(), _STREAMS_WINDOW_S) <= _IP_STREAMS

    def admits_session(self, open_sessions: int) -> bool:
        """Whether a UID with so many ``/v5/trade`` connections may log in on another."""
        return not self.enabled or open_sessions < self.trade_sessions

    def refuses_trade_request(self, ip: str, sent: deque[float]) -> int:
        """The retCode that refuses a request on ``/v5/trade``, or 0.

        Args:
            ip: of the client; 3000 requests a second and IP are admitted (10403 beyond).
            sent: when the connection sent its requests of the last second; this one is added.
        """
        if not self.enabled:
            return 0
        now = time.monotonic()
        if _count_in(self._trades.setdefault(ip, deque()), now, 1.0) > _IP_TRADES:
            return 10403
        return 20003 if _count_in(sent, now, 1.0) > self.session_requests else 0

    def forgive(self) -> None:
        """Forget all requests and lift every ban."""
        self._used.clear()
        self._by_ip.clear()
        self._streams.clear()
        self._trades.clear()
        self._banned_until.clear()


def _count(seen_by_ip: dict[str, deque[float]], ip: str, now: float, window_s: float) -> int:
    """Add one and return how many lie in the window."""
    return _count_in(seen_by_ip.setdefault(ip, deque()), now, window_s)


def _count_in(seen: deque[float], now: float, window_s: float) -> int:
    while seen and seen[0] <= now - window_s:
        seen.popleft()
    seen.append(now)
    return len(seen)
