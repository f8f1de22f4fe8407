"""Who may come in, and how one must knock: verbs, keys, clocks, signatures, limits (docs v5/guide, v5/error)."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
import requests

from qkt.venue import Refusal, SimulatedBybit
from qkt.venue.api.auth import authenticate, sign
from qkt.venue.exchange.accounts import Account

KEY, SECRET = "qktDemoKey0000001", "qktDemoSecret000000000000000000000001"


@pytest.mark.parametrize(
    ("payload", "signature"),
    [
        (
            "category=spot&symbol=BTCUSDT&orderLinkId=qkt-7f3a-0001",
            "65ea1989153b25db5bc0dff15462a4280b47ad08504913ba327a8facea0e2c4d",
        ),
        ("", "65bf1b95ce67e3cae2e0c879c7caec5cf8cecaaa143489c5aed9dadb54518f8d"),
        (
            '{"category":"spot","symbol":"BTCUSDT","side":"Buy","orderType":"Limit","qty":"0.001","price":"60000",'
            '"timeInForce":"GTC","orderLinkId":"qkt-7f3a-0001"}',
            "39eef30f106ab387546fa446efbfc4063872aee44e5823278d581f8678927253",
        ),
    ],
)
def test_signatures_are_those_of_the_reference(payload: str, signature: str) -> None:
    assert sign(SECRET, f"1767225600123{KEY}5000{payload}") == signature


def test_a_signed_request_is_answered_in_the_envelope_of_v5(rest: Any, venue: Any) -> None:
    answer = rest.get_raw("/v5/order/realtime", "category=spot")
    envelope = answer.json()
    assert answer.status_code == 200
    assert set(envelope) == {"retCode", "retMsg", "result", "retExtInfo", "time"}
    assert (envelope["retCode"], envelope["retMsg"]) == (0, "OK")
    assert abs(envelope["time"] - venue.now_ms()) < 1000


def test_an_unknown_key_is_10003(rest: Any) -> None:
    rest.key = "nobody"
    assert rest.get("/v5/order/realtime", category="spot")["retCode"] == 10003


def test_a_wrong_signature_is_10004_and_echoes_what_the_venue_saw(rest: Any) -> None:
    answer = rest.get_raw("/v5/order/realtime", "category=spot", secret="wrong", timestamp=str(rest.venue.now_ms()))
    envelope = answer.json()
    assert envelope["retCode"] == 10004
    assert "origin_string[" in envelope["retMsg"]
    assert "key5000category=spot]" in envelope["retMsg"]


def test_the_signature_covers_the_query_exactly_as_sent(rest: Any) -> None:
    """Re-encoding a comma or a cursor breaks the signature (docs v5/guide)."""
    headers = rest.headers("accountType=UNIFIED&coin=BTC,USDT")
    url = rest.venue.rest_url + "/v5/account/wallet-balance?accountType=UNIFIED&coin=BTC%2CUSDT"
    assert requests.get(url, headers=headers, timeout=10).json()["retCode"] == 10004


@pytest.mark.parametrize(
    ("offset_ms", "window", "code"),
    [(0, "5000", 0), (-3000, "5000", 0), (-6000, "5000", 10002), (-6000, "10000", 0), (900, "5000", 0)],
)
def test_the_clock_rule(rest: Any, offset_ms: int, window: str, code: int) -> None:
    stamp = str(rest.venue.now_ms() + offset_ms)
    answer = rest.get_raw("/v5/order/realtime", "category=spot", timestamp=stamp, window=window)
    assert answer.json()["retCode"] == code


def test_a_second_of_future_is_too_much_whatever_the_window(rest: Any) -> None:
    stamp = str(rest.venue.now_ms() + 9000)
    envelope = rest.get_raw("/v5/order/realtime", "category=spot", timestamp=stamp, window="60000").json()
    assert envelope["retCode"] == 10002
    assert f"req_timestamp[{stamp}]" in envelope["retMsg"]


@pytest.mark.parametrize(("offset_ms", "allowed"), [(-5000, True), (-5001, False), (999, True), (1000, False)])
def test_the_clock_rule_to_the_millisecond(offset_ms: int, allowed: bool) -> None:
    server_ms = 1_767_225_600_000
    account = Account("key", "secret", 1, Decimal(0), Decimal(0))
    stamp = str(server_ms + offset_ms)
    headers = {"X-BAPI-API-KEY": "key", "X-BAPI-TIMESTAMP": stamp, "X-BAPI-SIGN": sign("secret", f"{stamp}key")}
    if allowed:
        assert authenticate({"key": account}, headers, "", server_ms) is account
    else:
        with pytest.raises(Refusal, match="10002"):
            authenticate({"key": account}, headers, "", server_ms)


def test_an_expired_key_is_33004(rest: Any, venue: Any) -> None:
    venue.expire_key("key")
    assert rest.get("/v5/order/realtime", category="spot")["retCode"] == 33004


def test_a_read_only_key_may_look_and_not_touch(venue: Any, new_rest: Any) -> None:
    venue.add_account("looker", "s", {"USDT": 1000}, read_only=True)
    looker = new_rest(venue, "looker", "s")
    assert looker.get("/v5/order/realtime", category="spot")["retCode"] == 0
    assert looker.get("/v5/user/query-api")["result"]["readOnly"] == 1
    assert looker.create()["retCode"] == 10005


def test_without_authentication_headers_it_is_401(venue: Any) -> None:
    assert requests.get(venue.rest_url + "/v5/order/realtime?category=spot", timeout=10).status_code == 401


def test_the_wrong_verb_is_404(rest: Any) -> None:
    assert rest.post_raw("/v5/account/wallet-balance", "{}").status_code == 404
    assert rest.get_raw("/v5/order/create").status_code == 404
    assert rest.get_raw("/v5/no/such/path").status_code == 404


def test_a_verb_that_is_neither_get_nor_post_is_400(venue: Any) -> None:
    assert requests.put(venue.rest_url + "/v5/order/create", timeout=10).status_code == 400


def test_a_get_with_an_empty_json_body_is_403(rest: Any) -> None:
    headers = rest.headers("category=spot")
    url = rest.venue.rest_url + "/v5/order/realtime?category=spot"
    assert requests.get(url, headers=headers, data="{}", timeout=10).status_code == 403


def test_market_data_needs_no_key(venue: Any) -> None:
    envelope = requests.get(venue.rest_url + "/v5/market/time", timeout=10).json()
    assert abs(int(envelope["result"]["timeSecond"]) - venue.now_ms() / 1000) < 2
    assert envelope["result"]["timeNano"].startswith(envelope["result"]["timeSecond"])


def test_too_many_requests_in_a_second_are_10006_with_its_headers(new_rest: Any) -> None:
    with SimulatedBybit(rate_limits=True) as venue:
        rest = new_rest(venue)
        answers = [rest.post_raw("/v5/order/amend", json.dumps({"category": "spot"})) for _ in range(11)]
        codes = [answer.json()["retCode"] for answer in answers]
        assert codes.count(10006) >= 1
        assert 10006 not in codes[:10]
        assert [answer.headers["X-Bapi-Limit-Status"] for answer in answers[:3]] == ["9", "8", "7"]
        refused = answers[-1].headers
        assert (refused["X-Bapi-Limit"], refused["X-Bapi-Limit-Status"]) == ("10", "0")
        assert 0 < int(refused["X-Bapi-Limit-Reset-Timestamp"]) - venue.now_ms() <= 1001


def test_the_limits_are_per_endpoint_and_account(new_rest: Any) -> None:
    with SimulatedBybit(rate_limits=True) as venue:
        venue.add_account("other", "o", {})
        rest, other = new_rest(venue), new_rest(venue, "other", "o")
        for _ in range(10):
            rest.post("/v5/order/amend", category="spot")
        assert rest.post("/v5/order/amend", category="spot")["retCode"] == 10006
        assert rest.post("/v5/order/cancel", category="spot")["retCode"] != 10006
        assert other.post("/v5/order/amend", category="spot")["retCode"] != 10006


def test_six_hundred_requests_in_five_seconds_shut_the_ip_out() -> None:
    from qkt.venue.api.limits import RateLimits

    limits = RateLimits(enabled=True)
    assert all(limits.admits("10.0.0.1") for _ in range(600))
    assert not limits.admits("10.0.0.1")
    assert limits.admits("10.0.0.2")
    limits.forgive()
    assert limits.admits("10.0.0.1")


def test_five_hundred_streams_in_five_minutes_are_enough() -> None:
    from qkt.venue.api.limits import RateLimits

    limits = RateLimits(enabled=True)
    assert all(limits.admits_stream("10.0.0.1") for _ in range(500))
    assert not limits.admits_stream("10.0.0.1")
    assert limits.admits("10.0.0.1")
    assert RateLimits(enabled=False).admits_stream("10.0.0.1")
