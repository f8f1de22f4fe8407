"""Order entry under a journal: every create and amend has a permit before it is signed (rules P1 to P4).

The permit is committed first; exactly its time stamp and body are signed, once. A request that the venue turned away
unread (10002, 10006) is tried again as a new attempt with a permit of its own. Cancels need no permit.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs

from qkt.broker.protocol import SubmitAck, SubmitOutcome
from qkt.broker.state import BrokerState
from qkt.bybit.batch_entry import CREATE_BATCH, BatchEntry, BatchItem
from qkt.bybit.codec.envelope import Envelope, vetted
from qkt.bybit.codec.journal_rows import order_terms
from qkt.bybit.codec.orders import BybitOrderTranslator
from qkt.bybit.codec.retcodes import Operation, Verdict, operation_for, verdict
from qkt.bybit.journal_member import JournalMember
from qkt.bybit.order_entry import AMEND, CREATE, OrderEntry, ack_for
from qkt.bybit.permit_lookup import BROKER_ID
from qkt.bybit.transport.encoding import body_text
from qkt.bybit.transport.permitted import PermittedRequest
from qkt.errors import (
    BybitApiError,
    BybitRateLimitError,
    IntentConflictError,
    InvalidRequestError,
    PermitExistsError,
    VenueUnavailableError,
)
from qkt.journal.intents import link_id, terms_fingerprint, validate_intent
from qkt.journal.protocol import Permit, PermitDraft, PermitOutcome
from qkt.model.orders import OrderModification, OrderRequest
from qkt.orders.facts import AnyFact, ModifyRefused, SubmitAcknowledged, SubmitRefused, SubmitWithdrawn
from qkt.orders.order import Order

_MOST_ATTEMPTS = 3
_UNTOLD_PAUSE_MS = 1_000
_LONGEST_PAUSE_MS = 5_000

# The attempt did nothing at the venue, so the same intent may be entered again, by the strategy's own call (P6).
_DID_NOTHING = (PermitOutcome.NEVER_SENT, PermitOutcome.NEVER_ARRIVED)


def request_under(path: str, permits: Sequence[Permit], body: str) -> PermittedRequest:
    """The one request that these permits allow; they were asked for together, so they carry one time stamp."""
    return PermittedRequest(
        path=path,
        body=body,
        signed_at_ms=permits[0].signed_at_ms,
        recv_window_ms=permits[0].recv_window_ms,
        category=permits[0].category,
        units=len(permits),
    )


class _TurnedAwayError(VenueUnavailableError):
    """The venue read nothing of the request but its time stamp: a new attempt may be made at once."""


@attrs.frozen(kw_only=True)
class _Wanted:
    """An order that wants a permit: its intent, the attempt, and what would be signed."""

    request: OrderRequest
    intent: str
    attempt: int
    link_id: str
    body: dict[str, Any]

    @property
    def fingerprint(self) -> str:
        return terms_fingerprint(order_terms(self.body))


class PermittedEntry(OrderEntry):
    """`OrderEntry` that asks a `JournalMember` first."""

    member: JournalMember

    def submit_intent(self, request: OrderRequest, intent: str | None, admit: Callable[[], None]) -> SubmitAck:
        """Send an order under an intent, or return what the intent became; see `BybitBroker.submit`.

        ``admit`` is called before an order that is not known to have been sent, and raises what forbids it.

        Raises:
            NotOwnerError, JournalUnavailableError, IntentConflictError: nothing was sent.
        """
        name = f"submit:{secrets.token_hex(10)}" if intent is None else validate_intent(intent)
        with self.member.keeper.intent_lock(name):
            attempt, permit = 1, self.member.permit_of(name)
            if permit is not None:
                self.check_same(request, name, permit)
                known = self._what_became(name, permit)
                if isinstance(known, SubmitAck):
                    return known
                attempt = known
            admit()
            for number in range(1, _MOST_ATTEMPTS + 1):
                try:
                    return self._attempt(request, name, attempt)
                except PermitExistsError as error:
                    known = self._what_became(name, error.permit)
                    if isinstance(known, SubmitAck):
                        return known
                    attempt = known
                except _TurnedAwayError:
                    attempt += 1
                    if number == _MOST_ATTEMPTS:
                        raise
                except BybitRateLimitError as error:
                    attempt += 1
                    pause_ms = error.retry_after_ms or _UNTOLD_PAUSE_MS
                    if error.ret_code is None or number == _MOST_ATTEMPTS or pause_ms > _LONGEST_PAUSE_MS:
                        raise
                    if not self._queries.pause(pause_ms):
                        raise
            return self._attempt(request, name, attempt)

    def wanted(self, request: OrderRequest, intent: str, attempt: int, epoch: int) -> _Wanted:
        """What would be signed. A client order id of the user's own is kept; else it is made of epoch and intent."""
        made = link_id(self.member.keeper.account, intent, epoch=epoch, attempt=attempt)
        name = request.client_order_id or made
        body = BybitOrderTranslator.to_create_body(request, name)
        return _Wanted(request=request, intent=intent, attempt=attempt, link_id=name, body=body)

    def check_same(self, request: OrderRequest, intent: str, permit: Permit) -> None:
        """Raise IntentConflictError when the intent stands for an order with other terms."""
        if self.wanted(request, intent, permit.attempt, permit.epoch).fingerprint != permit.fingerprint:
            raise IntentConflictError(
                f"intent {intent!r} already stands for another order, {permit.link_id}; nothing was sent: give the new "
                "order an intent of its own",
                permit=permit,
            )

    def drafts(self, wanted: Sequence[_Wanted], signed_at_ms: int) -> list[PermitDraft]:
        """The permits to ask for."""
        return [
            PermitDraft(
                intent=one.intent,
                attempt=one.attempt,
                link_id=one.link_id,
                category=one.body["category"],
                symbol=one.body["symbol"],
                signed_at_ms=signed_at_ms,
                recv_window_ms=self.member.keeper.rules.recv_window_ms,
                body=body_text(one.body),
                fingerprint=one.fingerprint,
            )
            for one in wanted
        ]

    def _attempt(self, request: OrderRequest, intent: str, attempt: int) -> SubmitAck:
        keeper = self.member.keeper
        with keeper.writing() as epoch:
            wanted = self.wanted(request, intent, attempt, epoch)
            signed_at_ms = self.venue_ms()  # before the permit (P1)
            (permit,) = keeper.ask_permits(epoch, self.drafts([wanted], signed_at_ms))
            self.member.note_sent(permit)
            try:
                self._state.begin_submit(self.intend_submit(permit.link_id, request, signed_at_ms))
            except BaseException:
                keeper.resolve(permit, PermitOutcome.NEVER_SENT, reason="the order was refused before it was sent")
                raise
            return self._send_submit(permit, signed_at_ms)

    def _send_submit(self, permit: Permit, sent_ms: int) -> SubmitAck:
        name = permit.link_id
        try:
            fact = self._send_permitted(
                permit,
                CREATE,
                accepted=lambda reply: self._acknowledged_submit(name, reply, sent_ms),
                refused=lambda error: self.refused_submit(name, error, sent_ms),
                unanswered=lambda error: self.unanswered_submit(name, error, sent_ms),
                withdrawn=SubmitWithdrawn(client_order_id=name, **self.now()),
            )
            return self.settle_submit(name, fact)
        except Exception:
            raise
        except BaseException as interrupt:  # Ctrl-C: an order that was recorded is never left without an answer
            self._state.abandon([self.unanswered_submit(name, interrupt, sent_ms)])
            raise

    def _send_permitted(
        self,
        permit: Permit,
        path: str,
        *,
        accepted: Callable[[Envelope], AnyFact | None],
        refused: Callable[[BybitApiError], AnyFact],
        unanswered: Callable[[BaseException], AnyFact],
        withdrawn: AnyFact,
    ) -> AnyFact | None:
        request = request_under(path, [permit], permit.body)
        try:
            fact = self._send(
                lambda: self.post_permitted(request),
                accepted=accepted,
                refused=refused,
                unanswered=unanswered,
                withdrawn=withdrawn,
            )
        except (VenueUnavailableError, InvalidRequestError) as error:  # nothing left
            self.member.keeper.resolve(permit, PermitOutcome.NEVER_SENT, reason=str(error))
            raise
        self.note_fact(permit, fact)
        return fact

    def note_fact(self, permit: Permit, fact: AnyFact | None) -> None:
        """What an answer says of a permit. One without an answer stays open, until the books know."""
        keeper = self.member.keeper
        match fact:
            case None:
                keeper.resolve(permit, PermitOutcome.ACCEPTED)
            case SubmitAcknowledged(broker_order_id=broker_order_id):
                keeper.resolve(permit, PermitOutcome.ACCEPTED, broker_order_id=broker_order_id)
            case SubmitRefused(reason=reason) | ModifyRefused(reason=reason):
                keeper.resolve(permit, PermitOutcome.REFUSED, reason=reason)
            case _:
                pass

    def post_permitted(self, request: PermittedRequest) -> Envelope:
        """One permitted write; raises VenueUnavailableError when the venue read nothing but its time stamp."""
        try:
            return vetted(request.path, self._client.post_permitted(request), is_write=True)
        except BybitApiError as error:
            if verdict(error.ret_code, operation_for(request.path)) is not Verdict.CLOCK:
                raise
            turned_away = _TurnedAwayError(f"the venue refused the time stamp; nothing was done: {error}")
        raise turned_away

    def _what_became(self, intent: str, permit: Permit) -> SubmitAck | int:
        """The ack of an intent that was permitted before, or the number of the attempt that may be made now."""
        keeper = self.member.keeper
        record = keeper.journal.intent(keeper.account, intent)
        last = keeper.noted_outcome(record.creates[-1] if record is not None else permit)
        order = self._state.ask(lambda ledger: ledger.get(last.link_id))
        if last.is_open and order is None and last.owner == keeper.journal.owner:
            # Its answer was lost on the way from the journal, so nothing was sent under it.
            keeper.resolve(last, PermitOutcome.NEVER_SENT, reason="the journal's answer was lost")
            return last.attempt + 1
        if last.outcome in _DID_NOTHING:
            return last.attempt + 1
        if order is not None:
            return ack_for(order)
        outcome = {PermitOutcome.ACCEPTED: SubmitOutcome.ACCEPTED, PermitOutcome.REFUSED: SubmitOutcome.REJECTED}
        return SubmitAck(
            client_order_id=last.link_id,
            broker_order_id=last.broker_order_id,
            outcome=outcome.get(last.outcome, SubmitOutcome.UNKNOWN),
            reject_reason=last.reason,
        )

    # amends

    def modify(self, order: Order, changes: OrderModification) -> SubmitAck:
        """Ask for other terms, under a permit; see `BybitBroker.modify`."""
        number = 1
        while True:
            try:
                with self.member.keeper.writing():
                    return super().modify(order, changes)
            except _TurnedAwayError:
                if number == _MOST_ATTEMPTS:
                    raise
                number += 1

    def post_amend(self, order: Order, body: Mapping[str, Any], sent_ms: int) -> Envelope:
        """An amend with a permit of its own, which carries the intent and the link id of its order."""
        keeper, name = self.member.keeper, order.client_order_id
        draft = PermitDraft(
            intent=(self.member.intent_of(name) if name else None) or f"order:{name or order.broker_order_id}",
            operation="amend",
            link_id=name or f"{BROKER_ID}{order.broker_order_id}",
            category=body["category"],
            symbol=body["symbol"],
            signed_at_ms=sent_ms,
            recv_window_ms=keeper.rules.recv_window_ms,
            body=body_text(body),
        )
        return self._post_under_permit(keeper.ownership.epoch, draft, AMEND, Operation.AMEND)

    def post_position(self, path: str, body: Mapping[str, Any]) -> Envelope:
        """A request about positions, e.g. their exits, with a permit of its own."""
        keeper, symbol = self.member.keeper, str(body.get("symbol", ""))
        with keeper.writing() as epoch:
            draft = PermitDraft(
                intent=f"position:{symbol}",
                operation="position_exits",
                link_id=f"position:{symbol}",
                category=self.member.category,
                symbol=symbol,
                signed_at_ms=self.venue_ms(),
                recv_window_ms=keeper.rules.recv_window_ms,
                body=body_text(body),
            )
            return self._post_under_permit(epoch, draft, path, Operation.CONFIG)

    def _post_under_permit(self, epoch: int, draft: PermitDraft, path: str, operation: Operation) -> Envelope:
        """Ask for one permit, send the request once, and note what the answer says of it."""
        keeper = self.member.keeper
        (permit,) = keeper.ask_permits(epoch, [draft])
        try:
            reply = self.post_permitted(request_under(path, [permit], permit.body))
        except VenueUnavailableError as error:
            keeper.resolve(permit, PermitOutcome.NEVER_SENT, reason=str(error))
            raise
        except BybitApiError as error:
            if verdict(error.ret_code, operation) is not Verdict.AMBIGUOUS:
                keeper.resolve(permit, PermitOutcome.REFUSED, reason=str(error))
            raise
        keeper.resolve(permit, PermitOutcome.ACCEPTED)
        return reply


