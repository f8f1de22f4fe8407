"""The record of all events of the venue, in order; tests compare a client with it.

Entries are never removed and not affected by faults. An entry is a plain dict (``n``, ``t`` in ms, ``event``, details
as strings), so that it can be printed, filtered and compared without the venue's types.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Entry = dict[str, Any]


class Journal:
    """An append-only list of entries with listeners (a log on the terminal, a file)."""

    def __init__(self, now_ms: Callable[[], int]) -> None:
        self._now_ms = now_ms
        self._entries: list[Entry] = []
        self._listeners: list[Callable[[Entry], None]] = []

    def listen(self, listener: Callable[[Entry], None]) -> None:
        self._listeners.append(listener)

    def unlisten(self, listener: Callable[[Entry], None]) -> None:
        self._listeners.remove(listener)

    def note(self, event: str, /, account: str = "", **details: Any) -> None:
        entry: Entry = {"n": len(self._entries) + 1, "t": self._now_ms(), "event": event}
        if account:
            entry["account"] = account
        entry.update(details)
        self._entries.append(entry)
        for listener in list(self._listeners):
            listener(entry)

    def entries(self, account: str | None = None) -> list[Entry]:
        """All entries, or those of one account and those without an account."""
        if account is None:
            return list(self._entries)
        return [entry for entry in self._entries if entry.get("account", account) == account]
