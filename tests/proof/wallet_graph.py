"""Every order in which wallet frames and wallet reads can arrive: the newest dated word stands, an error says nothing.

Two frames, a read that began before the second frame, one that began after it, and one that fails, in all orders of
arrival and with any of the frames repeated at the end. A read is dated by its start, wherever it arrives.
"""

from __future__ import annotations

from decimal import Decimal
from functools import cache
from itertools import permutations
from typing import Any

from qkt.broker.state import BrokerState
from qkt.bybit.recovery import BybitStateRecovery
from qkt.errors import VenueUnavailableError
from qkt.testing import FakeBybitClient, FixedClock
from qkt.testing.builders import wallet_envelope
from tests.proof.law import Violation
from tests.proof.state_graph import Heard

WALLET = "/v5/account/wallet-balance"
# what, dated at, the coins it tells; a read tells all coins, a frame only those that it lists
WORDS = {
    "frame 1": (200, {"USDT": "900", "BTC": "1"}),
    "read 1": (300, {"USDT": "900", "BTC": "1", "ETH": "5"}),
    "frame 2": (400, {"USDT": "800"}),
    "read 2": (500, {"USDT": "800", "BTC": "2"}),
    "failed read": (600, None),
    "refused read": (700, None),
}


def check_every_order_of_arrival() -> int:
    """Returns how many orders of arrival were checked."""
    ends = set()
    count = 0
    for arrival in permutations(WORDS):
        for repeated in ((), ("frame 1",), ("frame 2",)):
            ends.add(_play((*arrival, *repeated)))
            count += 1
    if len(ends) != 1:
        raise Violation(f"the wallet depends on the order of arrival: {ends}")
    return count


def _play(arrival: Any) -> tuple[Any, ...]:
    clock = FixedClock(1_000)
    client, bus = FakeBybitClient(), Heard(clock)
    state = BrokerState(source="BYBIT_SPOT", bus=bus, clock=clock)
    recovery = BybitStateRecovery(client, state, category="spot", clock=clock)
    heard: list[str] = []
    for word in arrival:
        dated_ms, coins = WORDS[word]
        before = dict(client.balances)
        clock.step_wall_ms(dated_ms - clock.now_ms())
        if word.startswith("frame"):
            rows = [{"coin": coin, "walletBalance": total, "locked": "0"} for coin, total in coins.items()]  # type: ignore[union-attr]
            recovery.absorb_wallet_frame({"topic": "wallet", "creationTime": dated_ms, "data": [{"coin": rows}]})
        else:
            client.responses[WALLET] = _answer(word, coins)
            recovery._reconcile_balances()
        if coins is None:
            if dict(client.balances) != before or bus.take():
                raise Violation(f"after {heard} a {word} turned {before} into {dict(client.balances)}")
            continue
        heard.append(word)
        _check(client, heard)
        for event in bus.take():
            if event.balances != client.balances:  # type: ignore[attr-defined]
                raise Violation(f"told {event.balances}, holds {client.balances}")  # type: ignore[attr-defined]
    return tuple(sorted((coin, total) for coin, total in client.balances.items() if total))


def _answer(word: Any, coins: Any) -> Any:
    if word == "failed read":
        return VenueUnavailableError("no answer", path=WALLET)
    if word == "refused read":
        return {"retCode": 0, "retMsg": "OK", "result": {"list": []}, "retExtInfo": {}, "time": 0}
    return wallet_envelope(**coins)


def _check(client: Any, heard: Any) -> None:
    """Per coin the newest word; a read's silence about a coin is a word (the venue omits zeros), a frame's is none."""
    dated = sorted((WORDS[word][0], word, WORDS[word][1]) for word in heard)
    want: dict[str, Decimal] = {}
    for _dated_ms, word, coins in dated:
        if word.startswith("read"):
            want = dict.fromkeys(want, Decimal(0))
        want |= {coin: Decimal(total) for coin, total in coins.items()}  # type: ignore[union-attr]
    have = {coin: total for coin, total in client.balances.items() if total or coin in want}
    want = {coin: total for coin, total in want.items() if total or coin in have}
    if have != want:
        raise Violation(f"after {heard} the wallet is {have}, the newest words say {want}")


checked = cache(check_every_order_of_arrival)  # once for all who ask; never with a mistake planted
