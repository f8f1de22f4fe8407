"""The stream's conversation, frame by frame, without a socket."""

from __future__ import annotations

from typing import Any

import pytest

from qkt.bybit.transport.stream_session import (
    Deliver,
    Login,
    LoginRefused,
    Lost,
    Phase,
    Ready,
    Send,
    StreamSession,
    Timing,
    TopicRefused,
    share_of,
)

TIMING = Timing(
    ping_interval_ms=1_000, pong_timeout_ms=500, grace_ms=200, answer_timeout_ms=2_000, retry_refused_ms=10_000
)
YES = {"success": True, "ret_msg": "", "op": "auth", "conn_id": "c"}


def an_open_session(*topics: Any, timing: Any = TIMING) -> tuple[Any, ...]:
    """A session whose login is through at time 0; its subscribe requests are returned too."""
    session = StreamSession(topics, timing)
    session.opened(0)
    return session, session.received(YES, 0)


def answer(command: Any, success: bool = True, reason: str = "") -> dict[str, Any]:
    return {"op": "subscribe", "success": success, "ret_msg": reason, "req_id": command.frame["req_id"]}


def asked(commands: Any) -> list[Any]:
    return [command.frame["args"] for command in commands if isinstance(command, Send)]


def test_nothing_but_the_login_is_sent_before_its_answer() -> None:
    session = StreamSession(["order.spot"], TIMING)
    assert [type(command) for command in session.opened(0)] == [Login]
    assert session.subscribe("wallet", 1) == []
    assert session.tick(1_999) == []
    assert asked(session.received(YES, 10)) == [["order.spot", "wallet"]]


def test_a_session_without_topics_is_ready_with_the_login() -> None:
    _, commands = an_open_session()
    assert commands == [Ready()]


def test_S44_ready_comes_after_the_acknowledgement_not_before() -> None:
    session, commands = an_open_session("order.spot", "wallet")
    assert not session.is_ready
    assert session.received(answer(commands[0]), 20) == [Ready()]
    assert session.is_ready


def test_frames_are_delivered_in_order_also_before_the_acknowledgement() -> None:
    session, _ = an_open_session("order.spot")
    frames = [{"topic": "order.spot", "data": [], "id": str(number)} for number in range(3)]
    assert [session.received(frame, 5) for frame in frames] == [[Deliver(frame)] for frame in frames]


@pytest.mark.parametrize(
    "reply",
    [
        {"success": False, "ret_msg": "Params Error", "op": "auth"},
        {"retCode": 10004, "retMsg": "error sign", "op": "auth", "connId": "c"},
        {"success": False, "ret_msg": "Params Error", "op": ""},
    ],
)
def test_S42_a_refused_login_ends_the_session(reply: dict[str, Any]) -> None:
    session = StreamSession(["order.spot"], TIMING)
    session.opened(0)
    (command,) = session.received(reply, 5)
    assert isinstance(command, LoginRefused)
    assert session.phase is Phase.ENDED
    assert session.received({"topic": "order.spot"}, 6) == []


def test_the_trade_streams_login_reply_is_understood() -> None:
    session = StreamSession([], TIMING)
    session.opened(0)
    assert session.received({"retCode": 0, "retMsg": "OK", "op": "auth", "connId": "c"}, 1) == [Ready()]


def test_a_login_nobody_answers_is_a_dead_connection() -> None:
    session = StreamSession([], TIMING)
    session.opened(0)
    assert session.next_deadline_ms() == 2_000
    (command,) = session.tick(2_000)
    assert isinstance(command, Lost)


def test_topics_go_out_in_chunks_and_never_beside_their_all_in_one_form() -> None:
    topics = [f"topic{number}" for number in range(12)] + ["order", "order.spot", "order.linear"]
    _, commands = an_open_session(*topics)
    requests = asked(commands)
    assert sorted(topic for request in requests for topic in request) == sorted(topics)
    assert all(len(request) <= 10 for request in requests)
    assert all(sum(topic.startswith("order") for topic in request) <= 1 for request in requests)


