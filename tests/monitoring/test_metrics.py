"""What Prometheus reads, from events and from state."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from qkt.broker.composite import CompositeBroker
from qkt.broker.paper.broker import PaperBroker
from qkt.broker.symbol_pattern import SymbolPattern
from qkt.bus import EventBus
from qkt.errors import InvalidRequestError
from qkt.events import BrokerEvent
from qkt.monitoring import Metrics
from qkt.monitoring.observed import observe
from tests.monitoring.conftest import Account, new_account

SPOT = {"broker": "BYBIT_SPOT"}


class Scraped:
    """The samples of one scrape, by name and labels."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.text = generate_latest(registry).decode()
        families = list(text_string_to_metric_families(self.text))
        self.samples = [sample for family in families for sample in family.samples]

    def value(self, name: str, **labels: str) -> float | None:
        """The one sample with these labels, None when there is none."""
        found = [each.value for each in self.samples if each.name == name and labels.items() <= each.labels.items()]
        assert len(found) <= 1, f"{name} {labels} is ambiguous: {found}"
        return found[0] if found else None


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def metrics(account: Account, registry: CollectorRegistry) -> Metrics:
    return Metrics(account.broker, registry, clock=account.clock)


def test_ages_are_exported_per_domain_and_grow(account: Account, registry: CollectorRegistry, metrics: Metrics) -> None:
    account.clock.advance_ms(1_500)

    scraped = Scraped(registry)

    assert scraped.value("qkt_state_age_seconds", domain="orders", **SPOT) == 1.5
    assert scraped.value("qkt_state_age_seconds", domain="balances", **SPOT) == 1.5
    assert scraped.value("qkt_state_age_seconds", domain="positions", **SPOT) is None


def test_open_orders_are_counted_by_status(account: Account, registry: CollectorRegistry, metrics: Metrics) -> None:
    account.submit("c1")
    account.submit("c2")
    account.tell_order("New", client_order_id="c1")

    scraped = Scraped(registry)

    assert scraped.value("qkt_open_orders", status="NEW", **SPOT) == 1
    assert scraped.value("qkt_open_orders", status="ACKNOWLEDGED", **SPOT) == 1
    assert scraped.value("qkt_open_orders", status="PARTIALLY_FILLED", **SPOT) == 0


def test_an_unresolved_order_is_counted_with_its_age(
    account: Account, registry: CollectorRegistry, metrics: Metrics
) -> None:
    account.lose_a_submit()
    account.clock.advance_ms(31_000)

    scraped = Scraped(registry)

    assert scraped.value("qkt_unresolved_orders", **SPOT) == 1
    assert scraped.value("qkt_unresolved_seconds", **SPOT) == 31


def test_submit_latency_is_measured_up_to_the_evidence(
    account: Account, registry: CollectorRegistry, metrics: Metrics
) -> None:
    account.submit()
    account.clock.advance_ms(150)
    account.tell_order("New")

    scraped = Scraped(registry)

    assert scraped.value("qkt_submit_latency_seconds_count", origin="stream", **SPOT) == 1
    assert scraped.value("qkt_submit_latency_seconds_sum", origin="stream", **SPOT) == 0.15
    assert scraped.value("qkt_submit_latency_seconds_bucket", le="0.1", **SPOT) == 0
    assert scraped.value("qkt_submit_latency_seconds_bucket", le="0.2", **SPOT) == 1


def test_fill_delay_is_measured_in_venue_time(account: Account, registry: CollectorRegistry, metrics: Metrics) -> None:
    account.client.clock_offset_ms = 40
    account.submit()
    account.tell_fill(ago_ms=60)

    scraped = Scraped(registry)

    assert scraped.value("qkt_fill_delay_seconds_sum", origin="stream", **SPOT) == pytest.approx(0.1)
    assert scraped.value("qkt_fills_total", origin="stream", late="no", **SPOT) == 1


