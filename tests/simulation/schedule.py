"""Seed -> setup and steps. A seed always gives the same schedule.

Each schedule mixes a few families of faults and leaves the others out, so that a rare combination is not drowned by
all the rest. A step is a plain tuple: name, ms to wait before it, arguments; arguments are small integers that choose
among what there is when the step is taken, so that steps can be left out of a failing schedule.
"""

from __future__ import annotations

from collections.abc import Collection
from random import Random

from tests.simulation import odd
from tests.simulation.failures import gated
from tests.simulation.transport import READ_FAULTS
from tests.simulation.world import Setup, Step

FAMILIES = (
    "frames_lost",
    "frames_held",
    "frames_doubled",
    "frames_replayed",
    "frames_odd",
    "frames_early",
    "stream_lost",
    "submit_unanswered",
    "submit_late",
    "submit_refused",
    "submit_unsent",
    "submit_interrupted",
    "submit_twice",
    "request_unanswered",
    "request_late",
    "request_refused",
    "request_interrupted",
    "reads_fail",
    "reads_odd",
    "reads_paged",
    "reads_lag",
    "reads_interrupted",
    "reads_torn",
    "executions_hidden",
    "orders_hidden",
    "outside_orders",
    "outside_amends",
    "batches",
    "conditionals",
    "markets",
    "balances",
    "clock_steps",
    "sleeps",
    "days_dark",
    "restarts",
    "ids_reused",
    "short_windows",
    "refused_but_stands",
    "wrong_echo",
    "future_dates",
    "absurd_rows",
    "odd_executions",
    "odd_positions",
)

# Mostly long, so that most rounds are those that a schedule asks for.
POLLS_MS = (600_000,) * 7 + (30_000, 30_000, 5_000)

_SUBMIT_FATES = {
    "submit_unanswered": ("request_lost", "reply_lost", "backend_code_lost", "backend_code_stands"),
    "submit_late": ("late", "after_every_deadline"),
    "submit_refused": ("refused", "reply_garbled"),
    "submit_unsent": ("unsent", "throttled"),
    "submit_interrupted": (
        "interrupted_lost",
        "interrupted_stands",
        "transport_raises_lost",
        "transport_raises_stands",
    ),
    "submit_twice": ("duplicate_reply",),
    "refused_but_stands": ("refused_but_stands",),
    "wrong_echo": ("wrong_echo",),
}
_REQUEST_FATES = {
    "request_unanswered": ("request_lost", "reply_lost", "backend_code_lost", "backend_code_stands"),
    "request_late": ("late",),
    "request_refused": ("refused", "unsent"),
    "request_interrupted": ("interrupted_lost", "interrupted_stands"),
}
_PAGE_FAULTS = ("second_page_fails", "cursor_expires", "cursor_repeats")
_READ_PATHS = ("", "orders", "history", "executions", "balances", "positions")