def test_S43_one_bad_topic_is_found_out_and_the_others_live() -> None:
    session, commands = an_open_session("order.spot", "nonsense", "wallet")
    singles = session.received(answer(commands[0], False, "error:handler not found,topic:nonsense"), 10)
    assert asked(singles) == [["order.spot"], ["nonsense"], ["wallet"]]
    assert session.received(answer(singles[0]), 11) == []
    refused = session.received(answer(singles[1], False, "handler not found"), 12)
    assert refused == [TopicRefused("nonsense", "handler not found")]
    assert session.received(answer(singles[2]), 13) == [Ready(("nonsense",))]
    assert session.refused == {"nonsense": "handler not found"}


def test_a_refused_topic_is_asked_for_again_and_its_healing_is_ready_anew() -> None:
    session, commands = an_open_session("wallet")
    session.received(answer(commands[0], False, "no"), 10)
    for now in range(1_000, 10_000, 1_000):
        session.tick(now)
        session.received({"op": "pong"}, now + 1)
    again = [command for command in session.tick(10_010) if command.frame["op"] == "subscribe"]
    assert asked(again) == [["wallet"]]
    assert session.received(answer(again[0]), 10_020) == [Ready()]
    assert session.refused == {}


def test_a_topic_that_is_refused_again_is_no_news() -> None:
    session, commands = an_open_session("wallet")
    session.received(answer(commands[0], False, "no"), 10)
    again = [command for command in session.tick(10_010) if command.frame["op"] == "subscribe"]
    assert session.received(answer(again[0], False, "no"), 10_020) == []


def test_a_subscription_nobody_answers_is_a_dead_connection() -> None:
    session, _ = an_open_session("order.spot")
    session.tick(1_000)
    session.received({"op": "pong"}, 1_001)
    (command,) = session.tick(2_000)
    assert isinstance(command, Lost)
    assert "order.spot" in command.reason


def test_a_reply_without_an_id_answers_the_oldest_question() -> None:
    session, _ = an_open_session("order.spot")
    assert session.received({"op": "subscribe", "success": True, "ret_msg": "subscribe"}, 1) == [Ready()]


def test_an_answer_to_a_question_nobody_asked_changes_nothing() -> None:
    session, _ = an_open_session("order.spot")
    assert session.received({"op": "subscribe", "success": True, "req_id": "other"}, 1) == []
    assert not session.is_ready


def test_a_topic_wanted_later_is_asked_for_at_once_and_leaves_the_session_ready() -> None:
    session, _ = an_open_session()
    commands = session.subscribe("wallet", 50)
    assert asked(commands) == [["wallet"]]
    assert session.is_ready
    assert not session.is_answered("wallet")
    assert session.received(answer(commands[0]), 60) == []
    assert session.is_answered("wallet")
    assert session.subscribe("wallet", 70) == []


def test_pings_go_out_on_time_and_each_is_owed_a_pong() -> None:
    session, _ = an_open_session()
    assert session.next_deadline_ms() == 1_000
    (ping,) = session.tick(1_000)
    assert ping.frame["op"] == "ping"
    assert session.next_deadline_ms() == 1_500
    session.received({"op": "pong", "req_id": ping.frame["req_id"], "args": ["1"]}, 1_040)
    assert session.round_trip_ms == 40
    assert session.next_deadline_ms() == 2_000


@pytest.mark.parametrize(
    "pong",
    [
        {"req_id": "p1", "op": "pong", "args": ["1767225620000"], "conn_id": "c"},
        {"success": True, "ret_msg": "pong", "conn_id": "c", "op": "ping"},
        {"retCode": 0, "retMsg": "OK", "op": "pong", "data": ["1"], "connId": "c"},
    ],
    ids=["private", "public", "trade"],
)
def test_the_pongs_of_all_three_streams_count(pong: dict[str, Any]) -> None:
    session, _ = an_open_session()
    session.tick(1_000)
    session.received(pong, 1_010)
    assert session.tick(1_600) == []


