"""What a search reached, in text: faults alone and in pairs, and the branches that are rarely taken."""

from __future__ import annotations

from itertools import combinations

from tests.simulation.failures import OPEN_FAILURES, gated
from tests.simulation.schedule import FAMILIES
from tests.simulation.search import Tally

# Rare branches that a long search must have reached at least once, and what reaches them.
RARE = (
    "non-arrival proof",
    "resurrection",
    "aged_out",
    "late fill",
    "terminal released without fills",
    "status unknown told",
    "terms question",
    "remembered cancel sent",
    "cancel refused as gone",
    "row waits for an acknowledgement",
    "cancel remembered",
    "read: cursor_expires",
    "read: cursor_repeats",
    "read: second_page_fails",
    "degraded orders",
    "degraded executions",
    "degraded balances",
    "degraded stream",
    "degraded resurrected",
)


def missing(tally: Tally) -> tuple[list[str], list[str], list[str]]:
    """Families, pairs of families and rare branches that were not reached."""
    families = sorted(set(FAMILIES) - gated())
    alone = [name for name in families if not tally.families[name]]
    pairs = [name for pair in combinations(families, 2) if not tally.pairs[name := " + ".join(pair)]]
    return alone, pairs, [name for name in RARE if not tally.reached[name]]


def printed(tally: Tally) -> str:
    """The whole account of a search."""
    alone, pairs, rare = missing(tally)
    families = len(set(FAMILIES) - gated())
    lines = [
        f"{tally.schedules} schedules with {tally.steps} steps in {tally.seconds:.1f} s of work: "
        f"{tally.schedules / max(tally.seconds, 0.001):.0f} a second and core",
        f"kinds of faults reached alone: {families - len(alone)} of {families}; in pairs: "
        f"{families * (families - 1) // 2 - len(pairs)} of {families * (families - 1) // 2}",
    ]
    lines += [f"    {name}: {tally.families[name]}" for name in FAMILIES if tally.families[name]]
    lines += [f"not reached alone: {', '.join(alone)}"] if alone else []
    lines += [f"not reached in pairs: {', '.join(pairs)}"] if pairs else []
    lines.append("rare branches:")
    names = dict.fromkeys((*RARE, *sorted(tally.reached)))
    lines += [f"    {name}: {tally.reached[name]}" for name in names if tally.reached[name]]
    lines += [f"not reached: {', '.join(rare)}"] if rare else []
    lines.append(f"open failures, not enforced: {', '.join(OPEN_FAILURES) or 'none'}")
    lines.append(f"violations: {len(tally.failures)}")
    return "\n".join(lines)
