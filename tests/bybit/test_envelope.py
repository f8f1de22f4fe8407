"""What a reply proves: a refusal, a question, a wait, or nothing."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from qkt.bybit.codec.envelope import check_envelope, decode
from qkt.errors import BybitApiError, BybitRateLimitError, OutcomeUnknownError, VenueProtocolError
from qkt.secret import Secret

CREATE = "/v5/order/create"
READ = "/v5/order/realtime"


def an_envelope(ret_code: int = 0, ret_msg: str = "OK") -> dict[str, Any]:
    return {"retCode": ret_code, "retMsg": ret_msg, "result": {}, "retExtInfo": {}, "time": 1}


def test_a_success_passes_through() -> None:
    envelope = an_envelope()
    assert check_envelope(CREATE, envelope, is_write=True) is envelope


def test_fractions_are_exact() -> None:
    assert decode('{"a":0.1,"b":1e-8}') == {"a": Decimal("0.1"), "b": Decimal("1e-8")}


@pytest.mark.parametrize("text", ["", "<html>502</html>", '{"retCode":0', "[]", "null", '{"a":NaN}', b"\xff\xfe{"])
def test_S36_S37_what_is_no_json_object_is_not_read_as_empty(text: Any) -> None:
    with pytest.raises(VenueProtocolError):
        decode(text)


def test_a_decoding_error_carries_no_document() -> None:
    with pytest.raises(VenueProtocolError) as caught:
        decode('{"retMsg":"canary', [Secret("canary")])
    assert "canary" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


def test_a_refusal_says_what_to_do() -> None:
    with pytest.raises(BybitApiError, match="not enough available balance") as caught:
        check_envelope(CREATE, an_envelope(170131, "Insufficient balance."), is_write=True, trace_id="t-1")
    assert (caught.value.ret_code, caught.value.trace_id, caught.value.path) == (170131, "t-1", CREATE)


def test_S17_a_write_the_venue_does_not_know_about_is_unknown() -> None:
    with pytest.raises(OutcomeUnknownError) as caught:
        check_envelope(CREATE, an_envelope(10016), is_write=True, signed_ms=7, recv_window_ms=5000)
    assert (caught.value.ret_code, caught.value.signed_ms, caught.value.recv_window_ms) == (10016, 7, 5000)


def test_an_unlisted_code_is_unknown_on_a_write_and_an_error_on_a_read() -> None:
    with pytest.raises(OutcomeUnknownError):
        check_envelope(CREATE, an_envelope(199_999), is_write=True)
    with pytest.raises(BybitApiError):
        check_envelope(READ, an_envelope(199_999), is_write=False)


def test_an_unlisted_code_on_a_write_path_nobody_listed_is_unknown_too() -> None:
    with pytest.raises(OutcomeUnknownError):
        check_envelope("/v5/some/new-write", an_envelope(199_999), is_write=True)


def test_throttling_says_when() -> None:
    with pytest.raises(BybitRateLimitError) as caught:
        check_envelope(READ, an_envelope(10006), is_write=False, retry_after_ms=250)
    assert (caught.value.retry_after_ms, caught.value.ret_code) == (250, 10006)


@pytest.mark.parametrize("reply", [{}, {"retCode": "0"}, {"retCode": True}, {"retCode": None}, [], "OK", None])
def test_what_is_no_envelope_is_a_protocol_error_on_a_read_and_unknown_on_a_write(reply: Any) -> None:
    with pytest.raises(VenueProtocolError):
        check_envelope(READ, reply, is_write=False)
    with pytest.raises(OutcomeUnknownError):
        check_envelope(CREATE, reply, is_write=True)


def test_not_modified_is_what_was_wanted() -> None:
    check_envelope("/v5/position/set-leverage", an_envelope(110043), is_write=True)


def test_the_echo_of_a_bad_signature_is_redacted() -> None:
    echo = "error sign! origin_string[1767225600123canary-key5000category=spot]"
    with pytest.raises(BybitApiError) as caught:
        check_envelope(READ, an_envelope(10004, echo), is_write=False, secrets=[Secret("canary-key")])
    assert "canary-key" not in f"{caught.value}{caught.value.ret_msg}{caught.value!r}"
