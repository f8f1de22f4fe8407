"""Reads that end together: `ReadScope`, alone and through the client."""

from __future__ import annotations

import threading

import pytest

from qkt.bybit.transport.adapter import TransportAdapter, as_transport
from qkt.bybit.transport.read_scope import ReadScope
from qkt.errors import InvalidRequestError, VenueUnavailableError
from qkt.testing import FakeBybitClient


def test_cutting_a_scope_ends_the_reads_under_way_and_no_others() -> None:
    cut: list[str] = []
    scope, other = ReadScope(), ReadScope()

    with scope.under_way(cut.append), other.under_way(lambda _reason: cut.append("other")):
        scope.cut("closed")

    assert cut == ["closed"]
    assert (scope.is_cut, other.is_cut) == (True, False)


def test_a_read_that_begins_in_a_cut_scope_is_ended_at_once() -> None:
    cut: list[str] = []
    scope = ReadScope()
    scope.cut("closed")

    with scope.under_way(cut.append):
        assert cut == ["closed"]


def test_a_finished_read_is_not_cut() -> None:
    cut: list[str] = []
    scope = ReadScope()

    with scope.under_way(cut.append):
        pass
    scope.cut("closed")

    assert cut == []


def test_a_plain_transport_refuses_a_read_in_a_cut_scope() -> None:
    client, scope = FakeBybitClient(), ReadScope()
    scope.cut("closed")

    with pytest.raises(VenueUnavailableError):
        client.read_once("/v5/market/time", {}, timeout_ms=1_000, scope=scope)
    assert client.gets == []


def test_a_complete_transport_is_used_as_it_is() -> None:
    client = FakeBybitClient()

    assert as_transport(client) is client


class Bare:
    """The required members alone."""

    is_connected = True

    def get_signed(self, path: str, query: object) -> dict[str, object]:
        return {"retCode": 0, "path": path}

    def _nothing(self, *_arguments: object) -> None:
        pass

    post_signed = subscribe = update_balances = on_disconnect = on_reconnect = _nothing


def test_a_bare_transport_is_completed_once_for_all_brokers_on_it() -> None:
    bare = Bare()
    adapter = as_transport(bare)

    assert isinstance(adapter, TransportAdapter)
    assert as_transport(bare) is adapter
    assert (adapter.account_type, adapter.recv_window_ms, adapter.stream_state) == ("UNIFIED", 5_000, "live")
    assert adapter.read_once("/x", {}, timeout_ms=1)["path"] == "/x"


@pytest.mark.parametrize("client", [object(), FakeBybitClient, None], ids=["object", "class", "None"])
def test_what_is_no_transport_is_refused_by_name(client: object) -> None:
    with pytest.raises(InvalidRequestError, match="BybitTransport"):
        as_transport(client)


def test_a_scope_is_safe_to_cut_while_reads_come_and_go() -> None:
    scope = ReadScope()
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            with scope.under_way(lambda _reason: done.set()):
                pass

    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    scope.cut("closed")
    for thread in threads:
        thread.join(5)
    assert done.is_set()
