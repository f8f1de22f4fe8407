"""A client and a venue on loopback."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from qkt.bybit.transport.client import BybitClient
from qkt.venue import SimulatedBybit
from tests.support.transport_rig import CALM, FAST_BACKOFF, QUICK


@pytest.fixture
def venue() -> Iterator[SimulatedBybit]:
    with SimulatedBybit(seed=1) as running:
        yield running


@pytest.fixture
def make_client(venue: SimulatedBybit) -> Iterator[Callable[..., BybitClient]]:
    """Clients for the venue, quick to come back; closed at the end."""
    made: list[BybitClient] = []

    def make(key: str = "key", secret: str = "secret", **options: Any) -> BybitClient:
        defaults: dict[str, Any] = {
            "rest_url": venue.rest_url,
            "ws_url": venue.ws_url,
            "timing": CALM,
            "backoff": FAST_BACKOFF,
        }
        client = BybitClient(key, secret, **(defaults | options))
        made.append(client)
        return client

    yield make
    for client in made:
        client.close()


@pytest.fixture
def client(make_client: Callable[..., BybitClient]) -> BybitClient:
    return make_client()


@pytest.fixture
def quick_client(make_client: Callable[..., BybitClient]) -> BybitClient:
    """One that notices within half a second what others notice within ten."""
    return make_client(timing=QUICK)
