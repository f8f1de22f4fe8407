"""Whatever arrives, the rooms at the wire answer with a verdict, never with an accident."""

from __future__ import annotations

import contextlib
import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from qkt.bybit.codec.envelope import check_envelope, decode
from qkt.bybit.codec.retcodes import Operation, Verdict, advice, verdict
from qkt.bybit.transport.stream_session import LoginRefused, Lost, Phase, StreamSession, Timing, share_of
from qkt.errors import QktError, VenueProtocolError

SCALARS = st.none() | st.booleans() | st.integers() | st.text(max_size=8)
JSON = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner))
WORDS = st.sampled_from(
    ["auth", "subscribe", "ping", "pong", "order.spot", "order", "wallet", "spot", "a1", "s2", "p3"]
)
KEYS = [
    "op",
    "topic",
    "success",
    "retCode",
    "ret_msg",
    "retMsg",
    "req_id",
    "reqId",
    "data",
    "args",
    "conn_id",
    "category",
]
FRAMES = st.dictionaries(st.sampled_from(KEYS), WORDS | SCALARS | JSON, max_size=6)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(FRAMES, st.integers(0, 3_000), st.booleans()), max_size=25))
def test_no_frame_breaks_the_session(events: Any) -> None:
    session, now = StreamSession(["order.spot", "wallet"], Timing()), 0
    session.opened(now)
    ended = False
    for frame, pause, unread in events:
        now += pause
        commands = session.received(frame, now) + session.tick(now, unread=unread)
        if ended:
            assert commands == []
        ended = ended or any(isinstance(command, Lost | LoginRefused) for command in commands)
        assert (session.phase is Phase.ENDED) == ended
        if not ended:
            assert session.next_deadline_ms() >= 0
        session.subscribe("execution.spot", now)


@given(FRAMES, st.sampled_from(["order", "order.spot", "order.linear", "wallet", "execution.fast"]))
def test_no_frame_breaks_the_routing_and_no_row_is_invented(frame: Any, topic: Any) -> None:
    share = share_of(topic, frame)
    if share is not None and isinstance(frame.get("data"), list):
        assert all(row in frame["data"] for row in share["data"])


@given(st.one_of(st.text(), st.binary(), JSON.map(json.dumps)))
def test_decoding_gives_an_object_or_a_protocol_error(text: Any) -> None:
    with contextlib.suppress(VenueProtocolError):
        assert isinstance(decode(text), dict)


@given(JSON | st.fixed_dictionaries({"retCode": st.integers(-3000, 600_000)}), st.booleans())
def test_an_envelope_is_passed_or_refused_in_our_own_words(envelope: Any, is_write: Any) -> None:
    try:
        passed = check_envelope("/v5/order/create" if is_write else "/v5/order/realtime", envelope, is_write=is_write)
    except QktError:
        return
    assert passed["retCode"] == 0


@given(st.integers(), st.sampled_from(Operation))
def test_every_code_has_a_verdict_and_only_success_needs_no_advice(code: Any, operation: Any) -> None:
    found = verdict(code, operation)
    assert isinstance(found, Verdict)
    if found is not Verdict.OK:
        assert advice(code, operation)
