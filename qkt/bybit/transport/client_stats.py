"""`ClientStats`: the counters and ages of one client."""

from __future__ import annotations

import attrs


@attrs.frozen(kw_only=True)
class ClientStats:
    """Counters and state of a client's connection. Ages, lags and round trips in ms, None when not known."""

    frames: int
    frame_age_ms: int | None
    lag_ms: int | None
    most_lag_ms: int
    unread_bytes: int
    malformed_frames: int
    connections: int
    losses: int
    last_loss: str
    ping_round_trip_ms: int | None
    listener_errors: int
    handlers_waiting: int
    gaps: int
    order_entry: str
    websocket_writes: int
    websocket_fallbacks: int
    websocket_losses: int
    requests: int
    requests_under_way: int
    retries: int
    throttled: int
    failed_reads: int
    unknown_writes: int
    clock_refusals: int
    waited_for_budget_ms: int
    rest_round_trip_ms: int | None
    requests_in_5_s: int
    connections_in_5_min: int
    request_limit_in_5_s: int
    shut_out_ms: int
