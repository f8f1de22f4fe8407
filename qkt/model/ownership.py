"""Ownership of an account: which process may create and amend orders on it."""

from __future__ import annotations

from typing import Literal

import attrs

OwnershipState = Literal["none", "standby", "quarantine", "owner", "lost"]


@attrs.frozen(kw_only=True)
class Ownership:
    """How a broker stands to its account.

    ``state``:

    - ``none``: there is no journal; every process with the key may send.
    - ``standby``: another process owns the account, or it is being acquired. Reads, follows and tells; sends nothing.
    - ``quarantine``: the account is ours, and requests of its earlier owners may still arrive at the venue. Cancels
      pass; creates and amends wait.
    - ``owner``: may create and amend.
    - ``lost``: another process took the account while we owned it. Nothing may be sent any more.

    ``epoch`` and ``owner`` are those of the account's owner as far as it is known; ``owner`` is empty where the account
    is free. ``since_ms``: when this state began, by this process's clock. ``until_ms``: in quarantine the venue time
    that must have passed, None while it is not known yet, and None in every other state.
    """

    state: OwnershipState = "none"
    epoch: int = 0
    owner: str = ""
    since_ms: int = 0
    until_ms: int | None = None
