"""Pytest fixtures for users: `bybit_venue`, `fake_bybit_client`, `tick_scheduler`. Installed with qkt."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from qkt.testing.fake_client import FakeBybitClient
    from qkt.testing.scheduler import TickScheduler
    from qkt.venue import SimulatedBybit


@pytest.fixture
def fake_bybit_client() -> FakeBybitClient:
    """A transport in memory."""
    from qkt.testing.fake_client import FakeBybitClient

    return FakeBybitClient()


@pytest.fixture
def tick_scheduler() -> TickScheduler:
    """A scheduler whose time passes when the test says so."""
    from qkt.testing.scheduler import TickScheduler

    return TickScheduler()


@pytest.fixture
def bybit_venue() -> Iterator[SimulatedBybit]:
    """A simulated Bybit on loopback, started; its account is ``key`` / ``secret``. Needs the extra ``qkt[venue]``."""
    venue = pytest.importorskip("qkt.venue", reason="the simulated venue needs: pip install 'qkt[venue]'")
    with venue.SimulatedBybit(seed=1) as running:
        yield running
