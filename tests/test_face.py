"""What a trader imports, pinned: names are promises."""

from __future__ import annotations

import ast
from pathlib import Path

import qkt
import qkt.testing

CONTRACT = set(
    """
    BybitClient BybitSpotBroker BybitLinearBroker LogBroker PaperBroker CompositeBroker SymbolPattern EventBus
    SystemClock PositionTracker PeriodicReconciler ThreadScheduler ReconnectSupervisor ExponentialBackoff
    FixedDelayBackoff Side TimeInForce MarketOrder LimitOrder StopOrder StopLimitOrder IfTouchedOrder
    OrderModification SubmitAck SubmitOutcome OrderTypeCapability OrderView ReconcileReport Wallet
    new_client_order_id BrokerEvent OrderEvent FillEvent OrderAccepted OrderRejected OrderFilled
    OrderPartiallyFilled OrderCancelled OrderModified OrderModifyFailed OrderCancelFailed OrderStatusUnknown
    BalancesUpdated PositionReconciled HealthDegraded HealthRestored QktError InvalidRequestError
    BybitConnectError BybitApiError BybitRateLimitError OutcomeUnknownError VenueUnavailableError
    VenueProtocolError ReconcileError WaitTimeoutError
    """.split()  # noqa: SIM905 - a list of words reads better as words
)


def test_every_name_of_the_contract_is_there() -> None:
    assert CONTRACT - set(qkt.__all__) == set()


def test_every_public_name_exists_and_has_a_docstring() -> None:
    assert [name for name in qkt.__all__ if name != "__version__" and not getattr(qkt, name).__doc__] == []


def test_the_list_of_public_names_is_sorted_and_complete() -> None:
    tree = ast.parse(Path(qkt.__file__).read_text())
    imported = {alias.name for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names}

    assert list(qkt.__all__) == sorted(qkt.__all__)
    assert set(qkt.__all__) == imported


def test_the_test_kit_has_its_names() -> None:
    assert {"FakeBybitClient", "FixedClock", "TickScheduler", "check_broker"} <= set(qkt.testing.__all__)


def test_the_bybit_brokers_are_brokers_and_the_clients_are_transports() -> None:
    from qkt.bybit.transport.protocol import BybitTransport

    brokers = (qkt.BybitSpotBroker, qkt.BybitLinearBroker, qkt.LogBroker, qkt.PaperBroker, qkt.CompositeBroker)
    members = {name for name in vars(qkt.Broker) if not name.startswith("_")}
    assert all(hasattr(broker, name) for broker in brokers for name in members)
    transport = {name for name in vars(BybitTransport) if not name.startswith("_")}
    assert all(hasattr(client, name) for client in (qkt.BybitClient, qkt.testing.FakeBybitClient) for name in transport)


def test_every_public_method_of_every_public_class_has_a_docstring() -> None:
    silent = [
        f"{name}.{member}"
        for name in qkt.__all__
        if isinstance(getattr(qkt, name), type)
        for member, value in vars(getattr(qkt, name)).items()
        if not member.startswith("_")
        and (callable(value) or isinstance(value, property))
        and not (value.__doc__ or _inherited_doc(getattr(qkt, name), member))
    ]
    assert silent == []


def _inherited_doc(owner: type, member: str) -> str | None:
    docs = (vars(base)[member].__doc__ for base in owner.__mro__[1:] if member in vars(base))
    return next((doc for doc in docs if doc), None)
