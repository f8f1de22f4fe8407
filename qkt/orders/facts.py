"""Everything that can be learnt about an order, whoever says it.

A fact has no sender: a stream frame, a REST row and the answer to a question become the same fact, so they cannot
disagree about what it means. ``origin`` and ``at_ms`` are provenance, copied into events and trails; nothing branches
on them. Times named ``*_ms`` inside a fact are venue time unless they say otherwise.
"""

from __future__ import annotations

import attrs

from qkt.events import Origin
from qkt.model.executions import Execution
from qkt.model.orders import OrderModification, OrderRequest
from qkt.model.reports import OrderReport


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


# -- what we asked for, and what became of the asking ---------------------------------------------------------------


@attrs.frozen(kw_only=True)
class SubmitIntended(AboutOrder):
    """We are about to send this order; recorded before the first byte leaves.

    ``order_filter`` is the drawer the venue keeps it in, e.g. ``StopOrder``.
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
class SubmitUnanswered(AboutOrder):
    """No definite answer. ``provable_from_ms`` is when the request can no longer arrive.

    ``is_duplicate_id``: the venue knows this client order id already, from us or from an older order.
    """

    reason: str
    provable_from_ms: int
    is_duplicate_id: bool = False


@attrs.frozen(kw_only=True)
class NonArrivalProved(AboutOrder):
    """Nobody answered the submit, it can no longer arrive, and every place it could be was read and empty."""

    reason: str = "never_arrived"


@attrs.frozen(kw_only=True)
class CancelIntended(AboutOrder):
    """We ask for the end. ``is_remembered``: not sent yet, because the order is not known to stand.

    ``is_again``: a wish that was recorded before, now (or again not yet) on its way; it cannot fail a second time.
    """

    sent_ms: int = 0
    is_remembered: bool = False
    is_again: bool = False


@attrs.frozen(kw_only=True)
class CancelUnanswered(AboutOrder):
    """The cancel may or may not have arrived; it cannot any more after ``provable_from_ms``."""

    reason: str
    provable_from_ms: int


@attrs.frozen(kw_only=True)
class CancelRefused(AboutOrder):
    """The venue refused the cancel, or it provably never arrived."""

    reason: str


@attrs.frozen(kw_only=True)
class CancelWithdrawn(AboutOrder):
    """The cancel never left."""


@attrs.frozen(kw_only=True)
class ModifyIntended(AboutOrder):
    """We ask for other terms."""

    changes: OrderModification
    sent_ms: int = 0


@attrs.frozen(kw_only=True)
class ModifyUnanswered(AboutOrder):
    """The amend may or may not have arrived; it cannot any more after ``provable_from_ms``."""

    reason: str
    provable_from_ms: int


@attrs.frozen(kw_only=True)
class ModifyRefused(AboutOrder):
    """The venue refused the amend, or it provably never arrived."""

    reason: str


@attrs.frozen(kw_only=True)
class ModifyWithdrawn(AboutOrder):
    """The amend never left."""


# -- what the venue shows --------------------------------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class OrderReported(Fact):
    """An order row. ``as_of_ms`` is when the venue said it: a frame's creation, or the start of the read."""

    report: OrderReport
    as_of_ms: int = 0


@attrs.frozen(kw_only=True)
class ExecutionReported(Fact):
    """An execution row. ``is_historic``: from before this broker's window; it counts, and is not published."""

    execution: Execution
    is_historic: bool = False


# -- what asking showed ----------------------------------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class LookupFoundNothing(AboutOrder):
    """Realtime, history and executions were all read completely, begun at ``begun_ms``, and none knows the order."""

    begun_ms: int


@attrs.frozen(kw_only=True)
class StatusBecameUnknown(AboutOrder):
    """Two rounds asked and nobody can say what became of the order."""

    since_ms: int
    reason: str


@attrs.frozen(kw_only=True)
class AgedOut(AboutOrder):
    """The venue keeps unfilled closed orders for a day; that day has passed and no complete read knows the order."""

    reason: str = "aged_out"


@attrs.frozen(kw_only=True)
class TerminalReleased(AboutOrder):
    """The executions still missing from a held end were read for completely and did not come: the wait is over."""


AnyFact = (
    SubmitIntended
    | SubmitWithdrawn
    | SubmitAcknowledged
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
