"""A client and a venue on loopback."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from qkt.bybit.transport.client import BybitClient
from qkt.venue import SimulatedBybit
from tests.support.transport_rig import CALM, FAST_BACKOFF, QUICK


@pytest.fixture
def venue() -> Iterator[SimulatedBybit]:
    with SimulatedBybit(seed=1) as running:
        yield running


@pytest.fixture
def make_client(venue) -> Iterator[Callable[..., BybitClient]]:
    """Clients for the venue, quick to come back; closed at the end."""
    made = []

    def make(key="key", secret="secret", **options):
        options = {
            "rest_url": venue.rest_url,
            "ws_url": venue.ws_url,
            "timing": CALM,
            "backoff": FAST_BACKOFF,
        } | options
        client = BybitClient(key, secret, **options)
        made.append(client)
        return client

    yield make
    for client in made:
        client.close()


@pytest.fixture
def client(make_client) -> BybitClient:
    return make_client()


@pytest.fixture
def quick_client(make_client) -> BybitClient:
    """One that notices within half a second what others notice within ten."""
    return make_client(timing=QUICK)
