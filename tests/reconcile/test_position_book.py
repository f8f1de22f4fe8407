"""Positions are joins: the venue's newest word wins, and an older read takes nothing back."""

from __future__ import annotations

from decimal import Decimal

from qkt.reconcile.positions import PositionBook, VenuePosition

SYMBOL = "BYBIT_LINEAR:BTCUSDT"


def a_position(quantity: int, *, seq: int = 1, updated_ms: int = 0, as_of_ms: int = 0) -> VenuePosition:
    return VenuePosition(
        symbol=SYMBOL,
        quantity=Decimal(quantity),
        avg_price=Decimal(100),
        seq=seq,
        updated_ms=updated_ms,
        as_of_ms=as_of_ms,
    )


def held(book: PositionBook) -> Decimal:
    return book.held[(SYMBOL, 0)].quantity


def test_S67_a_read_begun_before_a_frame_does_not_flatten_what_the_frame_told() -> None:
    book = PositionBook().after_frame([a_position(2, as_of_ms=2_000)])

    assert held(book.after_read([], begun_ms=1_000)) == 2


def test_S66_a_read_begun_after_the_last_word_flattens_what_it_does_not_list() -> None:
    book = PositionBook().after_frame([a_position(2, as_of_ms=2_000)])

    assert held(book.after_read([], begun_ms=3_000)) == 0


def test_S67_the_larger_sequence_stands_whichever_came_last() -> None:
    first, second = a_position(2, seq=10), a_position(3, seq=11)

    assert held(PositionBook().after_frame([second]).after_frame([first])) == 3
    assert held(PositionBook().after_frame([first]).after_frame([second])) == 3


def test_a_frame_that_changes_nothing_is_no_difference() -> None:
    before = PositionBook().after_frame([a_position(2, seq=10)])

    assert before.after_frame([a_position(2, seq=12)]).changed_from(before) == []


def test_a_position_never_told_of_differs_from_flat_and_a_flat_one_does_not() -> None:
    told = PositionBook().after_frame([a_position(2)])
    flat = PositionBook().after_frame([VenuePosition(symbol=SYMBOL)])

    assert [(was.quantity, now.quantity) for was, now in told.changed_from(PositionBook())] == [(0, 2)]  # type: ignore[comparison-overlap]
    assert flat.changed_from(PositionBook()) == []
