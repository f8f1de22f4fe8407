"""The catalogue of faults: where each applies, what it does, its parameters, and its cause at the real venue.

The reference page ``docs/reference/venue-faults.md`` is generated from this table, and a test compares them. ``where``
names the place in the code that asks for the kind; a test arms every kind and sees it applied.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class FaultKind:
    """One kind of fault."""

    name: str
    where: str
    does: str
    real: str
    params: dict[str, Any] = field(default_factory=dict)
    group: str = ""


def _group(group: str, *kinds: FaultKind) -> list[FaultKind]:
    return [FaultKind(k.name, k.where, k.does, k.real, k.params, group) for k in kinds]


_TCP = _group(
    "TCP",
    FaultKind(
        "connection_refused",
        "listen",
        "The venue stops listening: new connections are refused, `cut=true` also aborts the existing ones. "
        "The controls share the port: over HTTP, give it a `window_ms`.",
        "A load balancer in maintenance, a wrong port, a firewall that rejects.",
        {"cut": True},
    ),
    FaultKind(
        "connection_reset_before_request",
        "request",
        "The connection is reset (RST) once the request has been read; the venue never acts on it.",
        "A proxy dies with the request in its buffer.",
    ),
    FaultKind(
        "connection_reset_after_request",
        "reply",
        "The request is carried out, then the connection is reset (RST) instead of a reply.",
        "A proxy dies between the backend's reply and the client.",
    ),
    FaultKind(
        "half_open",
        "request",
        "The connection accepts everything and answers nothing, without FIN; the request is not carried out.",
        "A NAT or firewall that forgot the connection and drops silently.",
    ),
    FaultKind(
        "slow_response",
        "reply",
        "The reply is held back for `delay_ms`; the request has been carried out at once.",
        "Load at the venue: the docs warn of latency in volatile markets.",
        {"delay_ms": 1000},
    ),
    FaultKind(
        "slow_request",
        "request",
        "The request reaches the venue `delay_ms` late.",
        "Retransmissions; a request that arrives after its client gave up.",
        {"delay_ms": 1000},
    ),
    FaultKind(
        "sliced_response",
        "reply",
        "The reply arrives in slices of `bytes`, `pause_ms` apart.",
        "Small TCP segments over a bad line.",
        {"bytes": 16, "pause_ms": 1},
    ),
    FaultKind(
        "cut_response_after_bytes",
        "reply",
        "The connection closes after `bytes` of the body; the request has been carried out.",
        "A connection lost mid-reply.",
        {"bytes": 20},
    ),
    FaultKind(
        "stale_keep_alive",
        "reply",
        "After the reply the venue closes the pooled connection without having announced it.",
        "Idle timeouts of load balancers: the next request on the pooled connection meets a closed socket.",
        {"delay_ms": 0},
    ),
)
_HTTP = _group(
    "HTTP",
    FaultKind(
        "request_lost",
        "request",
        'The request never reaches the venue: it hangs (`mode="hang"`) or is reset (`mode="reset"`).',
        "Packet loss before the gateway.",
        {"mode": "hang"},
    ),
    FaultKind(
        "reply_lost",
        "reply",
        "The request is carried out, the reply never comes: `mode` `hang` or `reset`.",
        "The order is live and the client does not know it.",
        {"mode": "hang"},
    ),
    FaultKind(
        "http_status",
        "both",
        "The gateway answers with `status` and a short text; `accepted` says whether the request was carried out.",
        "502/503/504 of a gateway before or after the backend had accepted.",
        {"status": 502, "accepted": False},
    ),
    FaultKind(
        "html_body",
        "both",
        "HTTP 200 (or `status`) with an HTML page instead of JSON; `accepted` as above.",
        "CDN challenge and maintenance pages.",
        {"status": 200, "accepted": False},
    ),
    FaultKind(
        "truncated_json",
        "reply",
        "The body ends after `keep` of its length, correctly framed; the request was carried out.",
        "Buffers cut by a proxy.",
        {"keep": 0.5},
    ),
    FaultKind(
        "empty_body",
        "both",
        "HTTP 200 with no body at all; `accepted` as above.",
        "Gateways that answer before the backend does.",
        {"accepted": False},
    ),
    FaultKind(
        "wrong_content_type",
        "reply",
        "The body is unchanged JSON, declared as `content_type`.",
        "Gateways that rewrite headers.",
        {"content_type": "text/html"},
    ),
    FaultKind(
        "ret_code",
        "both",
        "HTTP 200 with retCode `code` and text `text`; `accepted` says whether the request was carried out.",
        "10000, 10016, 170007, 170146: the backend timed out, and may or may not have acted.",
        {"code": 10016, "text": "", "accepted": False},
    ),
    FaultKind(
        "rate_limited",
        "request",
        "retCode 10006 with its headers, reset in `reset_ms`; not carried out.",
        "The UID limit, shared with other clients of the account.",
        {"reset_ms": 1000},
    ),
    FaultKind(
        "http_429",
        "request",
        "HTTP 429; not carried out.",
        "System-level frequency protection (docs v5/error).",
    ),
    FaultKind(
        "ip_ban",
        "request",
        "HTTP 403 `access too frequent` to everything; not carried out.",
        "600 requests in 5 s from one IP; the ban lasts ten minutes (docs v5/rate-limit).",
    ),
    FaultKind(
        "empty_result",
        "reply",
        "retCode 0 with `result: {}`.",
        "Seen in outages: success without content.",
    ),
    FaultKind("null_result", "reply", "retCode 0 with `result: null`.", "Same, other serializer."),
    FaultKind(
        "missing_list",
        "reply",
        "retCode 0 with the `list` key missing from the result.",
        "A schema change, or a partial backend failure.",
    ),
    FaultKind(
        "malformed_row",
        "reply",
        "In row `row` of the list, `field` is replaced by `value`, or removed when `value` is null.",
        "Fields that appear, vanish or change type between releases.",
        {"row": 0, "field": "cumExecQty", "value": "not-a-number"},
    ),
)
_STREAM = _group(
    "Stream",
    FaultKind(
        "stream_refused",
        "upgrade",
        "The WebSocket upgrade is answered with HTTP `status`.",
        "500 connections in 5 minutes per domain; maintenance.",
        {"status": 503},
    ),
    FaultKind(
        "auth_refused",
        "auth",
        "Login is refused with `text`; `close=true` closes the connection afterwards.",
        "Expired keys, skewed clocks (`Params Error`).",
        {"text": "Params Error", "close": True},
    ),
    FaultKind(
        "trade_restarting",
        "trade",
        "From the next request on, the `/v5/trade` connection answers every request with 10019; requests under way are "
        "carried out, and new connections work.",
        "10019: the order-entry service restarts (docs websocket/trade/guideline).",
    ),
    FaultKind(
        "topic_refused",
        "subscribe",
        "A subscribe request naming `topic` fails as a whole.",
        "One bad topic fails the whole request (captured).",
    ),
    FaultKind(
        "subscribe_ack_lost",
        "subscribe",
        "The subscription is not made and no acknowledgement comes.",
        "A stream node fails between request and acknowledgement.",
    ),
    FaultKind(
        "control_delay",
        "answer",
        "Replies to auth, subscribe and ping arrive `delay_ms` late.",
        "Distance, and busy nodes; some clients lose a subscription whose acknowledgement is too quick.",
        {"delay_ms": 30},
    ),
    FaultKind(
        "stream_cut",
        "frame",
        "Instead of this frame the connection is aborted.",
        "Disconnects every 6 to 12 hours are normal at the venue.",
    ),
    FaultKind(
        "stream_half_open",
        "control",
        "From the next message of the client on, the connection ignores all input and sends nothing, without FIN.",
        "NAT timeouts, suspended laptops.",
    ),
    FaultKind(
        "stream_mute",
        "frame",
        "Data frames are not sent while pings are still answered.",
        "A stream node that lost its backend: healthy pings, silent topics.",
    ),
    FaultKind("missing_pong", "ping", "A ping gets no pong.", "An overloaded node."),
    FaultKind(
        "frame_drop",
        "frame",
        "The frame is not delivered.",
        "Nothing in the docs promises delivery, and there is no replay.",
    ),
    FaultKind(
        "frame_duplicate",
        "frame",
        "The frame is delivered `times` times.",
        "Reconnects, and the double subscription to an all-in-one and a categorised topic.",
        {"times": 2},
    ),
    FaultKind(
        "frame_reorder",
        "frame",
        "The frame is delivered after the next frame of the same topic.",
        "No ordering within a topic is documented.",
    ),
    FaultKind(
        "topic_reorder",
        "frame",
        "The frame is delivered after the next frame of any other topic.",
        "Order, execution and wallet frames travel apart: captures show every order.",
    ),
    FaultKind(
        "frame_delay",
        "frame",
        "The frame arrives `delay_ms` late, behind younger ones.",
        "Congested stream nodes: frames that arrive after a reconcile told the same.",
        {"delay_ms": 500},
    ),
    FaultKind(
        "frame_split",
        "frame",
        "A frame of several records becomes several frames with the same id.",
        "Captured both ways.",
    ),
    FaultKind(
        "frame_merge",
        "frame",
        "The frame waits for the next one of its topic; both arrive as one with all records.",
        "Captured: several orders in one frame.",
    ),
    FaultKind(
        "frames_before_ack",
        "reply",
        "The reply waits `delay_ms` so that the frames overtake it.",
        "Acknowledgement and frames come from different systems.",
        {"delay_ms": 50},
    ),
    FaultKind(
        "close_mid_frame",
        "frame",
        "Half of the frame's bytes, then the connection is gone.",
        "A node stopped while it was writing.",
    ),
    FaultKind("invalid_utf8", "frame", "The frame's text is not valid UTF-8.", "Corruption; RFC 6455 makes it fatal."),
    FaultKind("truncated_frame", "frame", "A whole frame with half of its JSON.", "A producer that died."),
    FaultKind(
        "unknown_field",
        "frame",
        "Every record carries an undocumented `field`.",
        "The changelog adds fields monthly.",
        {"field": "somethingNew", "value": {"nested": ["value"]}},
    ),
    FaultKind(
        "unknown_status",
        "frame",
        "Order records carry an `orderStatus` that is not in the docs.",
        "New values are added to enums.",
        {"status": "PendingSomethingNew"},
    ),
    FaultKind(
        "blank_link_id",
        "frame",
        "Records carry an empty `orderLinkId`.",
        "Fast executions of makers, system orders, orders placed without one.",
    ),
)
_VENUE = _group(
    "Venue",
    FaultKind(
        "stale_realtime",
        "read",
        "`order/realtime` answers as of `lag_ms` ago: new orders missing, closed ones still open.",
        "freqtrade #8175, #9857: the row lags the acknowledgement.",
        {"lag_ms": 1000},
    ),
    FaultKind(
        "history_lag",
        "read",
        "`order/history` answers as of `lag_ms` ago.",
        "The docs say the data may delay.",
        {"lag_ms": 5000},
    ),
    FaultKind(
        "execution_lag",
        "read",
        "`execution/list` shows rows only after `lag_ms`.",
        "Indexing lag: rows appear behind the watermark.",
        {"lag_ms": 5000},
    ),
    FaultKind(
        "stale_wallet",
        "read",
        "`wallet-balance` repeats the answer it gave when the fault was added, or first met.",
        "Cached reads behind a load balancer.",
    ),
    FaultKind(
        "page_shift",
        "read",
        "Pages are cut by position, so rows shift when orders come or go while a client pages.",
        "Offset paging under change: duplicates and holes.",
    ),
    FaultKind(
        "missing_row",
        "read",
        "Row `row` of the list is left out, or, when `field` is set, every row whose `field` is `value`.",
        "Eventually consistent indices; executions that never become visible.",
        {"row": 0, "field": "", "value": ""},
    ),
    FaultKind(
        "hidden_conditionals",
        "read",
        "`order/realtime` leaves untriggered orders out unless `orderFilter` asks for their kind.",
        "nautilus_trader found them missing and asks twice; the docs say all kinds are returned.",
    ),
    FaultKind(
        "expired_history",
        "read",
        "`order/history` and `execution/list` have no rows older than `older_than_ms`.",
        "Retention: unfilled cancelled orders vanish after a day, demo accounts keep a week.",
        {"older_than_ms": 0},
    ),
    FaultKind("cursor_expired", "read", "A request with a cursor fails with 10001.", "Cursors kept for too long."),
    FaultKind(
        "cursor_repeats",
        "read",
        "The next-page cursor is the one the request came with.",
        "A paging bug; a client that only follows cursors never stops.",
    ),
    FaultKind(
        "cache_wiped",
        "read",
        "The closed orders in `order/realtime` are wiped before the answer.",
        "Every release of the venue does it (docs v5/order/open-order).",
    ),
    FaultKind(
        "fill_wins_cancel",
        "cancel",
        "The order fills before the cancel: two `Filled` frames, and `reply` is `ok` or `refuse`.",
        "Documented in websocket/private/order.",
        {"reply": "ok"},
    ),
    FaultKind(
        "fill_after_cancel_ack",
        "cancel",
        "The cancel is acknowledged, then `quantity` (all, when empty) trades, and only then the cancel takes effect.",
        "An acknowledged cancel has not happened yet.",
        {"quantity": "", "delay_ms": 20},
    ),
    FaultKind(
        "cancel_ignored",
        "cancel",
        "The cancel is acknowledged and nothing happens.",
        "An acknowledgement is no confirmation: matching may drop the request.",
    ),
    FaultKind(
        "fill_wins_amend",
        "amend",
        "The amend is acknowledged, but the order had filled: a `Filled` frame carries the amend's `reason`.",
        "sbe/private/fast-order: a rejectReason on a Filled frame belongs to the refused amend, not to the order.",
        {"reason": "EC_TooLateToCancel"},
    ),
    FaultKind(
        "amend_refused_later",
        "amend",
        "The amend is acknowledged and changes nothing; an order frame with the old values carries `reason`.",
        "An acknowledgement is no confirmation: the refusal comes on the stream, under an unchanged status.",
        {"reason": "EC_OrigClOrdIDDoesNotExist"},
    ),
    FaultKind(
        "reject_after_ack",
        "create",
        "The order is acknowledged and then `Rejected` with `reason`.",
        "Checks behind the gateway.",
        {"reason": "EC_Others"},
    ),
    FaultKind(
        "outside_fill",
        "create",
        "`delay_ms` after it rests, a counterparty trades `quantity` (all, when empty) of the order.",
        "Counterparties trade at any time.",
        {"quantity": "", "delay_ms": 20},
    ),
    FaultKind(
        "outside_order",
        "create",
        "`delay_ms` after the create, a copy of the order is placed on the account from outside the API.",
        "The user's phone; a second process on the same key.",
        {"delay_ms": 20},
    ),
    FaultKind(
        "outside_cancel",
        "create",
        "`delay_ms` after it rests, the order is cancelled with `cancel_type` from outside the API.",
        "The user's phone; self-match prevention; a dead man's switch; an administrator.",
        {"cancel_type": "CancelByUser", "delay_ms": 20},
    ),
)
_TIME = _group(
    "Time",
    FaultKind(
        "clock_skew",
        "clock",
        "The venue's clock is `ms` ahead (negative: behind) while the fault is active.",
        "A client's clock is never exactly right; only one second of future is allowed.",
        {"ms": 8000},
    ),
    FaultKind(
        "clock_jump",
        "request",
        "At the matching request the venue's clock jumps by `ms`, and stays there until the fault is removed.",
        "NTP steps, suspended hosts.",
        {"ms": 8000},
    ),
)

KINDS: dict[str, FaultKind] = {kind.name: kind for kind in [*_TCP, *_HTTP, *_STREAM, *_VENUE, *_TIME]}
