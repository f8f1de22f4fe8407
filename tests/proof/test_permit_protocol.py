"""The permit protocol is safe in every interleaving of the model, and each thing taken away from it is needed."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.proof.permit_protocol import Bounds, Operation, Variant, search

FAST = Bounds()
THREE = Bounds(owners=3, horizon=9, window=1, lag=1)
WIDE = Bounds(horizon=18, window=4, lag=3)
OPERATIONS: tuple[Operation, ...] = ("create", "amend")

SHIPPED = Variant(name="permits with T, venue time > max(T) + recv_window + margin")
CHECK_THEN_SEND = Variant(name="lease checked, then stamped and sent", permits=False, waits="no")
WAIT_AFTER_TAKEOVER = Variant(
    name="lease checked; the new owner waits recv_window + lag", permits=False, waits="after the takeover"
)
SAME_LINK_ID = Variant(name="same link id, remembered for ever", permits=False, waits="no", remembers=-1)
FORGOTTEN_LINK_ID = Variant(name="same link id, forgotten by the venue", permits=False, waits="no", remembers=1)
NO_MARGIN = Variant(name="permits, no margin for visibility", margin=False)
RESTAMPED = Variant(name="permits, T stamped again at sending", restamps=True)
NOT_FENCED = Variant(name="permits, epoch checked in a statement before", fenced=False)
NO_WAIT = Variant(name="permits, no quarantine", waits="no")
HOST_CLOCK = Variant(name="permits, waiting by a host's clock without a margin", margin=False, host_clock=True)

Say = Callable[[str], None]


@pytest.mark.parametrize("operation", OPERATIONS)
def test_the_shipped_protocol_has_no_counter_example(operation: Operation, say: Say) -> None:
    result = search(SHIPPED, operation, FAST)

    say(str(result))
    assert result.trace is None
    assert result.successor_sent


@pytest.mark.parametrize(
    ("variant", "operation"),
    [
        *[(variant, operation) for variant in (CHECK_THEN_SEND, WAIT_AFTER_TAKEOVER) for operation in OPERATIONS],
        (FORGOTTEN_LINK_ID, "create"),
        (SAME_LINK_ID, "amend"),
        (NO_MARGIN, "create"),
        *[(variant, operation) for variant in (RESTAMPED, NOT_FENCED, NO_WAIT) for operation in OPERATIONS],
        *[(HOST_CLOCK, operation) for operation in OPERATIONS],
    ],
    ids=lambda value: value.name if isinstance(value, Variant) else value,
)
def test_every_ablation_has_a_counter_example(variant: Variant, operation: Operation, say: Say) -> None:
    result = search(variant, operation, FAST)

    say(str(result))
    assert result.trace is not None


def test_a_link_id_that_is_never_forgotten_keeps_creates_apart(say: Say) -> None:
    result = search(SAME_LINK_ID, "create", FAST)

    say(str(result))
    assert result.trace is None


def test_a_counter_example_can_be_read_step_by_step() -> None:
    trace = search(CHECK_THEN_SEND, "create", FAST).trace

    assert trace is not None
    assert sum("takes over" in step for step in trace) == 2
    assert sum("accepts" in step for step in trace) == 2


@pytest.mark.verify
@pytest.mark.timeout(600)
@pytest.mark.parametrize("bounds", [THREE, WIDE], ids=["three owners", "wider window and lag"])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_the_shipped_protocol_is_safe_in_larger_bounds(operation: Operation, bounds: Bounds, say: Say) -> None:
    result = search(SHIPPED, operation, bounds)

    say(f"{result} {bounds}")
    assert result.trace is None