def test_S39_a_missing_pong_is_a_dead_connection() -> None:
    session, _ = an_open_session()
    session.tick(1_000)
    (command,) = session.tick(1_500)
    assert isinstance(command, Lost)
    assert "pong" in command.reason


def test_S39_data_does_not_stand_in_for_a_pong() -> None:
    session, _ = an_open_session("order.spot")
    session.tick(1_000)
    session.received({"topic": "order.spot", "data": []}, 1_499)
    assert isinstance(session.tick(1_500)[0], Lost)


def test_bytes_that_wait_unread_earn_a_little_grace_and_no_more() -> None:
    session, _ = an_open_session()
    session.tick(1_000)
    assert session.tick(1_699, unread=True) == []
    assert isinstance(session.tick(1_700, unread=True)[0], Lost)


def test_by_default_a_dead_connection_is_noticed_within_ten_seconds() -> None:
    timing = Timing()
    assert timing.ping_interval_ms + timing.pong_timeout_ms + 1_000 < 10_000  # the shell looks once a second


def test_a_frame_nobody_knows_is_ignored() -> None:
    session, _ = an_open_session()
    assert session.received({"op": "something-new"}, 5) == []
    assert session.received({}, 5) == []


def rows(*categories: Any) -> list[Any]:
    return [{"category": category, "orderId": str(number)} for number, category in enumerate(categories)]


@pytest.mark.parametrize(
    ("subscription", "topic", "categories", "heard"),
    [
        ("order.spot", "order.spot", ["spot", "spot"], ["spot", "spot"]),
        ("order.spot", "order", ["spot", "linear"], ["spot"]),
        ("order.linear", "order", ["spot", "linear"], ["linear"]),
        ("order", "order.spot", ["spot"], ["spot"]),
        ("order", "order", ["spot", "linear"], ["spot", "linear"]),
        ("order.spot", "order.linear", ["linear"], None),
        ("order.linear", "order.spot", ["linear", "spot"], ["linear"]),
        ("order.spot", "execution.spot", ["spot"], None),
        ("execution.spot", "execution.fast.spot", ["spot"], None),
        ("execution.fast", "execution.fast.spot", ["spot"], ["spot"]),
    ],
)
def test_rows_are_routed_by_their_own_category(
    subscription: str, topic: str, categories: list[Any], heard: list[Any] | None
) -> None:
    share = share_of(subscription, {"topic": topic, "creationTime": 1, "data": rows(*categories)})
    assert (None if share is None else [row["category"] for row in share["data"]]) == heard


def test_rows_without_a_category_have_that_of_the_topic_or_belong_to_all() -> None:
    assert share_of("wallet", {"topic": "wallet", "data": [{"coin": []}]}) is not None
    assert share_of("order.spot", {"topic": "order.spot", "data": [{}]}) is not None
    assert share_of("order.linear", {"topic": "order.spot", "data": [{}]}) is None
    assert share_of("order.spot", {"topic": "order", "data": [{}]}) is not None


def test_a_frame_that_belongs_whole_is_passed_on_untouched() -> None:
    frame = {"topic": "order", "data": rows("spot", "spot")}
    assert share_of("order.spot", frame) is frame


@pytest.mark.parametrize(
    "frame",
    [
        {"op": "notice", "success": False},
        {"op": "notice"},
        {"success": True, "ret_msg": "", "op": "subscribe", "req_id": "s9"},
        {"success": True, "ret_msg": ""},
        {"success": True, "op": "auth", "req_id": "another"},
        {"retCode": 0, "op": "order.create", "reqId": "a1"},
    ],
)
def test_a_control_frame_that_does_not_answer_the_login_changes_nothing(frame: dict[str, object]) -> None:
    session = StreamSession(["order.spot"], TIMING)
    session.opened(0)

    assert session.received(frame, 5) == []
    assert session.phase is Phase.LOGGING_IN
