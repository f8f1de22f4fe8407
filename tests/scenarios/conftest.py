"""One stage per test; whatever happened on it, what was said obeyed law 3."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.stage import Stage, assert_lawful


@pytest.fixture
def stage() -> Iterator[Stage]:
    staged = Stage()
    yield staged
    if staged._broker is not None:
        staged._broker.close()
    assert_lawful(staged.ever_heard)
