"""The HTTP surface of the status page: who may read, what is answered, and that nothing can be changed."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from qkt.broker.paper.broker import PaperBroker
from qkt.bus import EventBus
from qkt.errors import InvalidRequestError
from qkt.events import HealthDegraded
from qkt.monitoring import StatusHistory, StatusServer, serve_status
from tests.monitoring.conftest import Account

TOKEN = "a-token-of-the-test"
BEARER = {"Authorization": f"Bearer {TOKEN}"}


@pytest.fixture
def server(account: Account) -> Iterator[StatusServer]:
    with serve_status(
        account.broker, 0, token=TOKEN, clock=account.clock, age_bound_ms=15_000, label="<grid> & co"
    ) as running:
        yield running


def get(server: StatusServer, path: str, *, method: str = "GET", **options: Any) -> requests.Response:
    options.setdefault("headers", BEARER)
    return requests.request(method, server.address + path, timeout=10, allow_redirects=False, **options)


@pytest.mark.parametrize("path", ["", "order", "events", "state.json", "metrics", "status.css", "status.js", "nothing"])
def test_nothing_is_answered_without_the_token(server: StatusServer, path: str) -> None:
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Cookie": f"qkt_status_{server.port}=wrong"}):
        answer = get(server, path, headers=headers)
        assert (answer.status_code, "<section" in answer.text) == (401, False)


def test_the_printed_address_plants_a_cookie_and_drops_the_token(server: StatusServer) -> None:
    with requests.Session() as session:
        answer = session.get(server.url, timeout=10)

        assert answer.url == server.address
        assert answer.status_code == 200
        planted = answer.history[0].headers["Set-Cookie"]
        assert "HttpOnly" in planted
        assert "SameSite=Lax" in planted
        assert TOKEN not in planted
        assert session.get(server.address + "state.json", timeout=10).status_code == 200


def test_the_token_in_a_link_to_an_order_keeps_the_rest_of_the_address(server: StatusServer) -> None:
    answer = get(server, f"order?broker=BYBIT_SPOT&id=c1&token={TOKEN}", headers={})
    assert (answer.status_code, answer.headers["Location"]) == (303, "order?broker=BYBIT_SPOT&id=c1")


def test_a_program_with_the_token_in_its_address_is_answered_without_a_cookie(
    server: StatusServer,
) -> None:
    answer = get(server, f"state.json?token={TOKEN}", headers={})
    assert (answer.status_code, "Set-Cookie" in answer.headers) == (200, False)


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"])
def test_no_verb_but_get_and_head_is_answered(server: StatusServer, method: str) -> None:
    answer = get(server, "", method=method)
    assert (answer.status_code, answer.headers["Allow"]) == (405, "GET, HEAD")


def test_a_foreign_host_name_is_refused(server: StatusServer) -> None:
    answer = get(server, "", headers={**BEARER, "Host": f"rebound.example:{server.port}"})
    assert answer.status_code == 403


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost", "LOCALHOST", "[::1]"])
def test_the_names_of_loopback_are_answered(server: StatusServer, name: str) -> None:
    assert get(server, "", headers={**BEARER, "Host": f"{name}:{server.port}"}).status_code == 200


def test_a_foreign_origin_is_refused(server: StatusServer) -> None:
    assert get(server, "state.json", headers={**BEARER, "Origin": "https://evil.example"}).status_code == 403
    assert get(server, "state.json", headers={**BEARER, "Origin": "null"}).status_code == 403
    assert get(server, "state.json", headers={**BEARER, "Origin": server.address[:-1]}).status_code == 200


@pytest.mark.parametrize("path", ["", "healthz", "nothing", "status.js"])
def test_every_answer_carries_the_strict_headers(server: StatusServer, path: str) -> None:
    headers = get(server, path).headers
    assert headers["Content-Security-Policy"].startswith("default-src 'none'; script-src 'self'; style-src 'self'")
    assert "unsafe" not in headers["Content-Security-Policy"]
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cache-Control"] == "no-store"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert "Server" not in headers


def test_the_page_names_no_other_host_and_has_no_inline_script_or_style(server: StatusServer) -> None:
    page = get(server, "").text
    assert "http://" not in page.replace("http-equiv", "")
    assert "https://" not in page
    assert " style=" not in page
    assert " onclick=" not in page
    assert "<script>" not in page


def test_texts_from_outside_are_escaped(account: Account, server: StatusServer) -> None:
    account.client.emit_disconnect('<img src=x onerror="alert(1)">')
    page = get(server, "").text
    assert "<img" not in page
    assert "&lt;img src=x" in page
    assert "&lt;grid&gt; &amp; co" in page


def test_head_answers_as_get_without_a_body(server: StatusServer) -> None:
    for path in ("", "state.json", "events", "healthz"):
        answer = get(server, path, method="HEAD")
        assert (answer.status_code, answer.text) == (200, "")


def test_healthz_needs_no_token_and_tells_only_a_word(server: StatusServer) -> None:
    answer = get(server, "healthz", headers={})
    assert (answer.status_code, answer.text) == (200, "ok\n")


def test_healthz_is_503_beyond_a_bound_and_names_it_to_readers(account: Account, server: StatusServer) -> None:
    account.clock.advance_ms(15_001)

    assert get(server, "healthz", headers={}).status_code == 503
    assert "BYBIT_SPOT orders, executions and balances were last read 15 s ago" in get(server, "healthz").text


def test_healthz_comes_back_after_a_round(account: Account, server: StatusServer) -> None:
    account.clock.advance_ms(15_001)
    account.broker.reconcile()
    assert get(server, "healthz", headers={}).status_code == 200


def test_state_json_holds_orders_balances_and_the_verdict_exactly(account: Account, server: StatusServer) -> None:
    account.submit("c1")
    account.tell_order("New")
    account.tell_fill("0.4")

    state = get(server, "state.json").json()

    order = state["brokers"][0]["orders"][0]
    assert (order["client_order_id"], order["cum_quantity"], order["limit_price"]) == ("c1", "0.4", "100")
    assert state["verdict"]["level"] == "known"
    assert state["events"][0]["text"] == "buy 0.4 BTCUSDT @ 100"


def test_metrics_are_served_to_a_scraper(server: StatusServer) -> None:
    answer = get(server, "metrics")
    assert answer.headers["Content-Type"].startswith("text/plain; version=")
    assert 'qkt_state_age_seconds{broker="BYBIT_SPOT",domain="orders"}' in answer.text


def test_an_order_is_explained_by_either_id(account: Account, server: StatusServer) -> None:
    account.submit("c1")
    account.tell_order("New")
    venue_id = account.broker_order_id("c1")

    for query in ("id=c1", f"venue_id={venue_id}"):
        page = get(server, f"order?broker=BYBIT_SPOT&{query}").text
        assert "the venue has the order request" in page
        assert "ACKNOWLEDGED → NEW; told OrderAccepted" in page


@pytest.mark.parametrize("query", ["", "?broker=BYBIT_SPOT&id=nobody", "?broker=NOWHERE&id=c1", "?broker=BYBIT_SPOT"])
def test_an_unknown_order_is_404_in_words(server: StatusServer, query: str) -> None:
    answer = get(server, f"order{query}")
    assert (answer.status_code, "No broker here knows this order" in answer.text) == (404, True)


def messages(answer: requests.Response) -> Iterator[dict[str, Any]]:
    """The server-sent events of an open answer."""
    for line in answer.iter_lines():
        if line.startswith(b"data: "):
            yield json.loads(line[6:])


def test_live_events_send_all_sections_first_and_then_what_changed(account: Account, server: StatusServer) -> None:
    with get(server, "events", stream=True) as answer:
        told = messages(answer)
        first = next(told)
        account.submit("c1")
        account.tell_order("New")
        later = next(message for message in told if "orders" in message["sections"])

    assert {"verdict", "ages", "orders", "timeline", "positions", "balances", "connection"} == first["sections"].keys()
    assert ">c1</a>" in later["sections"]["orders"]
    assert "positions" not in later["sections"]


def test_live_views_are_limited_and_give_their_place_back(server: StatusServer) -> None:
    opened = [get(server, "events", stream=True) for _ in range(8)]
    firsts = [next(messages(answer))["level"] for answer in opened]
    refused = get(server, "events")
    for answer in opened:
        answer.close()

    assert firsts == ["known"] * 8
    assert (refused.status_code, refused.headers["Retry-After"]) == (503, "5")
    until = time.monotonic() + 10  # the server notices with its next message, a second later
    again = get(server, "events", stream=True)
    while again.status_code == 503 and time.monotonic() < until:
        again = get(server, "events", stream=True)
    assert next(messages(again))["level"] == "known"
    again.close()


def test_close_ends_live_views_and_joins_every_thread(account: Account) -> None:
    before = set(threading.enumerate())
    server = serve_status(account.broker, 0, clock=account.clock)
    answer = requests.get(server.address + "events", params={"token": server.token.reveal()}, stream=True, timeout=10)
    told = messages(answer)
    next(told)

    server.close()
    server.close()

    assert len(list(told)) <= 1  # what was under way; then the stream ends
    assert [thread.name for thread in set(threading.enumerate()) - before if thread.name.startswith("qkt")] == []
    with pytest.raises(requests.ConnectionError):
        requests.get(server.address + "healthz", timeout=5)


def test_several_brokers_and_those_without_a_client_are_shown(account: Account) -> None:
    paper = PaperBroker(EventBus(account.clock), account.clock)
    with serve_status([account.broker, paper], 0, token=TOKEN, clock=account.clock) as server:
        state = get(server, "state.json").json()
        page = get(server, "").text

    assert [broker["name"] for broker in state["brokers"]] == ["BYBIT_SPOT", paper.name]
    assert f"<h3>{paper.name}</h3>" in page


def test_a_generated_token_is_long_and_in_no_repr(account: Account) -> None:
    with serve_status(account.broker, 0) as first, serve_status(account.broker, 0) as second:
        token = first.token.reveal()
        assert len(token) >= 40
        assert token != second.token.reveal()
        assert token in first.url
        assert token not in repr(first) + first.address


def test_a_short_token_is_refused(account: Account) -> None:
    with pytest.raises(InvalidRequestError, match="16 characters"):
        serve_status(account.broker, 0, token="1234")


def test_a_public_address_needs_the_names_it_may_be_called_by(account: Account) -> None:
    with pytest.raises(InvalidRequestError, match="allowed_hosts"):
        serve_status(account.broker, 0, host="0.0.0.0")


def test_an_allowed_host_is_answered(account: Account) -> None:
    with serve_status(account.broker, 0, token=TOKEN, allowed_hosts=["status.example.com"]) as server:
        answer = get(server, "", headers={**BEARER, "Host": "status.example.com"})
    assert answer.status_code == 200


def test_a_taken_port_is_an_error_at_once(account: Account) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(OSError):
            serve_status(account.broker, taken.getsockname()[1])


def test_a_history_hears_on_after_a_taken_port_and_may_be_given_again(account: Account) -> None:
    history = StatusHistory([account.bus])
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(OSError):
            serve_status(account.broker, taken.getsockname()[1], history=history)

    assert not history.is_closed
    with serve_status(account.broker, 0, history=history):
        account.bus.publish(HealthDegraded(source="test", domain="orders", reason="test"))
        _, spells = history.since(0)
    assert [spell.domain for spell in spells] == ["orders"]
