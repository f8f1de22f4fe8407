"""Orders to the venue, and what its answers prove.

Each write does one thing in one order: record the intent, send, record what the answer proves. An answer that proves
nothing is recorded as exactly that and looked up; nothing is ever sent twice blindly.

Source: docs v5/order/create-order, amend-order, cancel-order; answers: docs v5/error.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from typing import Any

import attrs

from qkt.broker.protocol import SubmitAck, SubmitOutcome
from qkt.broker.state import BrokerState
from qkt.bybit.codec.envelope import Envelope, vetted
from qkt.bybit.codec.orders import BybitOrderTranslator
from qkt.bybit.codec.retcodes import Operation, Verdict, verdict
from qkt.bybit.lookup import OrderLookup
from qkt.bybit.queries import BybitQueries
from qkt.bybit.transport.protocol import CompleteTransport
from qkt.clock import Clock
from qkt.errors import (
    BybitApiError,
    InvalidRequestError,
    JournalError,
    NotOwnerError,
    OutcomeUnknownError,
    VenueUnavailableError,
)
from qkt.ids import new_client_order_id
from qkt.model.order_report import VenueStatus
from qkt.model.orders import OrderModification, OrderRequest
from qkt.net.scheduler import Scheduler
from qkt.orders.facts import (
    AnyFact,
    CancelIntended,
    CancelRefused,
    CancelUnanswered,
    CancelWithdrawn,
    ModifyIntended,
    ModifyRefused,
    ModifyUnanswered,
    ModifyWithdrawn,
    SubmitAcknowledged,
    SubmitIntended,
    SubmitRefused,
    SubmitUnanswered,
    SubmitWithdrawn,
)
from qkt.orders.order import Order, TerminalKind
from qkt.reconcile.plan import ID_ALREADY_USED, ReconcileLimits

log: logging.Logger = logging.getLogger(__name__)

CREATE, AMEND, CANCEL = "/v5/order/create", "/v5/order/amend", "/v5/order/cancel"

_LOOK_UP_AFTER_MS = 1_000

# A caller of cancel or modify does not wait for a lookup: what is not known by then is looked up in the background.
_AT_ONCE_MS = 100


@attrs.frozen(kw_only=True)
class CancelFoundNothing(CancelUnanswered):
    """The venue knows no open order to cancel: it has ended, and the lookup will tell how."""


class OrderEntry:
    """Submit, cancel and amend for one broker. Safe from any thread; call it without holding a lock.

    ``background`` runs lookups; ``owner`` marks the ids generated here, see `new_client_order_id`.
    """

    def __init__(
        self,
        client: CompleteTransport,
        state: BrokerState,
        queries: BybitQueries,
        lookups: OrderLookup,
        background: Scheduler,
        clock: Clock,
        limits: ReconcileLimits,
        *,
        owner: str | None = None,
    ) -> None:
        self._client = client
        self._state = state
        self._queries = queries
        self._lookups = lookups
        self._background = background
        self._clock = clock
        self._limits = limits
        self._owner = owner
        self._claiming_due = threading.Lock()

    # submit

    def submit(self, request: OrderRequest) -> SubmitAck:
        """Send an order; see `BybitBroker.submit`."""
        client_order_id = request.client_order_id or self.new_id()
        body = BybitOrderTranslator.to_create_body(request, client_order_id)
        sent_ms = self.venue_ms()
        with self._state.abandoned_on_interrupt(
            lambda interrupt: [self.unanswered_submit(client_order_id, interrupt, sent_ms)]
        ):
            self._state.begin_submit(self.intend_submit(client_order_id, request, sent_ms))
            fact = self._send(
                lambda: self.post(CREATE, body),
                accepted=lambda reply: self._acknowledged_submit(client_order_id, reply, sent_ms),
                refused=lambda error: self.refused_submit(client_order_id, error, sent_ms),
                unanswered=lambda error: self.unanswered_submit(client_order_id, error, sent_ms),
                withdrawn=SubmitWithdrawn(client_order_id=client_order_id, **self.now()),
            )
            return self.settle_submit(client_order_id, fact)

    def _acknowledged_submit(self, client_order_id: str, reply: Mapping[str, Any], sent_ms: int) -> AnyFact:
        """An answer about another order proves nothing about ours."""
        order_id, link_id = _ids_in(reply)
        if link_id not in ("", client_order_id):
            return self.unanswered_submit(client_order_id, _answer_is_about(CREATE, link_id), sent_ms)
        return SubmitAcknowledged(client_order_id=client_order_id, broker_order_id=order_id, **self.now())

    def intend_submit(self, client_order_id: str, request: OrderRequest, sent_ms: int) -> SubmitIntended:
        return SubmitIntended(
            client_order_id=client_order_id,
            request=request,
            sent_ms=sent_ms,
            order_filter=BybitOrderTranslator.order_filter(request),
            **self.now(),
        )

    def settle_submit(self, client_order_id: str, fact: AnyFact | None) -> SubmitAck:
        """What can be said now; a taken id is looked up at once, silence is looked up soon."""
        if isinstance(fact, SubmitUnanswered):
            if fact.is_duplicate_id:
                self._lookups.look_up(client_order_id)
            if not self._state.is_closed and self._state.order(client_order_id).is_unresolved:
                self._lookups.look_up_soon(client_order_id, self._background, then=self.send_due_cancels)
        order = self._state.order(client_order_id)
        ack = _ack_by(order, fact) if self._state.is_closed else ack_for(order)
        self._state.bus.deliver()
        return ack

    def refused_submit(self, client_order_id: str, error: BybitApiError, sent_ms: int) -> AnyFact:
        match verdict(error.ret_code, Operation.CREATE):
            case Verdict.DUPLICATE_ID:
                return SubmitUnanswered(
                    client_order_id=client_order_id,
                    reason=f"{ID_ALREADY_USED}: {error}",
                    provable_from_ms=sent_ms + self._limits.backend_timeout_ms,
                    is_duplicate_id=True,
                    **self.now(),
                )
            case Verdict.REFUSED | Verdict.FATAL | Verdict.CLOCK | Verdict.THROTTLED:
                return SubmitRefused(client_order_id=client_order_id, reason=str(error), **self.now())
            case _:
                return self.unanswered_submit(client_order_id, error, sent_ms)

    def unanswered_submit(self, client_order_id: str, error: BaseException, sent_ms: int) -> SubmitUnanswered:
        return SubmitUnanswered(
            client_order_id=client_order_id,
            reason=str(error) or repr(error),
            provable_from_ms=self._provable_from_ms(error, sent_ms),
            **self.now(),
        )

    # cancel

    def cancel(self, order: Order) -> SubmitAck:
        """Ask for an order's end; see `BybitBroker.cancel`."""
        is_visible = order.has_evidence or order.is_acknowledged
        sent_ms = self.venue_ms()
        with self._state.abandoned_on_interrupt(lambda interrupt: [self.unanswered_cancel(order, interrupt, sent_ms)]):
            if (too_late := self.intend(order, self.intend_cancel(order, is_remembered=not is_visible))) is not None:
                return too_late
            if not is_visible:
                return _answer(order, SubmitOutcome.UNKNOWN, "remembered: sent when the order appears")
            return self._send_cancel(order)

    def intend_cancel(self, order: Order, *, is_remembered: bool, is_again: bool = False) -> CancelIntended:
        return CancelIntended(
            **ids_of(order),
            sent_ms=self.venue_ms(),
            is_remembered=is_remembered,
            is_again=is_again,
            **self.now(),
        )

    def _send_cancel(self, order: Order) -> SubmitAck:
        body = BybitOrderTranslator.to_cancel_body(order.symbol, **ids_of(order), order_filter=order_filter_of(order))
        sent_ms = self.venue_ms()
        fact = self._send(
            lambda: self.post(CANCEL, body),
            accepted=lambda reply: self._confirmed(
                CANCEL, order, reply, lambda error: self.unanswered_cancel(order, error, sent_ms)
            ),
            refused=lambda error: self.refused_cancel(order, error, sent_ms),
            unanswered=lambda error: self.unanswered_cancel(order, error, sent_ms),
            withdrawn=CancelWithdrawn(**ids_of(order), **self.now()),
        )
        return self.settle_cancel(order, fact)

    def settle_cancel(self, order: Order, fact: AnyFact | None) -> SubmitAck:
        """The ack for what is known now; what is not known is looked up in the background, never waited for."""
        self._state.bus.deliver()
        match fact:
            case None:
                return _answer(order, SubmitOutcome.ACCEPTED)
            case CancelRefused(reason=reason):
                return _answer(order, SubmitOutcome.REJECTED, reason)
            case CancelFoundNothing(reason=reason):
                self._look_up_gone(order, then=lambda: self._fail_cancel(order, reason))
                return _answer(order, SubmitOutcome.REJECTED, reason)
            case CancelUnanswered(reason=reason):
                self._soon_look_up(order)
                return _answer(order, SubmitOutcome.UNKNOWN, reason)
            case _:  # remembered again
                self._look_up_gone(order)
                return _answer(order, SubmitOutcome.UNKNOWN, "remembered: sent when the order appears")

    def refused_cancel(self, order: Order, error: BybitApiError, sent_ms: int) -> AnyFact:
        """ "Not found" covers filled, cancelled, never existed and not yet visible: query, then decide (S9, S89)."""
        found = verdict(error.ret_code, Operation.CANCEL)
        if found is Verdict.AMBIGUOUS:
            return self.unanswered_cancel(order, error, sent_ms)
        if found is Verdict.GONE:
            is_looked_up = self._look_up_at_once(order)
            known = self._state.order(order.client_order_id or None, order.broker_order_id)
            if known.is_open and not known.has_evidence:
                return self.intend_cancel(known, is_remembered=True, is_again=True)
            if known.is_open and not is_looked_up:
                return CancelFoundNothing(
                    **ids_of(order), reason=str(error), provable_from_ms=self.venue_ms(), **self.now()
                )
        return CancelRefused(**ids_of(order), reason=str(error), **self.now())

    def _fail_cancel(self, order: Order, reason: str) -> None:
        """The order was looked up and still stands: the cancel that did not find it has failed."""
        known = self._state.order(order.client_order_id or None, order.broker_order_id)
        if known.is_open and known.cancel is not None and known.cancel.unanswered == reason:
            self._state.absorb([CancelRefused(**ids_of(order), reason=reason, **self.now())])

    def _look_up_at_once(self, order: Order) -> bool:
        """Ask what became of an order, in the moment a caller does not notice; False when that was too short."""
        return self._lookups.look_up_within(_AT_ONCE_MS, order.client_order_id or None, order.broker_order_id)

    def _look_up_gone(self, order: Order, then: Callable[[], object] = lambda: None) -> None:
        ids = (order.client_order_id or None, order.broker_order_id)
        self._lookups.look_up_later(self._background, 0, *ids, then=then)

    def unanswered_cancel(self, order: Order, error: BaseException, sent_ms: int) -> CancelUnanswered:
        return CancelUnanswered(
            **ids_of(order),
            reason=str(error) or repr(error),
            provable_from_ms=self._provable_from_ms(error, sent_ms),
            **self.now(),
        )

    def send_due_cancels(self) -> None:
        """Send the cancels that waited for their orders to appear."""
        with self._claiming_due:  # lookups, rounds and frames may come here at once, and a cancel is sent once
            due = self._state.ask(lambda ledger: ledger.due_cancels())
            self._state.absorb(self.intend_cancel(order, is_remembered=False, is_again=True) for order in due)
        for number, order in enumerate(due):
            try:
                self._send_cancel(order)
            except VenueUnavailableError as error:
                log.warning("remembered cancel not sent order=%s error=%s", order.client_order_id, error)
                self._state.absorb([self.intend_cancel(order, is_remembered=True, is_again=True)])
            except Exception:
                raise
            except BaseException:  # Ctrl-C: those behind are remembered as before
                self._state.absorb(
                    self.intend_cancel(later, is_remembered=True, is_again=True) for later in due[number + 1 :]
                )
                raise

    # modify

    def modify(self, order: Order, changes: OrderModification) -> SubmitAck:
        """Ask for other terms; see `BybitBroker.modify`."""
        if order.is_open and not (order.has_evidence or order.is_acknowledged):
            raise InvalidRequestError(
                f"{order.client_order_id} is not known to stand yet, so there is nothing to amend: "
                'wait(..., until="accepted") first'
            )
        body = BybitOrderTranslator.to_amend_body(order.symbol, changes, **ids_of(order))
        sent_ms = self.venue_ms()
        intent = ModifyIntended(**ids_of(order), changes=changes, sent_ms=sent_ms, **self.now())
        with self._state.abandoned_on_interrupt(lambda interrupt: [self._unanswered_modify(order, interrupt, sent_ms)]):
            if (too_late := self.intend(order, intent)) is not None:
                return too_late
            fact = self._send(
                lambda: self.post_amend(order, body, sent_ms),
                accepted=lambda reply: self._confirmed(
                    AMEND, order, reply, lambda error: self._unanswered_modify(order, error, sent_ms)
                ),
                refused=lambda error: self._refused_modify(order, error, sent_ms),
                unanswered=lambda error: self._unanswered_modify(order, error, sent_ms),
                withdrawn=ModifyWithdrawn(**ids_of(order), **self.now()),
            )
            self._state.bus.deliver()
        match fact:
            case None:
                return _answer(order, SubmitOutcome.ACCEPTED)
            case ModifyRefused(reason=reason):
                return _answer(order, SubmitOutcome.REJECTED, reason)
            case _:
                self._soon_look_up(order)
                return _answer(order, SubmitOutcome.UNKNOWN, getattr(fact, "reason", ""))

    def _refused_modify(self, order: Order, error: BybitApiError, sent_ms: int) -> AnyFact:
        found = verdict(error.ret_code, Operation.AMEND)
        if found is Verdict.AMBIGUOUS:
            return self._unanswered_modify(order, error, sent_ms)
        if found is Verdict.GONE and not self._look_up_at_once(order):
            self._look_up_gone(order)
        return ModifyRefused(**ids_of(order), reason=str(error), **self.now())

    def _unanswered_modify(self, order: Order, error: BaseException, sent_ms: int) -> ModifyUnanswered:
        return ModifyUnanswered(
            **ids_of(order),
            reason=str(error) or repr(error),
            provable_from_ms=self._provable_from_ms(error, sent_ms),
            **self.now(),
        )

    # sending

    def post_amend(self, order: Order, body: Mapping[str, Any], sent_ms: int) -> Envelope:  # noqa: ARG002
        """The amend of an order; ``sent_ms`` is the venue time taken before."""
        return self.post(AMEND, body)

    def post(self, path: str, body: Mapping[str, Any]) -> Envelope:
        """One write. An error envelope that a transport of the user's own returned is a refusal all the same."""
        return vetted(path, self._client.post_signed(path, body), is_write=True)

    def _send(
        self,
        send: Callable[[], Envelope],
        *,
        accepted: Callable[[Envelope], AnyFact | None],
        refused: Callable[[BybitApiError], AnyFact],
        unanswered: Callable[[BaseException], AnyFact],
        withdrawn: AnyFact,
    ) -> AnyFact | None:
        """Send one write and learn what its answer proves; what proves nothing is learnt as exactly that."""
        fact: AnyFact | None
        try:
            fact = accepted(send())
        except (VenueUnavailableError, InvalidRequestError, NotOwnerError, JournalError):
            self._state.absorb([withdrawn])  # provably nothing left
            self._state.bus.deliver()  # rows that waited to learn whose they are are an outside order's after all
            raise
        except BybitApiError as error:
            fact = refused(error)
        except OutcomeUnknownError as error:
            fact = unanswered(error)
        except Exception as error:  # noqa: BLE001 - a transport of the user's own: the request may have left
            log.warning("write failed in the transport error=%r", error)
            fact = unanswered(error)
        except BaseException as error:
            self._state.absorb([unanswered(error)])  # Ctrl-C in the middle: an order is never forgotten
            raise
        if fact is not None:
            self._state.absorb([fact])
        return fact

    @staticmethod
    def _confirmed(
        path: str, order: Order, reply: Mapping[str, Any], unanswered: Callable[[OutcomeUnknownError], AnyFact]
    ) -> AnyFact | None:
        """Nothing to learn from an answer about this order; one about another order proves nothing."""
        order_id, link_id = _ids_in(reply)
        if order_id and order.broker_order_id and order_id != order.broker_order_id:
            return unanswered(_answer_is_about(path, order_id))
        if link_id and order.client_order_id and link_id != order.client_order_id:
            return unanswered(_answer_is_about(path, link_id))
        return None

    def _provable_from_ms(self, error: BaseException, sent_ms: int) -> int:
        """When the request can no longer arrive: silence is bounded by the receive window, a busy backend is not."""
        if isinstance(error, BybitApiError):
            return sent_ms + self._limits.backend_timeout_ms
        signed_ms = window_ms = None
        if isinstance(error, OutcomeUnknownError):
            if error.ret_code is not None:
                return sent_ms + self._limits.backend_timeout_ms
            signed_ms, window_ms = error.signed_ms, error.recv_window_ms
        window_ms = window_ms or self._client.recv_window_ms
        return (signed_ms or sent_ms) + window_ms + self._limits.arrival_margin_ms

    def _soon_look_up(self, order: Order) -> None:
        self._lookups.look_up_later(
            self._background, _LOOK_UP_AFTER_MS, order.client_order_id or None, order.broker_order_id
        )

    def intend(self, order: Order, intent: CancelIntended | ModifyIntended) -> SubmitAck | None:
        """Record an intent before it is sent; an answer at once when the order has ended, then nothing is sent.

        Whether it ended is decided where ends are learnt: a frame may end the order while we get here.
        """
        self._state.absorb([intent])
        known = self._state.order(order.client_order_id or None, order.broker_order_id)
        if known.terminal is None:
            return None
        self._state.bus.deliver()
        return _answer(known, SubmitOutcome.REJECTED, f"the order ended before: {known.terminal.kind.name}")

    def new_id(self) -> str:
        """A fresh client order id that carries the owner."""
        return new_client_order_id(self._owner)

    def venue_ms(self) -> int:
        """Venue time now, not that of a stepped clock: requests are dated and judged by it."""
        return self._queries.measured_venue_ms()

    def now(self) -> dict[str, Any]:
        """When and from where a fact of this module is learnt."""
        return {"at_ms": self._clock.now_ms(), "origin": "submit"}


