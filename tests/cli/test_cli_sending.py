"""`qkt submit`, `modify`, `cancel`, `cancel-all`: nothing is sent unasked, and each says what really became of it."""

from __future__ import annotations

import io
from typing import Any

import pytest

from tests.support.cli_rig import on_a_terminal

CREATE, AMEND, CANCEL = "/v5/order/create", "/v5/order/amend", "/v5/order/cancel"


def rest(venue: Any, link_id: str = "resting", **more: Any) -> Any:
    terms = {"symbol": "BTCUSDT", "side": "Buy", "orderType": "Limit", "qty": "0.1", "price": "50000"}
    return venue.place(**{**terms, "orderLinkId": link_id, **more})


def placed(venue: Any) -> list[Any]:
    return [row for row in venue.truth()["orders"] if not row["outside"]]


# -- submit ------------------------------------------------------------------------------------------------------


def test_a_limit_order_rests_and_is_accepted(venue: Any, qkt_json: Any) -> None:
    code, told = qkt_json("submit", "buy", "0.01", "btcusdt", "--limit", "59000", "--yes")

    assert (code, told["outcome"], told["order"]["status"]) == (0, "ACCEPTED", "NEW")
    assert [row["orderLinkId"] for row in placed(venue)] == [told["client_order_id"]]


def test_a_market_order_is_waited_for_until_it_ends(venue: Any, qkt: Any, qkt_json: Any) -> None:
    code, told = qkt_json("submit", "sell", "0.01", "BYBIT_SPOT:BTCUSDT", "--market", "--yes", "--id", "mine")
    assert (code, told["order"]["status"], told["client_order_id"]) == (0, "FILLED", "mine")
    assert [fill["exec_id"] for fill in told["fills"]] == [row["execId"] for row in venue.truth()["executions"]]

    seen = qkt("submit", "buy", "250", "BTCUSDT", "--market", "--quote", "--yes")
    assert seen.code == 0
    assert seen.text.startswith("ACCEPTED")
    assert "filled at 60000.1 on average" in seen.text


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--stop", "55000"), {"orderType": "Market", "triggerPrice": "55000"}),
        (("--stop", "55000", "--limit", "54900"), {"orderType": "Limit", "triggerPrice": "55000", "price": "54900"}),
        (("--touch", "65000"), {"orderType": "Market", "triggerPrice": "65000"}),
        (("--limit", "65000", "--tif", "POST_ONLY"), {"orderType": "Limit", "timeInForce": "PostOnly"}),
    ],
    ids=["stop", "stop-limit", "if-touched", "post-only"],
)
def test_a_dry_run_shows_what_would_be_sent_and_sends_nothing(
    venue: Any, qkt_json: Any, options: tuple[Any, ...], expected: dict[str, Any]
) -> None:
    code, told = qkt_json("submit", "sell", "0.5", "BTCUSDT", *options, "--dry-run")

    assert code == 0
    assert told["dry_run"] is True
    body = told["would_send"]["body"]
    assert expected.items() <= body.items()
    assert (body["side"], body["qty"]) == ("Sell", "0.5")
    assert placed(venue) == []


def test_a_refusal_is_exit_code_one(venue: Any, qkt: Any, qkt_json: Any) -> None:
    venue.faults.add("ret_code", path=CREATE, code=170131, text="Insufficient balance.")
    code, told = qkt_json("submit", "buy", "0.01", "BTCUSDT", "--limit", "59000", "--yes")
    assert (code, told["outcome"]) == (1, "REJECTED")
    assert "170131" in told["reason"]
    assert qkt("submit", "buy", "0.01", "BTCUSDT", "--limit", "59000", "--yes").text.startswith("REJECTED")


def test_a_lost_reply_is_looked_up_and_accepted(venue: Any, qkt_json: Any) -> None:
    venue.faults.add("ret_code", path=CREATE, code=10016, accepted=True, count=1)
    code, told = qkt_json("submit", "buy", "0.01", "BTCUSDT", "--limit", "59000", "--yes")
    assert (code, told["outcome"]) == (0, "ACCEPTED")
    assert len(placed(venue)) == 1


def test_an_outcome_nobody_knows_is_exit_code_four_and_is_not_sent_again(venue: Any, qkt: Any, qkt_json: Any) -> None:
    lost = venue.faults.add("ret_code", path=CREATE, code=10016)
    code, told = qkt_json("submit", "buy", "0.01", "BTCUSDT", "--limit", "59000", "--yes", "--wait", "100ms")
    assert (code, told["outcome"], lost.hits) == (4, "UNKNOWN", 1)

    seen = qkt("submit", "buy", "0.01", "BTCUSDT", "--limit", "59000", "--yes", "--wait", "100ms")
    assert seen.code == 4
    assert "Do not send it again" in seen.text


