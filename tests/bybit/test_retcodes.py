"""A refusal is a refusal only if it is listed as one."""

from __future__ import annotations

from typing import Any

import pytest

from qkt.bybit.codec.retcodes import Operation, Verdict, advice, operation_for, verdict

WRITES = [Operation.CREATE, Operation.AMEND, Operation.CANCEL, Operation.CONFIG]


@pytest.mark.parametrize("operation", WRITES)
def test_a_code_nobody_listed_proves_nothing_about_a_write(operation: Any) -> None:
    assert verdict(199_999, operation) is Verdict.AMBIGUOUS


def test_a_code_nobody_listed_refuses_a_read() -> None:
    assert verdict(199_999, Operation.READ) is Verdict.REFUSED


@pytest.mark.parametrize("code", [10000, 10016, 170007, 170146, 170001, 170032, 170035, 170234, 500000, 10014, 429])
def test_S17_codes_that_do_not_know_are_ambiguous_on_a_create(code: int) -> None:
    assert verdict(code, Operation.CREATE) is Verdict.AMBIGUOUS


@pytest.mark.parametrize("code", [110007, 170131, 110003, 10001, 170140, 110094, 170136, 170218])
def test_S18_definite_refusals_are_refusals(code: int) -> None:
    assert verdict(code, Operation.CREATE) is Verdict.REFUSED


@pytest.mark.parametrize("code", [110072, 170141])
def test_S16_a_duplicate_id_is_its_own_verdict_on_a_create_only(code: int) -> None:
    assert verdict(code, Operation.CREATE) is Verdict.DUPLICATE_ID
    assert verdict(code, Operation.AMEND) is Verdict.AMBIGUOUS


@pytest.mark.parametrize("code", [110001, 170213, 110008, 110010, 170139, 170142, 170143, 170190])
@pytest.mark.parametrize("operation", [Operation.AMEND, Operation.CANCEL])
def test_an_order_that_is_not_found_is_a_question(code: int, operation: Any) -> None:
    assert verdict(code, operation) is Verdict.GONE


def test_not_found_on_a_create_proves_nothing() -> None:
    assert verdict(110001, Operation.CREATE) is Verdict.AMBIGUOUS


@pytest.mark.parametrize("code", [110079, 170144, 170191, 170212])
def test_an_order_in_work_is_busy(code: int) -> None:
    assert verdict(code, Operation.CANCEL) is Verdict.BUSY


@pytest.mark.parametrize(
    ("code", "operation", "expected"),
    [
        (0, Operation.CREATE, Verdict.OK),
        (10002, Operation.CREATE, Verdict.CLOCK),
        (-1, Operation.READ, Verdict.CLOCK),
        (10006, Operation.CREATE, Verdict.THROTTLED),
        (10018, Operation.READ, Verdict.THROTTLED),
        (170222, Operation.CREATE, Verdict.AMBIGUOUS),
        (170222, Operation.READ, Verdict.THROTTLED),
        (10003, Operation.CREATE, Verdict.FATAL),
        (33004, Operation.READ, Verdict.FATAL),
        (10016, Operation.READ, Verdict.AMBIGUOUS),
        (110043, Operation.CONFIG, Verdict.OK),
        (110043, Operation.CREATE, Verdict.AMBIGUOUS),
        (110064, Operation.AMEND, Verdict.REFUSED),
        (110064, Operation.CREATE, Verdict.AMBIGUOUS),
        (40004, Operation.AMEND, Verdict.AMBIGUOUS),
        (170310, Operation.AMEND, Verdict.AMBIGUOUS),
        (170147, Operation.CANCEL, Verdict.AMBIGUOUS),
        (170145, Operation.CANCEL, Verdict.REFUSED),
    ],
)
def test_the_same_number_is_read_by_what_was_asked(code: int, operation: Any, expected: Any) -> None:
    assert verdict(code, operation) is expected


@pytest.mark.parametrize(
    ("path", "operation"),
    [
        ("/v5/order/create", Operation.CREATE),
        ("/v5/order/create-batch", Operation.CREATE),
        ("/v5/order/amend", Operation.AMEND),
        ("/v5/order/cancel-all", Operation.CANCEL),
        ("/v5/order/realtime", Operation.READ),
        ("/v5/position/set-leverage", Operation.CONFIG),
    ],
)
def test_a_path_tells_its_operation(path: str, operation: Any) -> None:
    assert operation_for(path) is operation


def test_every_refusal_comes_with_advice_and_success_with_none() -> None:
    assert advice(0) == ""
    assert all(advice(code) for code in (10003, 10004, 110001, 110072, 110079, 170131, 199_999, 10006))