def ids_of(order: Order) -> dict[str, Any]:
    """What every fact about an order names it by."""
    return {"client_order_id": order.client_order_id, "broker_order_id": order.broker_order_id}


def order_filter_of(order: Order) -> str:
    """Where the venue keeps an order that has not come alive yet; "" for every other."""
    waits = order.status in (None, VenueStatus.UNTRIGGERED, VenueStatus.UNKNOWN)
    return order.order_filter if waits else ""


def _ids_in(reply: Mapping[str, Any]) -> tuple[str, str]:
    """The venue's id and ours, as an answer names the order it is about; "" where it does not."""
    result = reply.get("result")
    if not isinstance(result, dict):
        return "", ""
    return str(result.get("orderId") or ""), str(result.get("orderLinkId") or "")


def _answer_is_about(path: str, other_id: str) -> OutcomeUnknownError:
    return OutcomeUnknownError(
        f"POST {path} was answered about another order, {other_id!r}; ours is looked up, do not resend", path=path
    )


def _answer(order: Order, outcome: SubmitOutcome, reason: str = "") -> SubmitAck:
    return SubmitAck(**ids_of(order), outcome=outcome, reject_reason=reason)


def ack_for(order: Order) -> SubmitAck:
    """The three things a submit can have become."""
    if order.terminal is not None and order.terminal.kind is TerminalKind.REJECTED and not order.has_evidence:
        return _answer(order, SubmitOutcome.REJECTED, order.terminal.reason)
    if order.is_unresolved:
        return _answer(order, SubmitOutcome.UNKNOWN, order.unanswered_submit.reason if order.unanswered_submit else "")
    return _answer(order, SubmitOutcome.ACCEPTED)


def _ack_by(order: Order, fact: AnyFact | None) -> SubmitAck:
    """The ack of a closed broker, from the answer alone: its state no longer changes."""
    match fact:
        case SubmitAcknowledged(broker_order_id=broker_order_id):
            return SubmitAck(
                client_order_id=order.client_order_id, broker_order_id=broker_order_id, outcome=SubmitOutcome.ACCEPTED
            )
        case SubmitRefused(reason=reason):
            return _answer(order, SubmitOutcome.REJECTED, reason)
        case _:
            return _answer(order, SubmitOutcome.UNKNOWN, str(getattr(fact, "reason", "")))
