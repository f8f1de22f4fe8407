"""Many orders in few requests, and for each its own outcome.

A batch is a wrapping, not a transaction: ``retCode 0`` says only that the venue opened it. Each item is judged by what
stands at its index; an answer that cannot be paired with its items proves nothing about any of them. All intents enter
the ledger before the first byte leaves, so that a frame or a round that overtakes the answer finds its order, and
nothing is ever sent twice.

Source: POST /v5/order/create-batch, /v5/order/cancel-batch (docs v5/order/batch-place, v5/order/batch-cancel).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import attrs

from qkt.broker.protocol import SubmitAck
from qkt.broker.state import BrokerState
from qkt.bybit.codec.envelope import Envelope
from qkt.bybit.codec.orders import BybitOrderTranslator
from qkt.bybit.codec.symbol import BybitSymbol
from qkt.bybit.order_entry import OrderEntry, ids_of, order_filter_of
from qkt.errors import (
    BybitApiError,
    InvalidRequestError,
    JournalError,
    NotOwnerError,
    OutcomeUnknownError,
    QktError,
    VenueUnavailableError,
)
from qkt.model.orders import OrderRequest
from qkt.orders.facts import (
    AnyFact,
    CancelRefused,
    CancelWithdrawn,
    SubmitAcknowledged,
    SubmitRefused,
    SubmitWithdrawn,
)
from qkt.orders.order import Order

log: logging.Logger = logging.getLogger(__name__)

CREATE_BATCH, CANCEL_BATCH = "/v5/order/create-batch", "/v5/order/cancel-batch"

# Linear takes 20 items per request, but a batch of n spends n of a limit that starts at 10 per second (docs
# v5/rate-limit): ten of twenty would come back refused.
ITEMS_PER_REQUEST = 10

T = TypeVar("T")
_Key = tuple[str, str]


@attrs.frozen(kw_only=True)
class BatchItem:
    """An order that is about to leave."""

    client_order_id: str
    request: OrderRequest
    body: Mapping[str, Any]


@attrs.frozen(kw_only=True)
class _Answer:
    """What is known of one item: taken (no ``error``), refused (BybitApiError), or nothing (any other)."""

    client_order_id: str = ""
    broker_order_id: str = ""
    error: Exception | None = None


class BatchEntry:
    """Sends batches; single orders and the meaning of every answer are its `OrderEntry`'s. Safe from any thread."""

    def __init__(self, entry: OrderEntry, state: BrokerState) -> None:
        self._entry = entry
        self._state = state

    def submit_many(self, requests: Sequence[OrderRequest], may_go_on: Callable[[], None]) -> list[SubmitAck]:
        """Send orders; see `BybitBroker.submit_many`. ``may_go_on`` raises when nothing more may be sent."""
        items = [self._item(request) for request in requests]
        sent_ms = self._entry.venue_ms()
        with self._state.abandoned_on_interrupt(
            lambda interrupt: [
                self._entry.unanswered_submit(item.client_order_id, interrupt, sent_ms) for item in items
            ]
        ):
            return self._submit_items(items, sent_ms, may_go_on)

    def _submit_items(self, items: Sequence[BatchItem], sent_ms: int, may_go_on: Callable[[], None]) -> list[SubmitAck]:
        self._state.begin_submits(
            [self._entry.intend_submit(item.client_order_id, item.request, sent_ms) for item in items]
        )
        chunks = list(_chunks(items))
        facts: dict[str, AnyFact] = {}
        for number, chunk in enumerate(chunks):
            unsent = [item for later in chunks[number:] for item in later]
            try:
                if number:
                    may_go_on()
                facts |= self._create(chunk)
            except (VenueUnavailableError, InvalidRequestError, NotOwnerError, JournalError) as error:
                if not number:
                    self._withdraw(unsent)
                    raise
                facts |= self._refuse_unsent(unsent, error)
                break
            except BaseException:
                self._withdraw(unsent[len(chunk) :])
                raise
        return [self._entry.settle_submit(item.client_order_id, facts[item.client_order_id]) for item in items]

    def _create(self, chunk: Sequence[BatchItem]) -> dict[str, AnyFact]:
        """One request; what it proves of each item is learnt before this returns. Raises when nothing left."""
        sent_ms = self._entry.venue_ms()
        try:
            answers = self._post_batch(CREATE_BATCH, chunk[0].request.symbol, [dict(item.body) for item in chunk])
        except (VenueUnavailableError, InvalidRequestError):
            raise
        except BaseException as error:
            self._state.absorb([self._entry.unanswered_submit(item.client_order_id, error, sent_ms) for item in chunk])
            raise  # Ctrl-C in the middle: no order is forgotten
        return self._learnt(chunk, answers, sent_ms)

    def _learnt(self, chunk: Sequence[BatchItem], answers: Sequence[_Answer], sent_ms: int) -> dict[str, AnyFact]:
        """What the answers prove of each item, absorbed."""
        facts = {
            item.client_order_id: self._created(item.client_order_id, answer, sent_ms)
            for item, answer in zip(chunk, answers, strict=True)
        }
        self._state.absorb(facts.values())
        return facts

    def _created(self, client_order_id: str, answer: _Answer, sent_ms: int) -> AnyFact:
        if isinstance(answer.error, BybitApiError):
            return self._entry.refused_submit(client_order_id, answer.error, sent_ms)
        error = answer.error
        if error is None and answer.client_order_id not in ("", client_order_id):
            error = OutcomeUnknownError(f"POST {CREATE_BATCH} answered about {answer.client_order_id!r} in its place")
        if error is not None:
            return self._entry.unanswered_submit(client_order_id, error, sent_ms)
        return SubmitAcknowledged(
            client_order_id=client_order_id, broker_order_id=answer.broker_order_id, **self._entry.now()
        )

    def _withdraw(self, items: Sequence[BatchItem]) -> None:
        self._state.absorb(
            [SubmitWithdrawn(client_order_id=item.client_order_id, **self._entry.now()) for item in items]
        )

    def _refuse_unsent(self, items: Sequence[BatchItem], error: QktError) -> dict[str, AnyFact]:
        """Part of the call is at the venue already, so the rest is told of, not raised."""
        facts: dict[str, AnyFact] = {
            item.client_order_id: SubmitRefused(
                client_order_id=item.client_order_id, reason=f"never sent: {error}", **self._entry.now()
            )
            for item in items
        }
        self._state.absorb(facts.values())
        return facts

    # cancel

    def cancel_many(self, orders: Sequence[Order]) -> list[SubmitAck]:
        """Ask for the end of orders, each named once; see `BybitBroker.cancel_many`.

        Only orders that stand plainly at the venue share a request: an item cannot name the order filter of a spot
        conditional (docs v5/order/batch-cancel), and an order that ended or is not visible yet is not sent at all.
        """
        together = [order for order in orders if self._may_share(order)]
        chunks: list[Sequence[Order]] = list(_chunks(together)) if len(together) > 1 else []
        shared = {_key(order) for chunk in chunks for order in chunk}
        chunks += [[order] for order in orders if _key(order) not in shared]
        acks: dict[_Key, SubmitAck] = {}
        unsent: list[tuple[Order, QktError]] = []
        for chunk in chunks:
            try:
                done = self._cancel_together(chunk) if len(chunk) > 1 else [self._entry.cancel(chunk[0])]
            except (VenueUnavailableError, InvalidRequestError) as error:
                unsent.extend((order, error) for order in chunk)
            else:
                acks |= {_key(order): ack for order, ack in zip(chunk, done, strict=True)}
        if unsent and not acks:
            raise unsent[0][1]
        acks |= {_key(order): self._tell_unsent(order, error) for order, error in unsent}
        self._state.bus.deliver()
        return [acks[_key(order)] for order in orders]

    def _may_share(self, order: Order) -> bool:
        is_visible = order.has_evidence or order.is_acknowledged
        return order.is_open and is_visible and not order_filter_of(order)

    def _cancel_together(self, orders: Sequence[Order]) -> list[SubmitAck]:
        """One request for all that still stand. Raises, with nothing asked for, when nothing left."""
        acks: dict[_Key, SubmitAck] = {}
        chunk: list[Order] = []
        for order in orders:
            if (
                too_late := self._entry.intend(order, self._entry.intend_cancel(order, is_remembered=False))
            ) is not None:
                acks[_key(order)] = too_late
            else:
                chunk.append(order)
        if chunk:
            acks |= zip(map(_key, chunk), self._send_cancels(chunk), strict=True)
        return [acks[_key(order)] for order in orders]

    def _send_cancels(self, chunk: Sequence[Order]) -> list[SubmitAck]:
        sent_ms = self._entry.venue_ms()
        try:
            answers = self._post_batch(CANCEL_BATCH, chunk[0].symbol, [_cancel_item(order) for order in chunk])
        except (VenueUnavailableError, InvalidRequestError):
            self._state.absorb([CancelWithdrawn(**ids_of(order), **self._entry.now()) for order in chunk])
            raise
        except BaseException as error:
            self._state.absorb([self._entry.unanswered_cancel(order, error, sent_ms) for order in chunk])
            raise
        facts = [self._cancelled(order, answer, sent_ms) for order, answer in zip(chunk, answers, strict=True)]
        self._state.absorb([fact for fact in facts if fact is not None])
        return [self._entry.settle_cancel(order, fact) for order, fact in zip(chunk, facts, strict=True)]

    def _cancelled(self, order: Order, answer: _Answer, sent_ms: int) -> AnyFact | None:
        if answer.error is None:
            return None
        if isinstance(answer.error, BybitApiError):
            return self._entry.refused_cancel(order, answer.error, sent_ms)
        return self._entry.unanswered_cancel(order, answer.error, sent_ms)

    def _tell_unsent(self, order: Order, error: QktError) -> SubmitAck:
        """Others of the call were sent, so this one is told of, not raised; asking again is safe."""
        refused = CancelRefused(**ids_of(order), reason=f"never sent: {error}", **self._entry.now())
        self._state.absorb([self._entry.intend_cancel(order, is_remembered=False), refused])
        return self._entry.settle_cancel(order, refused)

    # one request

    def _item(self, request: OrderRequest) -> BatchItem:
        client_order_id = request.client_order_id or self._entry.new_id()
        body = BybitOrderTranslator.to_create_body(request, client_order_id)
        del body["category"]  # said once for all
        return BatchItem(client_order_id=client_order_id, request=request, body=body)

    def _post_batch(self, path: str, symbol: str, items: list[dict[str, Any]]) -> list[_Answer]:
        """Send once. Raises only when provably nothing left; any other failure is an answer about every item."""
        body = {"category": BybitSymbol.parse(symbol).category, "request": items}
        return self._answers(path, lambda: self._entry.post(path, body), len(items))

    @staticmethod
    def _answers(path: str, post: Callable[[], Envelope], expected: int) -> list[_Answer]:
        """The answers to one batch, as `_post_batch` gives them."""
        try:
            return _paired(path, post(), expected)
        except (VenueUnavailableError, InvalidRequestError):
            raise
        except Exception as error:  # noqa: BLE001 - a transport of the user's own: the request may have left
            if not isinstance(error, QktError):
                log.warning("batch failed in the transport path=%s error=%r", path, error)
            return [_Answer(error=error)] * expected


