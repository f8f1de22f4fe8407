"""What the page says: the sentence, the time line, and the tables."""

from __future__ import annotations

from decimal import Decimal
from xml.etree import ElementTree

import attrs
import pytest

from qkt.health import Alarm
from qkt.model.order_kinds import PositionSide
from qkt.model.positions import Position
from qkt.model.protection import Protection, ProtectionKind, ProtectionState
from qkt.monitoring.observed import ObservedBroker, PositionRow, observe
from qkt.monitoring.status.history import Mark, Spell, StatusHistory
from qkt.monitoring.status.page import sections_of
from qkt.monitoring.status.snapshot import Snapshot, connections_of, snapshot_of_broker
from qkt.monitoring.status.timeline import timeline_svg
from qkt.monitoring.status.verdict import judge, plain_reason, seconds
from qkt.monitoring.unresolved import UnresolvedSince
from tests.monitoring.conftest import Account

NOW_MS = 1_767_225_600_000


def snapshot(account: Account, *, bound_ms: int = 15_000) -> Snapshot:
    """The account now."""
    observed, now_ms = observe(account.broker), account.clock.now_ms()
    orders = account.broker.open_orders()
    since_ms = UnresolvedSince().look(orders, now_ms)
    brokers = [
        snapshot_of_broker(each, bound_ms=bound_ms, unresolved_since_ms=since_ms, orders=orders) for each in observed
    ]
    return Snapshot(at_ms=now_ms, brokers=tuple(brokers), connections=connections_of(observed, now_ms))


def test_all_is_known_as_of_the_oldest_domain(account: Account) -> None:
    account.clock.advance_ms(800)
    verdict = judge(snapshot(account))
    assert (verdict.level, verdict.sentence) == ("known", "Everything known as of 0.8 s ago")


def test_a_lost_stream_within_the_bounds_is_a_warning(account: Account) -> None:
    account.client.emit_disconnect("WebSocketTimeoutException: no pong for 10 s")
    verdict = judge(snapshot(account))
    assert (verdict.level, verdict.warnings) == ("warning", ("BYBIT_SPOT stream: no pong for 10 s",))


def test_an_age_beyond_its_bound_is_named(account: Account) -> None:
    account.clock.advance_ms(20_000)
    verdict = judge(snapshot(account))
    assert verdict.sentence == (
        "Not known: BYBIT_SPOT orders, executions and balances were last read 20 s ago (bound 15 s)"
    )


def test_an_unresolved_order_comes_first(account: Account) -> None:
    account.lose_a_submit("lost-1")
    account.clock.advance_ms(20_000)
    verdict = judge(snapshot(account))
    assert verdict.sentence == "Not known: order lost-1 is unresolved for 20 s; do not send it again"
    assert len(verdict.gaps) == 2


def test_quantity_without_its_execution_is_not_known(account: Account) -> None:
    account.submit("c1")
    account.tell_order("PartiallyFilled", cum="0.3")
    verdict = judge(snapshot(account))
    assert verdict.gaps == ("0.3 of order c1 traded, and no execution shows it yet",)


def test_unresolved_orders_lead_the_table(account: Account) -> None:
    account.submit("c1")
    account.lose_a_submit("lost-1")
    taken = snapshot(account)
    table = sections_of(taken, judge(taken), [], [])["orders"]
    assert table.index("lost-1") < table.index(">c1<")


def test_a_long_list_of_orders_is_cut_and_counted(account: Account) -> None:
    account.submit("c1")
    taken = snapshot(account)
    view = taken.brokers[0].orders[0]
    many = attrs.evolve(taken.brokers[0], orders=[view] * 250)
    table = sections_of(attrs.evolve(taken, brokers=(many,)), judge(taken), [], [])["orders"]
    assert table.count("<tr class=") == 100
    assert "and 150 more" in table


def test_the_history_follows_fills_and_spells(account: Account) -> None:
    history = StatusHistory([account.bus], clock=account.clock)
    history.name_brokers(observe(account.broker))
    account.submit("c1")
    account.tell_fill("0.4")
    account.client.emit_disconnect("no pong")
    account.clock.advance_ms(5_000)
    account.client.fire_on_reconnect()

    marks, spells = history.since(0)

    assert [(mark.kind, mark.text) for mark in marks] == [("buy", "buy 0.4 BTCUSDT @ 100")]
    assert [(spell.domain, (spell.until_ms or 0) - spell.since_ms) for spell in spells] == [("stream", 5_000)]


def test_an_episode_from_before_listening_is_taken_over(account: Account) -> None:
    account.client.emit_disconnect("no pong")
    history = StatusHistory([account.bus], clock=account.clock)
    history.name_brokers(observe(account.broker))
    history.take_over("BYBIT_SPOT", account.broker.health, account.broker.reports)

    _, spells = history.since(0)

    assert [(spell.domain, spell.until_ms) for spell in spells] == [("stream", None)]


