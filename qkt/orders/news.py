"""News: what one fact taught that the order's new state does not show, kept for the events that tell it."""

from __future__ import annotations

from qkt.model.executions import Execution


class News:
    """Filled while a fact is joined, read once by `emit_events`.

    ``fill`` is the execution to publish. ``modified`` is the reason of changed terms ("" for an amend of ours),
    ``cancel_failed`` and ``modify_failed`` the reasons of failed requests, ``unknown_since_ms`` and ``unknown_reason``
    tell that the order's status became unknown; None means that there is nothing to tell. ``is_dated`` says that the
    fact counts as an update of the order.
    """

    __slots__ = (
        "cancel_failed",
        "fill",
        "is_dated",
        "modified",
        "modify_failed",
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