def _paired(path: str, envelope: Envelope, expected: int) -> list[_Answer]:
    """``result.list[i]`` with ``retExtInfo.list[i]``; raises OutcomeUnknownError when they cannot be paired."""
    rows, verdicts = _listed(envelope, "result"), _listed(envelope, "retExtInfo")
    if len(rows) != expected or len(verdicts) != expected:
        raise OutcomeUnknownError(
            f"POST {path} sent {expected} items and was answered with {len(rows)} rows and {len(verdicts)} verdicts; "
            "each is looked up, none is sent again",
            path=path,
        )
    return [_answer(path, row, told) for row, told in zip(rows, verdicts, strict=True)]


def _listed(envelope: Envelope, part: str) -> list[Any]:
    holder = envelope.get(part)
    rows = holder.get("list") if isinstance(holder, Mapping) else None
    return rows if isinstance(rows, list) else []


def _answer(path: str, row: object, told: object) -> _Answer:
    ids = row if isinstance(row, Mapping) else {}
    verdict = told if isinstance(told, Mapping) else {}
    code = verdict.get("code")
    error: QktError | None = None
    if not isinstance(code, int) or isinstance(code, bool):
        error = OutcomeUnknownError(f"POST {path} gave an item no code: {told!r}", path=path)
    elif code != 0:
        error = BybitApiError(code, str(verdict.get("msg", "")), path=path)
    return _Answer(
        client_order_id=str(ids.get("orderLinkId") or ""),
        broker_order_id=str(ids.get("orderId") or ""),
        error=error,
    )


def _cancel_item(order: Order) -> dict[str, Any]:
    body = BybitOrderTranslator.to_cancel_body(order.symbol, **ids_of(order))
    del body["category"]
    return body


def _chunks(items: Sequence[T]) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), ITEMS_PER_REQUEST):
        yield items[start : start + ITEMS_PER_REQUEST]


def _key(order: Order) -> _Key:
    return order.client_order_id, order.broker_order_id
