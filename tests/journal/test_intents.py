"""Names of intents and the link ids derived from them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qkt.errors import InvalidRequestError
from qkt.ids import validate_client_order_id
from qkt.journal.intents import (
    MAX_ATTEMPT,
    MAX_EPOCH,
    LinkId,
    intent_digest,
    link_id,
    parse_link_id,
    terms_fingerprint,
    validate_intent,
)


@given(st.text(min_size=1), st.text(min_size=1), st.integers(1, MAX_EPOCH), st.integers(1, MAX_ATTEMPT))
def test_a_link_id_is_one_that_the_venue_takes_and_can_be_read_back(
    account: str, intent: str, epoch: int, attempt: int
) -> None:
    made = link_id(account, intent, epoch=epoch, attempt=attempt)

    assert validate_client_order_id(made) == made
    assert parse_link_id(made) == LinkId(epoch=epoch, digest=intent_digest(account, intent), attempt=attempt)
    assert link_id(account, intent, epoch=epoch, attempt=attempt) == made


def test_the_longest_link_id_has_36_characters() -> None:
    assert len(link_id("a", "i", epoch=MAX_EPOCH, attempt=MAX_ATTEMPT)) == 36


def test_a_link_id_is_the_same_on_every_machine_and_version() -> None:
    made = link_id("BYBIT:7001", "grid:BTCUSDT:42:buy", epoch=37, attempt=2)

    assert made == "qkj-11-a6k7ld4nmhnm5gkqtxsb-2"


@pytest.mark.parametrize(
    ("one", "other"),
    [(("a", "b"), ("a", "c")), (("a", "b"), ("c", "b")), (("ab", "c"), ("a", "bc")), (("a:b", "c"), ("a", "b:c"))],
)
def test_other_accounts_and_intents_have_other_digests(one: tuple[str, str], other: tuple[str, str]) -> None:
    assert intent_digest(*one) != intent_digest(*other)


@pytest.mark.parametrize("number", [0, -1, MAX_EPOCH + 1])
def test_an_epoch_that_does_not_fit_is_refused(number: int) -> None:
    with pytest.raises(InvalidRequestError, match="epoch"):
        link_id("a", "i", epoch=number, attempt=1)


@pytest.mark.parametrize("number", [0, MAX_ATTEMPT + 1])
def test_an_attempt_that_does_not_fit_is_refused(number: int) -> None:
    with pytest.raises(InvalidRequestError, match="attempt"):
        link_id("a", "i", epoch=1, attempt=number)


@pytest.mark.parametrize("text", ["", "qkt-0123456789-1", "qkj-1-short-1", "my-own-id", "qkj--aaaaaaaaaaaaaaaaaaaa-1"])
def test_other_client_order_ids_are_no_link_ids(text: str) -> None:
    assert parse_link_id(text) is None


def test_equal_terms_have_one_fingerprint_and_others_another() -> None:
    assert terms_fingerprint({"side": "BUY", "qty": "1"}) == terms_fingerprint({"qty": "1", "side": "BUY"})
    assert terms_fingerprint({"qty": "1"}) != terms_fingerprint({"qty": "1.0"})


@pytest.mark.parametrize("value", ["grid:BTCUSDT:42:buy", "a", "ünï codé", "x" * 200])
def test_readable_text_names_an_intent(value: str) -> None:
    assert validate_intent(value) == value


@pytest.mark.parametrize("value", ["", " a", "a\n", "a\x00", "x" * 201, 7, None])
def test_what_cannot_name_an_intent_is_refused(value: object) -> None:
    with pytest.raises(InvalidRequestError, match="intent"):
        validate_intent(value)