class PermittedBatchEntry(BatchEntry):
    """`BatchEntry` whose creates have permits: one commit per request of the batch, one row per order."""

    _entry: PermittedEntry

    def __init__(self, entry: PermittedEntry, state: BrokerState) -> None:
        super().__init__(entry, state)
        self._wanted: dict[str, _Wanted] = {}

    def submit_intents(
        self,
        requests: Sequence[OrderRequest],
        intents: Sequence[str | None],
        admit: Callable[[Sequence[OrderRequest]], None],
        may_go_on: Callable[[], None],
    ) -> list[SubmitAck]:
        """Send orders under intents; see `BybitBroker.submit_many`. Orders of used intents are not sent again."""
        entry, keeper = self._entry, self._entry.member.keeper
        keeper.check_may_write()
        epoch = keeper.ownership.epoch
        acks: dict[int, SubmitAck] = {}
        fresh: list[tuple[int, _Wanted]] = []
        for place, (request, intent) in enumerate(zip(requests, intents, strict=True)):
            attempt, name = 1, f"submit:{secrets.token_hex(10)}"
            if intent is not None:
                name = validate_intent(intent)
            record = keeper.journal.intent(keeper.account, name) if intent is not None else None
            if record is not None:
                entry.check_same(request, name, record.creates[-1])
                known = entry._what_became(name, record.creates[-1])
                if isinstance(known, SubmitAck):
                    acks[place] = known
                    continue
                attempt = known
            fresh.append((place, entry.wanted(request, name, attempt, epoch)))
        if fresh:
            admit([one.request for _, one in fresh])
            self._wanted.update((one.link_id, one) for _, one in fresh)
            named = [attrs.evolve(one.request, client_order_id=one.link_id) for _, one in fresh]
            try:
                sent = self.submit_many(named, may_go_on)
            finally:
                for _, one in fresh:
                    self._wanted.pop(one.link_id, None)
            acks |= {place: ack for (place, _), ack in zip(fresh, sent, strict=True)}
        return [acks[place] for place in range(len(requests))]

    def _create(self, chunk: Sequence[BatchItem]) -> dict[str, AnyFact]:
        """One request under one commit of permits. Raises when nothing left."""
        entry, keeper = self._entry, self._entry.member.keeper
        sent_ms = entry.venue_ms()
        with keeper.writing() as epoch:
            wanted = [self._wanted[item.client_order_id] for item in chunk]
            permits = keeper.ask_permits(epoch, entry.drafts(wanted, sent_ms))
            for permit in permits:
                entry.member.note_sent(permit)
            body = body_text({"category": permits[0].category, "request": [dict(item.body) for item in chunk]})
            try:
                facts = self._sent_under(request_under(CREATE_BATCH, permits, body), chunk, sent_ms)
            except (VenueUnavailableError, InvalidRequestError) as error:
                for permit in permits:
                    keeper.resolve(permit, PermitOutcome.NEVER_SENT, reason=str(error))
                raise
            for permit in permits:
                entry.note_fact(permit, facts[permit.link_id])
        return facts

    def _sent_under(self, request: PermittedRequest, chunk: Sequence[BatchItem], sent_ms: int) -> dict[str, AnyFact]:
        entry = self._entry
        try:
            answers = self._answers(CREATE_BATCH, lambda: entry.post_permitted(request), len(chunk))
        except (VenueUnavailableError, InvalidRequestError):
            raise
        except BaseException as error:
            self._state.absorb([entry.unanswered_submit(item.client_order_id, error, sent_ms) for item in chunk])
            raise  # Ctrl-C in the middle: no order is forgotten
        return self._learnt(chunk, answers, sent_ms)