def mark(at_ms: int, kind: str = "buy") -> Mark:
    return Mark(at_ms=at_ms, kind=kind, broker="B", text="<0.1 & more>")  # type: ignore[arg-type]


@pytest.mark.parametrize("is_narrow", [False, True])
def test_the_time_line_is_well_formed_and_within_its_box(is_narrow: bool) -> None:
    marks = [mark(NOW_MS - minute * 60_000, kind) for minute in range(40) for kind in ("buy", "sell", "discrepancy")]
    spells = [
        Spell(broker="B", domain=f"d{n}", reason="<x>", since_ms=NOW_MS - n * 500_000, until_ms=None) for n in range(9)
    ]
    picture = ElementTree.fromstring(timeline_svg(marks, spells, end_ms=NOW_MS, is_narrow=is_narrow))

    width = float(picture.attrib["viewBox"].split()[2])
    for rect in picture.iter("rect"):
        assert 0 <= float(rect.attrib["x"]) <= width
        assert float(rect.attrib["x"]) + float(rect.attrib["width"]) <= width


def test_marks_that_would_overlap_are_one_with_their_number() -> None:
    picture = timeline_svg([mark(NOW_MS - 1_000 * n) for n in range(5)], [], end_ms=NOW_MS)
    assert picture.count('class="mark buy"') == 1
    assert ">5</text>" in picture


@pytest.mark.parametrize(
    ("span_ms", "text"),
    [(0, "0.0 s"), (840, "0.8 s"), (45_500, "45 s"), (240_000, "4 min"), (10_800_000, "3 h")],
)
def test_durations_read_as_a_person_says_them(span_ms: int, text: str) -> None:
    assert seconds(span_ms) == text


def test_the_class_of_an_exception_is_left_out() -> None:
    assert plain_reason("WebSocketTimeoutException: no pong") == "no pong"
    assert plain_reason("order.spot: refused") == "order.spot: refused"


def test_a_reason_says_each_clause_once_and_is_bounded() -> None:
    assert plain_reason("page 1: HTTP 503; page 1: HTTP 503; page 2: HTTP 503") == "page 1: HTTP 503; page 2: HTTP 503"
    assert len(plain_reason("x" * 1_000)) == 161


def test_balances_show_totals_and_their_age(account: Account) -> None:
    account.client.update_balances({"USDT": Decimal("1000.50"), "DUST": Decimal(0)})
    taken = snapshot(account)
    table = sections_of(taken, judge(taken), [], [])["balances"]
    assert "1000.5" in table
    assert "DUST" not in table


def test_a_lost_exit_is_named_beside_its_position_and_in_the_warnings(account: Account) -> None:
    row = PositionRow(
        symbol="BYBIT_LINEAR:BTCUSDT",
        index=0,
        quantity="-0.05",
        avg_price="60000",
        protection=("stop 63000 does not stand",),
        is_protection_lost=True,
    )
    taken = snapshot(account)
    taken = attrs.evolve(taken, brokers=(attrs.evolve(taken.brokers[0], positions=[row]),))
    verdict = judge(taken)

    assert verdict.warnings == ("BYBIT_SPOT position BYBIT_LINEAR:BTCUSDT lacks an exit: stop 63000 does not stand",)
    assert '<td class="alarm">stop 63000 does not stand</td>' in sections_of(taken, verdict, [], [])["positions"]


def test_exits_are_matched_to_their_position_with_their_state(account: Account) -> None:
    class Perpetuals:
        def positions(self) -> dict[tuple[str, int], Position]:
            return {("X:BTC", 1): Position(quantity=Decimal(1), avg_price=Decimal(100))}

        def protections(self) -> list[Protection]:
            stop = Protection(
                symbol="X:BTC",
                position_side=PositionSide.LONG,
                kind=ProtectionKind.STOP_LOSS,
                state=ProtectionState.STANDS,
                price=Decimal(90),
            )
            return [stop, attrs.evolve(stop, position_side=PositionSide.SHORT)]

    rows = ObservedBroker(Perpetuals(), "X").positions()  # type: ignore[arg-type]
    assert rows is not None
    assert rows[0].protection == ("stop 90",)


def test_a_standing_alarm_is_a_warning_until_it_is_acknowledged(account: Account) -> None:
    taken = snapshot(account)
    alarm = Alarm(domain="split_brain", reason="x was placed by another run", since_ms=0)
    health = attrs.evolve(taken.brokers[0].health, alarms=(alarm,))
    verdict = judge(attrs.evolve(taken, brokers=(attrs.evolve(taken.brokers[0], health=health),)))
    assert verdict.warnings == ("BYBIT_SPOT alarm, to be acknowledged: split_brain: x was placed by another run",)