def test_order_events_are_counted_by_kind(account: Account, registry: CollectorRegistry, metrics: Metrics) -> None:
    account.submit()
    account.tell_order("New")
    account.tell_order("Cancelled")

    scraped = Scraped(registry)

    assert scraped.value("qkt_order_events_total", kind="accepted", **SPOT) == 1
    assert scraped.value("qkt_order_events_total", kind="cancelled", **SPOT) == 1


def test_rounds_and_discrepancies_are_counted_once(
    account: Account, registry: CollectorRegistry, metrics: Metrics
) -> None:
    account.submit()
    account.tell_order("New")
    account.clock.advance_ms(10_000)
    execution = {
        "symbol": "BTCUSDT",
        "orderId": account.broker_order_id("c1"),
        "orderLinkId": "c1",
        "side": "Buy",
        "orderType": "Limit",
        "execId": "e9",
        "execPrice": "100",
        "execQty": "1",
        "orderQty": "1",
        "execFee": "0",
        "execType": "Trade",
        "execTime": str(account.clock.now_ms() - 9_000),
    }
    account.client.responses["/v5/execution/list"] = {
        "retCode": 0,
        "retMsg": "OK",
        "result": {"list": [execution], "nextPageCursor": ""},
        "time": account.clock.now_ms(),
    }
    account.broker.reconcile()
    Scraped(registry)

    scraped = Scraped(registry)

    assert scraped.value("qkt_rounds_total", trigger="asked", complete="yes", **SPOT) == 1
    assert scraped.value("qkt_discrepancies_total", kind="missed_fill", cause="ws_drop", **SPOT) == 1
    assert scraped.value("qkt_fill_delay_seconds_sum", origin="reconcile", **SPOT) == 9


def test_a_lost_stream_is_an_open_episode(account: Account, registry: CollectorRegistry, metrics: Metrics) -> None:
    account.client.emit_disconnect("ping timeout")

    scraped = Scraped(registry)

    assert scraped.value("qkt_degraded", domain="stream", **SPOT) == 1
    assert scraped.value("qkt_degradations_total", domain="stream", **SPOT) == 1
    assert scraped.value("qkt_stream_live", client="BYBIT_SPOT") == 0


def test_handler_errors_and_queue_depth_are_exported(
    account: Account, registry: CollectorRegistry, metrics: Metrics
) -> None:
    def fails(event: BrokerEvent) -> None:
        raise RuntimeError("a fault of the strategy")

    account.bus.subscribe(BrokerEvent, fails)
    account.client.emit_disconnect("ping timeout")

    scraped = Scraped(registry)

    assert scraped.value("qkt_handler_errors_total", bus="BYBIT_SPOT") == 1
    assert scraped.value("qkt_event_queue_depth", bus="BYBIT_SPOT") == 0


def test_a_composite_exports_each_leaf_under_its_own_name(account: Account, registry: CollectorRegistry) -> None:
    paper = PaperBroker(EventBus(account.clock), account.clock)
    both = CompositeBroker([(SymbolPattern.prefix("BYBIT_SPOT:"), account.broker)], fallback=paper)
    Metrics(both, registry, clock=account.clock)

    scraped = Scraped(registry)

    assert scraped.value("qkt_unresolved_orders", broker="BYBIT_SPOT") == 0
    assert scraped.value("qkt_unresolved_orders", broker=paper.name) == 0


def test_brokers_of_one_name_are_numbered(account: Account) -> None:
    other = new_account()

    assert [each.name for each in observe([account.broker, other.broker])] == ["BYBIT_SPOT", "BYBIT_SPOT-2"]
    other.broker.close()


def test_close_leaves_the_registry_and_the_bus(account: Account, registry: CollectorRegistry) -> None:
    metrics = Metrics(account.broker, registry, clock=account.clock)

    metrics.close()
    metrics.close()

    assert "qkt_" not in Scraped(registry).text
    assert "subscriptions=0" in repr(account.bus)


@pytest.mark.parametrize("wrong", [[], ["BYBIT_SPOT"]])
def test_something_that_is_no_broker_is_refused(wrong: list[str]) -> None:
    with pytest.raises(InvalidRequestError):
        observe(wrong)  # type: ignore[arg-type]
