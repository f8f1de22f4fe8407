"""Facts: everything that can be learnt about an order.

A stream frame, a REST row and the answer to a lookup become the same fact, so they cannot disagree about what it means.
``origin`` and ``at_ms`` are provenance, copied into events and audits; nothing branches on ``origin``. Times named
``*_ms`` inside a fact are venue time unless they say otherwise.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import attrs

from qkt.events import Origin
from qkt.model.executions import Execution
from qkt.model.order_report import OrderReport
from qkt.model.orders import OrderModification, OrderRequest

RequestKind = Literal["cancel", "modify"]


@attrs.frozen(kw_only=True)
class Fact:
    """``at_ms`` is when qkt learnt it, on the broker's clock."""

    at_ms: int = 0
    origin: Origin = "stream"


@attrs.frozen(kw_only=True)
class AboutOrder(Fact):
    """A fact that names its order by our id or by the venue's."""

    client_order_id: str = ""
    broker_order_id: str = ""


@attrs.frozen(kw_only=True)
class SubmitIntended(AboutOrder):
    """We are about to send this order; recorded before the first byte leaves.

    ``order_filter`` is the venue's name for the list that holds such orders, "" for plain ones.
    """

    request: OrderRequest
    sent_ms: int
    order_filter: str = ""


@attrs.frozen(kw_only=True)
class SubmitWithdrawn(AboutOrder):
    """It never left: nothing was sent, and the id is free again."""


@attrs.frozen(kw_only=True)
class SubmitAcknowledged(AboutOrder):
    """The venue has the request: not yet evidence that the order stands."""


@attrs.frozen(kw_only=True)
class SubmitRefused(AboutOrder):
    """A definite no."""

    reason: str


@attrs.frozen(kw_only=True)
class OrderRecognised(AboutOrder):
    """An order that was taken for an external one is ours: a journal has the permit under which it was sent."""


@attrs.frozen(kw_only=True)
class SubmitUnanswered(AboutOrder):
    """No definite answer. ``provable_from_ms`` is when the request can no longer arrive.

    ``is_duplicate_id``: the venue knows this client order id already, from us or from an older order.
    """

    reason: str
    provable_from_ms: int
    is_duplicate_id: bool = False


@attrs.frozen(kw_only=True)
class NonArrivalProved(AboutOrder):
    """The submit got no answer, can no longer arrive, and every place the order could be was read and is empty."""

    reason: str = "never_arrived"


@attrs.frozen(kw_only=True)
class CancelIntended(AboutOrder):
    """We ask for the end. ``is_remembered``: not sent yet, because the order is not known to stand.

    ``is_again``: a cancel that was recorded before, now (or again not yet) on its way; it cannot fail a second time.
    """

    sent_ms: int = 0
    is_remembered: bool = False
    is_again: bool = False


@attrs.frozen(kw_only=True)
class ModifyIntended(AboutOrder):
    """We ask for other terms."""

    changes: OrderModification
    sent_ms: int = 0


@attrs.frozen(kw_only=True)
class RequestUnanswered(AboutOrder):
    """The request may or may not have arrived; it cannot any more after ``provable_from_ms`` (venue time)."""

    request: ClassVar[RequestKind]
    reason: str
    provable_from_ms: int


@attrs.frozen(kw_only=True)
class RequestRefused(AboutOrder):
    """The venue refused the request, or it provably never arrived."""

    request: ClassVar[RequestKind]
    reason: str


@attrs.frozen(kw_only=True)
class RequestWithdrawn(AboutOrder):
    """The request never left."""

    request: ClassVar[RequestKind]


@attrs.frozen(kw_only=True)
class CancelUnanswered(RequestUnanswered):
    """No definite answer to a cancel."""

    request: ClassVar[RequestKind] = "cancel"


@attrs.frozen(kw_only=True)
class CancelRefused(RequestRefused):
    """A cancel that failed."""

    request: ClassVar[RequestKind] = "cancel"


@attrs.frozen(kw_only=True)
class CancelWithdrawn(RequestWithdrawn):
    """A cancel that was not sent."""

    request: ClassVar[RequestKind] = "cancel"


@attrs.frozen(kw_only=True)
class ModifyUnanswered(RequestUnanswered):
    """No definite answer to an amend."""

    request: ClassVar[RequestKind] = "modify"


@attrs.frozen(kw_only=True)
class ModifyRefused(RequestRefused):
    """An amend that failed."""

    request: ClassVar[RequestKind] = "modify"


@attrs.frozen(kw_only=True)
class ModifyWithdrawn(RequestWithdrawn):
    """An amend that was not sent."""

    request: ClassVar[RequestKind] = "modify"


@attrs.frozen(kw_only=True)
class OrderReported(Fact):
    """An order row. ``as_of_ms`` is the venue time it shows: a frame's creation, or the start of the read.

    ``may_lack_client_id``: the row comes from where the venue may leave our client order id out (its stream), so a row
    without one may still be about an order of ours.
    """

    report: OrderReport
    as_of_ms: int = 0
    may_lack_client_id: bool = False


@attrs.frozen(kw_only=True)
class ExecutionReported(Fact):
    """An execution row. ``is_historic``: from before this broker's window; it counts, and is not published.

    ``may_lack_client_id`` as in `OrderReported`.
    """

    execution: Execution
    is_historic: bool = False
    may_lack_client_id: bool = False


@attrs.frozen(kw_only=True)
class LookupFoundNothing(AboutOrder):
    """Realtime, history and executions were all read completely, begun at ``begun_ms``, and none knows the order."""

    begun_ms: int


@attrs.frozen(kw_only=True)
class StatusBecameUnknown(AboutOrder):
    """Two rounds asked for the order by id and neither found what became of it."""

    since_ms: int
    reason: str


@attrs.frozen(kw_only=True)
class AgedOut(AboutOrder):
    """The venue keeps unfilled closed orders for a day; that day has passed and no complete read knows the order.

    One that the venue had ends as cancelled; a submit without an answer ends as rejected, since nothing shows that it
    was ever accepted.
    """

    reason: str = "aged_out"


@attrs.frozen(kw_only=True)
class TerminalReleased(AboutOrder):
    """The executions still missing from a held terminal were read for completely and did not come: the wait is over."""


AnyFact = (
    SubmitIntended
    | SubmitWithdrawn
    | SubmitAcknowledged
    | OrderRecognised
    | SubmitRefused
    | SubmitUnanswered
    | NonArrivalProved
    | CancelIntended
    | CancelUnanswered
    | CancelRefused
    | CancelWithdrawn
    | ModifyIntended
    | ModifyUnanswered
    | ModifyRefused
    | ModifyWithdrawn
    | OrderReported
    | ExecutionReported
    | LookupFoundNothing
    | StatusBecameUnknown
    | AgedOut
    | TerminalReleased
)