@pytest.mark.verify
def test_an_order_that_provably_never_arrived_is_rejected(venue: Any, qkt: Any) -> None:
    venue.faults.add("request_lost", path=CREATE, count=1, mode="reset")
    seen = qkt("submit", "buy", "0.01", "BTCUSDT", "--limit", "59000", "--yes")
    assert (seen.code, placed(venue)) == (1, [])
    assert "the venue knows no such order" in seen.text


@pytest.mark.parametrize(
    "options",
    [
        ("x", "BTCUSDT", "--market"),
        ("0.01", "BTCUSDT"),
        ("0.01", "BTCUSDT", "--market", "--limit", "1"),
        ("0.01", "BTCUSDT", "--stop", "1", "--touch", "2"),
        ("1", "BTCUSDT", "--limit", "1", "--quote"),
        ("-1", "BTCUSDT", "--market"),
        ("nan", "BTCUSDT", "--market"),
        ("0.01", "BTCUSDT", "--limit", "59000", "--id", "no spaces"),
        ("0.01", "KRAKEN:BTCUSDT", "--market"),
        ("0.0000000001", "BTCUSDT", "--market"),
    ],
    ids=" ".join,
)
def test_what_cannot_be_right_is_said_before_anything_is_sent(venue: Any, qkt: Any, options: tuple[Any, ...]) -> None:
    ended = qkt("submit", "buy", *options, "--yes")
    assert ended.code == 2
    assert ended.err
    assert "Traceback" not in ended.err
    assert placed(venue) == []


def test_where_nobody_can_answer_nothing_is_sent_without_yes(venue: Any, qkt: Any) -> None:
    rest(venue)
    for command in (
        ("submit", "buy", "0.01", "BTCUSDT", "--market"),
        ("modify", "resting", "--limit", "49000"),
        ("cancel", "resting"),
        ("cancel-all",),
    ):
        ended = qkt(*command)
        assert (ended.code, "--yes" in ended.err) == (2, True)
    assert placed(venue) == []
    assert venue.truth()["orders"][0]["orderStatus"] == "New"


class Keyboard(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("typed", "code", "count"), [("y\n", 0, 1), ("yes\n", 0, 1), ("\n", 1, 0), ("", 1, 0)])
def test_at_the_keyboard_it_asks_first(
    venue: Any, qkt: Any, monkeypatch: pytest.MonkeyPatch, typed: str, code: int, count: int
) -> None:
    monkeypatch.setattr("sys.stdin", Keyboard(typed))
    ended = qkt("submit", "buy", "0.01", "BTCUSDT", "--limit", "59000")
    assert ended.code == code
    assert "buy 0.01 BTCUSDT limit 59000" in ended.err
    assert len(placed(venue)) == count


def test_ctrl_c_at_the_question_sends_nothing(venue: Any, venue_env: Any) -> None:
    seen = on_a_terminal("submit", "buy", "0.01", "BTCUSDT", "--market", env=venue_env, answer=("[y/N]", "\x03"))
    assert seen.code == 130
    assert "Traceback" not in seen.text
    assert placed(venue) == []


@pytest.mark.verify
def test_ctrl_c_while_the_outcome_is_unknown_names_the_order(venue: Any, venue_env: Any) -> None:
    venue.faults.add("ret_code", path=CREATE, code=10016)
    seen = on_a_terminal(
        *("submit", "buy", "0.01", "BTCUSDT", "--limit", "59000", "--yes", "--id", "lost"),
        env=venue_env,
        answer=("waiting for the outcome", "\x03"),
    )
    assert seen.code == 130
    assert "lost may be live" in seen.text
    assert "Traceback" not in seen.text


# -- modify ------------------------------------------------------------------------------------------------------


def test_modify_waits_until_the_venue_shows_the_new_terms(venue: Any, qkt: Any, qkt_json: Any) -> None:
    row = rest(venue)
    code, told = qkt_json("modify", "resting", "--limit", "49000", "--quantity", "0.2", "--yes")
    assert (code, told["outcome"]) == (0, "MODIFIED")
    assert (told["order"]["limit_price"], told["order"]["quantity"]) == ("49000", "0.2")
    assert qkt("modify", row["orderId"], "--limit", "48000", "--yes").text.startswith("MODIFIED")