class _Maker:
    """Draws the steps of one schedule."""

    def __init__(self, rng: Random, families: frozenset[str], setup: Setup) -> None:
        self._rng = rng
        self._families = families
        self._submit_fates = ["ok"] + [fate for name in families for fate in _SUBMIT_FATES.get(name, ())]
        self._request_fates = ["ok"] + [fate for name in families for fate in _REQUEST_FATES.get(name, ())]
        self._submit_fates.sort()
        self._request_fates.sort()
        self._frame_choices = [0] + [
            fate for fate, name in ((1, "frames_held"), (2, "frames_lost"), (3, "frames_doubled")) if name in families
        ]
        self._early = 1024 if "frames_early" in families else 0
        kinds = [0, 0, 0]
        if "markets" in families:
            kinds.append(1)
        if "conditionals" in families:
            kinds.append(2)
        self._kinds = kinds
        self._odd_kinds = [name for name in odd.HARMLESS if "frames_odd" in families]
        self._odd_kinds += [kind for family, kinds in odd.EXTREME.items() if family in families for kind in kinds]
        self._names = self._weighted(setup)

    def _weighted(self, setup: Setup) -> list[str]:
        weights = {"submit": 6, "fill": 6, "cancel": 2, "modify": 2, "end": 2, "reconcile": 3, "wait": 2}
        extra = {
            "frames_held": {"deliver": 4},
            "frames_doubled": {"deliver": 3},
            "frames_replayed": {"replay": 4},
            "stream_lost": {"disconnect": 2, "reconnect": 2},
            "reads_fail": {"read_fault": 3},
            "reads_odd": {"read_odd": 3},
            "odd_executions": {"read_odd": 3},
            "odd_positions": {"read_odd": 3},
            "reads_interrupted": {"read_interrupted": 2},
            "reads_lag": {"lag": 4},
            "reads_torn": {"torn": 4},
            "executions_hidden": {"hide_fill": 4},
            "orders_hidden": {"hide_order": 3},
            "outside_orders": {"outside": 4},
            "outside_amends": {"outside_amend": 4},
            "batches": {"submit_many": 2, "cancel_all": 2},
            "conditionals": {"trigger": 3},
            "balances": {"deposit": 3},
            "clock_steps": {"step_clock": 2},
            "sleeps": {"sleep": 2},
            "days_dark": {"days": 1},
            "restarts": {"restart": 2},
            "ids_reused": {"restart": 2, "resubmit": 3},
        }
        for family in sorted(self._families):
            for name, weight in extra.get(family, {}).items():
                weights[name] = weights.get(name, 0) + weight
        if self._odd_kinds:
            weights["odd_frame"] = 3
        if setup.category == "linear" and "balances" in self._families:
            weights["fund"] = 1
        return [name for name, weight in weights.items() for _ in range(weight)]

    def steps(self, count: int) -> list[Step]:
        """Draw that many steps; the first is a submit."""
        drawn = [self._step("submit")]
        for _ in range(count - 1):
            drawn.extend(self._several(self._names[int(self._rng.random() * len(self._names))]))
        return drawn

    def _several(self, name: str) -> list[Step]:
        """One drawn name as steps: sleeping and darkness are several."""
        if name == "sleep":
            return [("sleep", 0, 60_000 + self._below(10_000_000)), *self._away(2), ("wake", 0), ("reconnect", 5)]
        if name == "days":
            away = [("sleep", 0, 13 * 3_600_000), *self._away(2), ("sleep", 0, 13 * 3_600_000 + self._below(10**8))]
            return [*away, *self._away(1), ("wake", 0), ("reconnect", 5)]
        return [self._step(name)]

    def _away(self, count: int) -> list[Step]:
        return [(*self._step(("fill", "end", "fill", "outside_amend")[self._below(4)]),) for _ in range(count)]

    def _step(self, name: str) -> Step:
        below = self._below
        wait_ms = self._wait_ms()
        match name:
            case "submit" | "submit_many":
                fate = self._submit_fates[below(len(self._submit_fates))]
                kind = self._kinds[below(len(self._kinds))] if name == "submit" else 0
                return (name, wait_ms, below(1024) + (below(2) and self._early) + (kind << 11), fate, self._frames())
            case "resubmit":
                return (name, wait_ms, below(1024), below(1024))
            case "cancel":
                fate = self._request_fates[below(len(self._request_fates))]
                return (name, wait_ms, below(1024) + (below(2) and self._early), fate, self._frames())
            case "cancel_all":
                fate = self._request_fates[below(len(self._request_fates))]
                return (name, wait_ms, below(2), fate, self._frames())
            case "modify":
                fate = self._request_fates[below(len(self._request_fates))]
                return (name, wait_ms, below(64), below(1024) + (below(2) and self._early), fate, self._frames())
            case "fill" | "end" | "outside_amend":
                return (name, wait_ms, below(64), below(256), self._frames())
            case "outside":
                return (name, wait_ms, below(1024), self._frames())
            case "trigger" | "fund":
                return (name, wait_ms, below(64), self._frames())
            case "deposit":
                amount = -(10**9) if below(3) == 0 else below(100_000) - 50_000
                return (name, wait_ms, below(3), amount, self._frames())
            case "deliver" | "replay":
                return (name, wait_ms, below(1024))
            case "odd_frame":
                return (name, wait_ms, self._odd_kinds[below(len(self._odd_kinds))], below(64))
            case "read_fault":
                kind = below(READ_FAULTS.index("odd_row"))
                if "reads_paged" in self._families and below(2):
                    kind = READ_FAULTS.index(_PAGE_FAULTS[below(3)])
                return (name, wait_ms, kind, _READ_PATHS[below(6)], 1 + below(4))
            case "read_odd":
                path = ("orders", "history", "balances")[below(3)]
                if "odd_executions" in self._families:
                    path = "executions"
                if "odd_positions" in self._families:
                    path = "positions"
                return ("read_fault", wait_ms, READ_FAULTS.index("odd_row"), path, 1 + below(3))
            case "read_interrupted":
                return ("read_fault", wait_ms, READ_FAULTS.index("interrupted"), _READ_PATHS[below(6)], 1)
            case "lag":
                return (name, wait_ms, 50 + below(2_500), 1 + below(6))
            case "hide_fill":
                return (name, wait_ms, below(64), below(256), (2_000, 20_000, 80_000)[below(3)])
            case "hide_order":
                return (name, 0, 1_000 + below(7_000))
            case "torn":
                inner = ("fill", "end", "outside", "outside_amend", "deliver", "submit", "cancel", "deposit")[below(8)]
                return (name, wait_ms, below(6), self._step(inner))
            case "step_clock":
                return (name, wait_ms, (below(2) or -1) * (500 + below(3_600_000)))
            case "restart":
                return (name, wait_ms, (5, 4_000, 400_000)[below(3)])
            case "wait":
                return (name, wait_ms, (300, 3_000, 31_000)[below(3)])
        return (name, wait_ms)

    def _below(self, limit: int) -> int:
        return int(self._rng.random() * limit)

    def _wait_ms(self) -> int:
        drawn = self._rng.random()
        return 0 if drawn < 0.3 else int(drawn * 40) if drawn < 0.95 else int((drawn - 0.95) * 40_000)

    def _frames(self) -> int:
        """Two bits for each of the first eight frames."""
        choices = self._frame_choices
        if len(choices) == 1 or self._rng.random() < 0.4:
            return 0
        fates = 0
        drawn = int(self._rng.random() * len(choices) ** 8)
        for place in range(0, 16, 2):
            drawn, choice = divmod(drawn, len(choices))
            fates |= choices[choice] << place
        return fates


def make(seed: int, extra: Collection[str] = ()) -> tuple[Setup, list[Step], frozenset[str]]:
    """The schedule of a seed; ``extra`` adds families that are otherwise left out (the open failures')."""
    rng = Random(seed)
    count = int(rng.random() * 5) + int(rng.random() * 2)
    families = frozenset(rng.sample(FAMILIES, count)) - gated() | frozenset(extra)
    category = "spot" if rng.random() < 0.6 else "linear"
    setup = Setup(
        category=category,
        page_size=1 + int(rng.random() * 3) if "reads_paged" in families else 50,
        poll_interval_ms=POLLS_MS[int(rng.random() * len(POLLS_MS))],
        recovery_window_ms=0 if "short_windows" in families else 300_000,
        lists_conditionals=rng.random() < 0.5,
        shows_closed=rng.random() < 0.7,
        has_venue_clock=rng.random() < 0.7,
    )
    length = 5 + int(rng.random() ** 6 * 36)
    return setup, _Maker(rng, families, setup).steps(length), families
