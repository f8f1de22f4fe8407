"""News: what one fact taught that the order's new state does not show, kept for the events that tell it."""

from __future__ import annotations

from qkt.model.executions import Execution
from qkt.model.order_report import OrderReport
from qkt.orders.order import Terms


class News:
    """Filled while a fact is joined, read once by `emit_events`.

    ``fill`` is the execution to publish. ``modified`` is the reason of changed terms ("" for an amend of ours),
    ``cancel_failed`` and ``modify_failed`` the reasons of failed requests, ``unknown_since_ms`` and ``unknown_reason``
    tell that the order's status became unknown; None means that there is nothing to tell. ``is_dated`` says that the
    fact counts as an update of the order.

    For `pending`: ``changed_from`` are the terms that a row replaced, ``is_first_version`` that the row shows the order
    as it was created, ``are_terms_confirmed`` that a row showed the known terms, ``refusal`` a row that reports a
    refused request.
    """

    __slots__ = (
        "are_terms_confirmed",
        "cancel_failed",
        "changed_from",
        "fill",
        "is_dated",
        "is_first_version",
        "modified",
        "modify_failed",
        "refusal",
        "unknown_reason",
        "unknown_since_ms",
    )

    def __init__(self) -> None:
        self.fill: Execution | None = None
        self.modified: str | None = None
        self.cancel_failed: str | None = None
        self.modify_failed: str | None = None
        self.unknown_since_ms: int | None = None
        self.unknown_reason: str = ""
        self.is_dated: bool = False
        self.changed_from: Terms | None = None
        self.is_first_version: bool = False
        self.are_terms_confirmed: bool = False
        self.refusal: OrderReport | None = None
