"""Result types of the demo's judge: kinds of difference, one difference, the verdict."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import attrs

Row = Mapping[str, Any]

# kind of difference -> label of its count on the screen
KINDS = {
    "fill lost": "fills_lost",
    "fill duplicated": "fills_duplicated",
    "fill invented": "fills_invented",
    "fill distorted": "fills_distorted",
    "order falsely ended": "orders_falsely_ended",
    "end not told": "ends_not_told",
    "end told wrongly": "ends_told_wrongly",
    "order invented": "orders_invented",
    "order not told": "orders_not_told",
    "owner told wrongly": "owners_told_wrongly",
    "told out of order": "told_out_of_order",
    "balance differs": "balances_differ",
    "belief differs": "beliefs_differ",
    "unresolved": "unresolved",
}


@attrs.frozen(kw_only=True)
class Difference:
    """One disagreement between the bot and the venue's record. ``kind`` is one of `KINDS`."""

    kind: str
    order: str = ""
    what: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.order + ' ' if self.order else ''}{self.what}"


@attrs.frozen(kw_only=True)
class Verdict:
    """Result of the comparison: all differences."""

    differences: tuple[Difference, ...]
    executions_at_venue: int
    executions_told: int
    events_heard: int

    @property
    def agrees(self) -> bool:
        """True when there is no difference."""
        return not self.differences

    @property
    def counts(self) -> dict[str, int]:
        """Number of differences per kind, zeros included."""
        found = Counter(difference.kind for difference in self.differences)
        return {name: found[kind] for kind, name in KINDS.items()}
