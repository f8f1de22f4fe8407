"""A canary key: the whole stack runs at DEBUG, fails in every way, and nothing it says holds the key or a signature."""

from __future__ import annotations

import io
import logging
import re
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from qkt.bybit.transport.client import BybitClient
from qkt.errors import BybitApiError, OutcomeUnknownError, QktError
from qkt.venue import SimulatedBybit
from tests.support.transport_rig import RawServer, Recorder, eventually, reply

KEY = "CANARYkey7f3a91d2e8"
SECRET = "CANARYsecret0123456789abcdefABCDEF99"
CREATE = "/v5/order/create"
WALLET = "/v5/account/wallet-balance"
SIGNATURE = re.compile(r"\b[0-9a-f]{64}\b")


@pytest.fixture
def said() -> Iterator[Any]:
    """Everything any logger says, at DEBUG."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(name)s %(message)s"))
    root = logging.getLogger()
    names = ("", "qkt", "urllib3", "requests", "websocket", "http.client")
    levels = {name: logging.getLogger(name).level for name in names}
    for name in names:
        logging.getLogger(name).setLevel(logging.DEBUG)
    root.addHandler(handler)
    yield stream
    root.removeHandler(handler)
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


def everything_about(error: Any) -> Any:
    """All that a log, a crash reporter or a debugger would show of an exception, locals included."""
    shown = traceback.TracebackException.from_exception(error, capture_locals=True)
    chain, at = [], error
    while at is not None:
        chain.append(f"{at!r} {at} {vars(at)}")
        at = at.__cause__
    return "".join(shown.format()) + "".join(chain)


def assert_no_canary(text: Any) -> None:
    assert "CANARY" not in text, text[max(0, text.index("CANARY") - 300) : text.index("CANARY") + 100]
    assert not SIGNATURE.search(text), SIGNATURE.search(text)


def failing(call: Any) -> Any:
    try:
        call()
    except QktError as error:
        return everything_about(error)
    raise AssertionError("it should have failed")


def test_nothing_the_stack_says_holds_a_key_or_a_signature(
    venue: SimulatedBybit, make_client: Callable[..., BybitClient], said: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    venue.add_account(KEY, SECRET, balances={"USDT": 1_000})
    client = make_client(KEY, SECRET, timeout_ms=250, read_timeout_ms=100)
    shown = [repr(client)]
    fault_news, losses = Recorder(), Recorder()
    client.on_fault(fault_news)
    client.on_disconnect(losses)
    client.subscribe("wallet", Recorder())
    client.connect()

    body = {"category": "spot", "symbol": "BTCUSDT", "side": "Buy", "orderType": "Limit", "qty": "0.001", "price": "9"}
    for fault, options in [
        ("reply_lost", {"mode": "hang"}),
        ("reply_lost", {"mode": "reset"}),
        ("http_status", {"status": 502}),
        ("html_body", {}),
        ("truncated_json", {}),
        ("ret_code", {"code": 10016}),
        ("ret_code", {"code": 10004, "text": f"error sign! origin_string[1767225600000{KEY}5000a=b]"}),
        ("ret_code", {"code": 10003, "text": f"API key {KEY} is invalid"}),
    ]:
        with_fault = venue.faults.add(fault, path=CREATE, count=1, **options)  # type: ignore[arg-type]
        shown.append(failing(lambda: client.post_signed(CREATE, body)))
        with_fault.remove()
        with_fault = venue.faults.add(fault, path=WALLET, **options)  # type: ignore[arg-type]
        shown.append(failing(lambda: client.get_signed(WALLET, {"accountType": "UNIFIED"})))
        with_fault.remove()

    refusal = venue.faults.add("auth_refused", text=f"Invalid api_key {KEY}")
    venue.cut_streams()
    eventually(lambda: fault_news, "the refused login is told")
    refusal.remove()
    shown += [repr(fault_news), repr(losses), repr(client.stats), repr(client), repr(client._stream)]
    shown += [repr(client._signer), repr(vars(client._signer)), repr(client._rest)]
    client.close()

    wrong = make_client(KEY, SECRET + "x")
    shown.append(failing(wrong.connect))

    assert_no_canary("".join(shown))
    assert_no_canary(said.getvalue())
    assert "qkt.bybit" in said.getvalue()
    output = capfd.readouterr()
    assert_no_canary(output.out + output.err)


def test_an_echo_in_a_body_that_is_no_json_is_redacted(make_client: Callable[..., BybitClient], said: Any) -> None:
    page = f"<html>error sign! origin_string[1767225600000{KEY}5000] {SECRET}".encode()
    with RawServer(lambda sock, request: sock.sendall(reply(page, "502 Bad Gateway"))) as server:
        client = make_client(KEY, SECRET, rest_url=server.url, timeout_ms=300)
        shown = failing(lambda: client.get_signed(WALLET, {})) + failing(lambda: client.post_signed(CREATE, {}))
    assert_no_canary(shown + said.getvalue())


def test_the_10004_echo_still_says_what_is_wrong(
    venue: SimulatedBybit, make_client: Callable[..., BybitClient]
) -> None:
    venue.add_account(KEY, SECRET)
    client = make_client(KEY, SECRET + "x")
    with pytest.raises(BybitApiError, match="check the API secret") as caught:
        client.get_signed(WALLET, {"accountType": "UNIFIED"})
    assert caught.value.ret_code == 10004


def test_a_login_that_cannot_be_sent_shows_nothing(
    venue: SimulatedBybit, make_client: Callable[..., BybitClient], said: Any
) -> None:
    venue.add_account(KEY, SECRET)
    client = make_client(KEY, SECRET)
    client.connect()
    link = client._stream._link  # type: ignore[union-attr]
    link.raw.close()  # type: ignore[union-attr]
    try:
        link.send(lambda: client._signer.login_frame(1, "a"))  # type: ignore[union-attr]
    except ConnectionError as error:
        assert_no_canary(everything_about(error))
    eventually(lambda: client.stats.connections == 2 and client.is_connected, "back")
    assert_no_canary(said.getvalue())


def test_unknown_outcomes_carry_what_is_needed_to_look_and_nothing_more(
    venue: SimulatedBybit, make_client: Callable[..., BybitClient]
) -> None:
    venue.add_account(KEY, SECRET, balances={"USDT": 1_000})
    venue.faults.add("reply_lost", path=CREATE, mode="reset")
    with pytest.raises(OutcomeUnknownError) as caught:
        make_client(KEY, SECRET).post_signed(CREATE, {"category": "spot", "symbol": "BTCUSDT"})
    assert set(vars(caught.value)) == {"path", "signed_ms", "recv_window_ms", "ret_code"}