def test_modify_says_when_it_is_refused_or_unknown(venue: Any, qkt_json: Any) -> None:
    rest(venue)
    refused = venue.faults.add("ret_code", path=AMEND, code=170131)
    code, told = qkt_json("modify", "resting", "--limit", "49000", "--yes")
    assert (code, told["outcome"]) == (1, "REJECTED")
    refused.remove()
    venue.faults.add("ret_code", path=AMEND, code=10016)
    code, told = qkt_json("modify", "resting", "--limit", "49000", "--yes", "--wait", "100ms")
    assert (code, told["outcome"]) == (4, "UNKNOWN")


def test_modify_needs_an_open_order_and_a_change(venue: Any, qkt: Any) -> None:
    rest(venue)
    assert qkt("modify", "resting", "--yes").code == 2
    ended = qkt("modify", "nobody", "--limit", "1", "--yes")
    assert (ended.code, "nobody" in ended.err) == (2, True)
    assert "not sent" in qkt("modify", "resting", "--limit", "49000", "--dry-run").text
    assert venue.truth()["orders"][0]["price"] == "50000.0"


# -- cancel ------------------------------------------------------------------------------------------------------


def test_cancel_waits_until_the_order_has_ended(venue: Any, qkt: Any, qkt_json: Any) -> None:
    first, second = rest(venue, "one"), rest(venue, "two")
    code, told = qkt_json("cancel", "one", second["orderId"], "--yes")
    assert (code, [order["outcome"] for order in told["orders"]]) == (0, ["cancelled", "cancelled"])
    assert {row["orderStatus"] for row in venue.truth()["orders"]} == {"Cancelled"}
    assert qkt("cancel", first["orderId"], "--yes").code == 2


def test_an_order_that_fills_before_its_cancel_is_said_to_have_filled(venue: Any, qkt_json: Any) -> None:
    rest(venue)
    venue.faults.add("fill_wins_cancel", count=1)
    code, told = qkt_json("cancel", "resting", "--yes")
    assert (code, told["orders"][0]["outcome"]) == (1, "filled before the cancel")
    assert told["orders"][0]["order"]["cum_quantity"] == "0.1"


def test_a_cancel_nobody_answers_is_exit_code_four(venue: Any, qkt: Any, qkt_json: Any) -> None:
    rest(venue)
    venue.faults.add("ret_code", path=CANCEL, code=10016)
    code, told = qkt_json("cancel", "resting", "--yes", "--wait", "100ms")
    assert (code, told["still_open"]) == (4, 1)
    assert "may still be open" in qkt("cancel", "resting", "--yes", "--wait", "100ms").text


def test_cancel_all_ends_every_open_order(venue: Any, qkt: Any, qkt_json: Any) -> None:
    rest(venue, "one")
    rest(venue, "two", symbol="ETHUSDT", qty="1", price="2500")
    rest(venue, "three", orderType="Market", side="Sell", qty="1", triggerPrice="40000", orderFilter="StopOrder")

    shown = qkt("cancel-all", "--dry-run")
    assert "3 of spot and linear would be cancelled" in shown.text
    code, told = qkt_json("cancel-all", "--symbol", "ETHUSDT", "--yes")
    assert (code, len(told["orders"])) == (0, 1)
    assert qkt("cancel-all", "--yes").code == 0
    assert not [row for row in venue.truth()["orders"] if row["orderStatus"] in ("New", "Untriggered")]
    assert "no open orders" in qkt("cancel-all", "--yes").text


def test_ctrl_c_at_the_worst_moment_leaves_no_thread(venue: Any, qkt: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the connection is up, before anything is sent; the fixture looks for threads."""

    def interrupted(*_arguments: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("qkt.cli.submit.is_confirmed", interrupted)
    assert qkt("submit", "buy", "0.01", "BTCUSDT", "--market").code == 130
    assert placed(venue) == []


def test_cancel_all_ends_linear_orders_too_and_says_so(venue: Any, qkt: Any, qkt_json: Any) -> None:
    venue.place(symbol="BTCUSDT", side="Buy", orderType="Limit", qty="0.1", price="50000", category="linear")
    assert "1 open order in spot and linear" in qkt("orders").text
    code, told = qkt_json("cancel-all", "--yes")
    assert (code, [each["outcome"] for each in told["orders"]]) == (0, ["cancelled"])
    assert "no open orders to cancel in spot and linear" in qkt("cancel-all", "--yes").text


def test_a_symbol_that_no_category_lists_is_a_wrong_call(qkt: Any) -> None:
    ended = qkt("orders", "--symbol", "NOPE")
    assert (ended.code, "lists no symbol 'NOPE'" in ended.err) == (2, True)


def test_a_misspelt_command_is_answered_with_the_nearest(qkt: Any) -> None:
    assert "did you mean 'orders'?" in qkt("order").err
