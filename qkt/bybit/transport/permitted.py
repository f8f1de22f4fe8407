"""A write as it was permitted: its path, its body, its time stamp and its receive window, as text and numbers."""

from __future__ import annotations

import attrs


@attrs.frozen(kw_only=True)
class PermittedRequest:
    """One request that a journal permitted (rule P1): it is signed and sent exactly so, once, or not at all.

    ``body`` is the JSON text. ``signed_at_ms`` is venue time and stands in the signature, so the venue refuses the
    request once ``recv_window_ms`` have passed since then, by any sender and however late. ``category`` and
    ``units`` (orders in a batch) say which rate budget it spends.
    """

    path: str
    body: str
    signed_at_ms: int
    recv_window_ms: int
    category: str = ""
    units: int = 1

    @property
    def accepted_until_ms(self) -> int:
        """The last moment, in venue time, at which the venue accepts it."""
        return self.signed_at_ms + self.recv_window_ms
