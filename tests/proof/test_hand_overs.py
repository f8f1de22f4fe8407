"""Hand-overs in one process: owners that die or stop between permit and answer, requests that arrive late or never.

The venue takes a create only within its receive window and forgets link ids at once, so nothing but the protocol keeps
an intent from standing there twice. ``QKT_HAND_OVERS`` sets how many are played.
"""

from __future__ import annotations

import contextlib
import os
import random
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from qkt.bybit import ownership_keeper
from qkt.errors import QktError
from qkt.journal.ownership import OwnershipRules
from qkt.testing import FixedClock
from qkt.testing.builders import a_limit_order
from tests.bybit.test_journal import CREATE, NOW_MS, Run, Venue  # type: ignore[attr-defined]

HAND_OVERS = int(os.environ.get("QKT_HAND_OVERS", "40"))
PER_JOURNAL = 20


class Network:
    """Carries creates to a venue that checks their time stamps: at once, late, never, or without an answer."""

    def __init__(self, clock: FixedClock, rng: random.Random) -> None:
        self.venue = Venue(clock)
        self.clock = clock
        self.rng = rng
        self.late: list[Any] = []
        self.refused_late = 0

    def attach(self, run: Run) -> None:
        run.venue.orders, run.venue.executions = self.venue.orders, self.venue.executions
        run.venue.client.responses[CREATE] = self.send

    def send(self, request: Any) -> dict[str, Any]:
        fate = self.rng.choice(["answered", "answered", "answer lost", "late", "lost"])
        if fate in ("answered", "answer lost"):
            self.arrive(request)
        elif fate == "late":
            self.late.append(request)
        if fate != "answered":
            raise TimeoutError(fate)
        order_id = f"b{len(self.venue.orders)}"
        return {
            "retCode": 0,
            "retMsg": "OK",
            "result": {"orderId": order_id, "orderLinkId": request["orderLinkId"]},
            "retExtInfo": {},
            "time": 0,
        }

    def arrive(self, request: Any) -> None:
        assert request.permitted is not None, "a create without a permit"
        if self.clock.now_ms() > request.permitted.accepted_until_ms:
            self.refused_late += 1
            return
        order_id = f"b{len(self.venue.orders) + 1}"
        self.venue.rests(order_id, request["orderLinkId"], qty=request["qty"], price=request["price"])

    def some_arrive(self) -> None:
        for request in list(self.late):
            if self.rng.random() < 0.5:
                self.late.remove(request)
                self.arrive(request)


def test_the_play_notices_a_takeover_that_does_not_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ownership_keeper, "OwnershipRules", partial(OwnershipRules, margin_ms=-60_000))

    with pytest.raises(AssertionError, match="Counter"):
        play_all(tmp_path, 200)


def test_no_intent_is_doubled_or_lost_over_hand_overs(tmp_path: Path) -> None:
    play_all(tmp_path, HAND_OVERS)


def play_all(folder: Path, hand_overs: int) -> None:
    for seed in range(0, hand_overs, PER_JOURNAL):
        play(random.Random(seed), folder / f"{seed}.db")


def play(rng: random.Random, path: Path) -> None:
    clock = FixedClock(NOW_MS)
    network = Network(clock, rng)
    intents: list[str] = []
    owner = next_run(network, path, clock, "owner-0")
    for number in range(PER_JOURNAL):
        standby = next_run(network, path, clock, f"owner-{number + 1}")
        for turn in range(rng.randrange(1, 3)):
            intents.append(f"grid:{number}:{turn}")
            enter(owner, intents[-1])
        clock.advance_ms(rng.randrange(0, 1_500))
        network.some_arrive()
        if rng.random() < 0.3:
            owner.broker.hand_over()  # type: ignore[union-attr]
        if rng.random() < 0.5:
            owner.dies()
            paused = None
        else:
            paused = owner  # stopped by its host: it wakes up when another owns the account
        until_owner(standby, network)
        if paused is not None:
            enter(paused, f"grid:{number}:0")
            paused.dies()
        owner = standby
    for _ in range(20):
        for intent in intents:
            enter(owner, intent)
        owner.passes(7)
        network.some_arrive()
    standing = Counter(intent_of(owner, row["orderLinkId"]) for row in network.venue.orders.values())
    owner.dies()
    assert standing == Counter(dict.fromkeys(intents, 1))


def next_run(network: Network, path: Path, clock: FixedClock, label: str) -> Run:
    run = Run(Venue(clock), path, clock, label)
    network.attach(run)
    run.open()
    return run


def enter(run: Run, intent: str) -> None:
    assert run.broker is not None
    with contextlib.suppress(QktError):  # not the owner any more, or nothing was sent
        run.broker.submit(a_limit_order(), intent=intent)


def until_owner(run: Run, network: Network) -> None:
    assert run.broker is not None
    for _ in range(80):
        if run.broker.ownership.state == "owner":
            return
        run.passes(1)
        network.some_arrive()
    raise AssertionError(f"no takeover: {run.broker.ownership}")


def intent_of(run: Run, link_id: str) -> str:
    assert run.broker is not None
    return run.broker.intent_of(link_id) or link_id


@pytest.mark.verify
@pytest.mark.timeout(600)
def test_no_intent_is_doubled_or_lost_over_two_thousand_hand_overs(tmp_path: Path) -> None:
    play_all(tmp_path, 2_000)
