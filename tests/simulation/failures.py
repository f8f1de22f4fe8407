"""What the simulation is known to find and qkt does not cure yet.

A search leaves the families of an open failure out and does not enforce its laws; a test proves of each that it can
still be found. Whoever cures one deletes it here, and from then on every search looks for it.
"""

from __future__ import annotations

import attrs


@attrs.frozen(kw_only=True)
class OpenFailure:
    """``laws`` are broken by it; ``families`` of faults bring it about, or make it likely.

    ``is_gated``: the families do nothing but bring it about, so a search leaves them out.
    """

    what: str
    laws: frozenset[str]
    families: tuple[str, ...]
    is_gated: bool = False


OPEN_FAILURES: dict[str, OpenFailure] = {
    "N7": OpenFailure(
        what="an id used again within a second of its first use, for the same order: the older order is taken for ours",
        laws=frozenset({"id_used_within_a_second"}),
        families=("ids_reused",),
    ),
}


def excused(but: str = "") -> frozenset[str]:
    """The laws that are not enforced: those of every open failure that is not gated, ``but`` for one."""
    return frozenset(law for name, one in OPEN_FAILURES.items() if name != but and not one.is_gated for law in one.laws)


def gated() -> frozenset[str]:
    """The families that a search leaves out."""
    return frozenset(family for one in OPEN_FAILURES.values() if one.is_gated for family in one.families)
