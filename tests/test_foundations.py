"""Exact money, ids nobody can confuse, secrets nobody can print, errors that say what to do."""

from __future__ import annotations

import copy
import os
import pickle
from decimal import Decimal
from typing import Any

import pytest
from freezegun import freeze_time

from qkt.clock import SystemClock
from qkt.errors import BybitApiError, BybitRateLimitError, InvalidRequestError, QktError, VenueUnavailableError
from qkt.ids import (
    new_client_order_id,
    nonce_of,
    run_nonce,
    validate_client_order_id,
    was_issued_here,
)
from qkt.money import decimal_from_wire, optional_from_wire, positive_from_wire, require_decimal, to_wire
from qkt.secret import Secret, redact
from qkt.testing import FixedClock


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("0", Decimal(0)),
        ("1e-8", Decimal("0.00000001")),
        ("0.123456789012345678", Decimal("0.123456789012345678")),
        ("194.10", Decimal("194.1")),
    ],
)
def test_S86_wire_numbers_are_exact_decimals(text: str, number: Decimal) -> None:
    assert decimal_from_wire(text) == number


@pytest.mark.parametrize("junk", ["", " ", "abc", "NaN", "Infinity", None, 0.1, True, [], {}])
def test_S86_what_is_no_number_is_refused(junk: Any) -> None:
    with pytest.raises(ValueError, match="decimal"):
        decimal_from_wire(junk)


def test_S86_blank_means_none_and_zero_means_unset_where_the_venue_says_so() -> None:
    assert optional_from_wire("") is None
    assert optional_from_wire("0") == 0
    assert positive_from_wire("0.00000") is None


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (Decimal("1E-8"), "0.00000001"),
        (Decimal("1E+3"), "1000"),
        (Decimal("60000"), "60000"),
        (Decimal("0.10"), "0.10"),
    ],
)
def test_S86_no_exponent_reaches_the_wire(number: Decimal, text: str) -> None:
    assert to_wire(number) == text


def test_a_float_is_refused_with_the_line_to_write_instead() -> None:
    with pytest.raises(InvalidRequestError, match=r'Decimal\("0.1"\)'):
        require_decimal(0.1, "quantity")


def test_S83_generated_ids_are_unique_and_fit_the_venue() -> None:
    ids = {new_client_order_id() for _ in range(1_000)}

    assert len(ids) == 1_000
    assert all(validate_client_order_id(one) for one in ids)
    assert {nonce_of(one) for one in ids} == {run_nonce()}


def test_S57_an_id_with_our_nonce_that_was_never_issued_is_recognised() -> None:
    issued = new_client_order_id()
    number = int(issued.rpartition("-")[2])

    assert was_issued_here(issued)
    assert not was_issued_here(f"qkt-{run_nonce()}-{number + 1_000_000}")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_S83_a_forked_child_draws_its_own_nonce() -> None:
    mine = run_nonce()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, run_nonce().encode())
        os._exit(0)
    os.waitpid(child, 0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        assert pipe.read() not in ("", mine)


@pytest.mark.parametrize("bad", ["", "a" * 37, "with space", "ümlaut", "semi;colon", "line\n", 7, None])
def test_an_id_the_venue_would_refuse_is_refused_here(bad: Any) -> None:
    with pytest.raises(InvalidRequestError, match="client_order_id"):
        validate_client_order_id(bad)


def test_a_secret_shows_itself_to_nobody() -> None:
    secret = Secret("hunter2")

    assert "hunter2" not in f"{secret} {secret!r} {[secret]} {secret:>10}" + str({"key": secret})
    assert secret.reveal() == "hunter2"
    assert copy.copy({"a": secret})["a"] == secret


def test_a_secret_does_not_leave_the_process() -> None:
    with pytest.raises(TypeError):
        pickle.dumps(Secret("hunter2"))


def test_redaction_takes_out_keys_signatures_and_the_echo_of_a_bad_signature() -> None:
    signature = "39eef30f106ab387546fa446efbfc4063872aee44e5823278d581f8678927253"
    text = f"error sign! origin_string[1767225600123mykey5000payload] key=mykey sign={signature}"

    shown = redact(text, [Secret("mykey")])

    assert "mykey" not in shown
    assert signature not in shown
    assert "payload" not in shown


def test_every_error_is_a_qkt_error_and_carries_what_an_operator_searches_for() -> None:
    error = BybitApiError(170131, "Insufficient balance.", path="/v5/order/create", trace_id="t1", what_to_do="deposit")

    assert isinstance(error, QktError)
    assert str(error) == ("/v5/order/create ret_code=170131 ret_msg='Insufficient balance.' trace_id=t1; deposit")


def test_a_spent_budget_is_something_that_is_safe_to_try_again() -> None:
    error = BybitRateLimitError("spent", retry_after_ms=900)

    assert isinstance(error, VenueUnavailableError)
    assert error.retry_after_ms == 900


def test_an_invalid_request_is_also_a_value_error() -> None:
    assert issubclass(InvalidRequestError, ValueError)


@freeze_time("2026-01-01T00:00:00.500Z")
def test_the_system_clock_tells_wall_time_in_whole_milliseconds() -> None:
    assert SystemClock().now_ms() == 1_767_225_600_500


def test_the_system_clocks_monotonic_time_never_goes_back() -> None:
    clock = SystemClock()
    readings = [clock.monotonic_ms() for _ in range(1_000)]

    assert readings == sorted(readings)


def test_a_fixed_clock_moves_only_by_hand() -> None:
    clock = FixedClock(0)
    clock.advance_ms(5).step_wall_ms(-3)

    assert (clock.now_ms(), clock.monotonic_ms()) == (2, 5)
    with pytest.raises(InvalidRequestError):
        clock.advance_ms(-1)
