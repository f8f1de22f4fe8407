"""What a journal checks before it asks its store, and small steps over what it is given. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from qkt.errors import IntentConflictError, InvalidRequestError, PermitExistsError
from qkt.journal.protocol import EventDraft, JournalFact, OutboxEvent, Permit, PermitDraft

T = TypeVar("T")
Keyed = TypeVar("Keyed", JournalFact, EventDraft)
Row = TypeVar("Row", Permit, JournalFact, OutboxEvent)


def require(account: str, ttl_ms: int = 1) -> None:
    """Refuse an account that cannot be named and a lease without a duration."""
    if not isinstance(account, str) or not account or not account.isprintable():
        raise InvalidRequestError(f"account must be printable text, not {account!r}")
    if ttl_ms <= 0:
        raise InvalidRequestError(f"ttl_ms must be positive, not {ttl_ms}")


def check_same_order(draft: PermitDraft, earlier: Iterable[Permit]) -> None:
    """Raise IntentConflictError when an earlier attempt of the intent stands for other terms."""
    for permit in earlier:
        if permit.fingerprint != draft.fingerprint:
            raise IntentConflictError(
                f"intent {draft.intent!r} already stands for another order, {permit.link_id}; nothing was sent: "
                "give the new order an intent of its own",
                permit=permit,
            )


def check_not_anothers(draft: PermitDraft, permit: Permit, tokens: Sequence[str]) -> None:
    """Raise the error that fits when another call than the one with ``tokens`` stored the same attempt."""
    if permit.token in tokens:
        return
    check_same_order(draft, [permit])
    raise PermitExistsError(
        f"attempt {draft.attempt} of intent {draft.intent!r} was permitted before, as {permit.link_id} with outcome "
        f"{permit.outcome.value}; nothing was sent: look it up by client_order_id",
        permit=permit,
    )


def first_of_each(items: Sequence[Keyed]) -> tuple[Keyed, ...]:
    """The items in their order, without those whose key an earlier one has."""
    found: dict[object, Keyed] = {}
    for item in items:
        found.setdefault(item.key, item)
    return tuple(found.values())


def chunks(values: tuple[T, ...], size: int) -> Iterable[tuple[T, ...]]:
    """The values in pieces of at most ``size``."""
    return (values[start : start + size] for start in range(0, len(values), size))


def all_pages(read: Callable[[int], tuple[Row, ...]]) -> tuple[Row, ...]:
    """All rows that ``read`` returns page by page, given the ``seq`` to go on after."""
    found: list[Row] = []
    while page := read(found[-1].seq if found else 0):
        found.extend(page)
    return tuple(found)
