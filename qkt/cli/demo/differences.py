"""What the judge of the demo can say: kinds of difference, one difference, the whole verdict."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import attrs

Row = Mapping[str, Any]

# Kind of difference -> how it is counted on the screen.
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
    """One thing in which the bot and the venue's record disagree. ``kind`` is one of `KINDS`."""

    kind: str
    order: str = ""
    what: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.order + ' ' if self.order else ''}{self.what}"


@attrs.frozen(kw_only=True)
class Verdict:
    """The judgement. ``agrees`` is True when there is not one difference."""

    differences: tuple[Difference, ...]
    executions_at_venue: int
    executions_told: int
    events_heard: int

    @property
    def agrees(self) -> bool:
        """True when everything heard and believed is what the venue's record says."""
        return not self.differences

    @property
    def counts(self) -> dict[str, int]:
        """How many differences of each kind, zeros included."""
        found = Counter(difference.kind for difference in self.differences)
        return {name: found[kind] for kind, name in KINDS.items()}
