"""The mutation run itself: it makes the changes it says, kills what a test notices, and lists what none does."""

from __future__ import annotations

import ast

import pytest

from tests.mutation import __main__ as run
from tests.mutation.mutations import mutants_of

SOURCE = '''
def rank(a, b):
    """Text."""
    assert a
    if a < b and not b:
        return max(a, 1)
    return a + b
'''


def test_each_place_is_changed_once_and_alone() -> None:
    made = [(mutant.line, mutant.what.partition(":")[0]) for mutant in mutants_of(SOURCE)]
    assert made == [
        (5, "and becomes or"),
        (5, "part 1 is left out"),
        (5, "part 2 is left out"),
        (5, "Lt becomes LtE"),
        (5, "not is left out"),
        (6, "max becomes min"),
        (6, "1 becomes 2"),
        (7, "Add becomes Sub"),
    ]
    texts = {ast.unparse(mutant.tree) for mutant in mutants_of(SOURCE)}
    assert len(texts) == len(made)
    assert ast.unparse(ast.parse(SOURCE)) not in texts


@pytest.mark.verify
@pytest.mark.timeout(600)
def test_a_mutant_that_a_test_notices_is_killed_and_another_is_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    line = next(
        number
        for number, text in enumerate((run.ROOT / "qkt/orders/pending.py").read_text().splitlines(), start=1)
        if "report.updated_ms >= intent.sent_ms" in text
    )
    monkeypatch.setitem(run.TARGETS, "qkt.orders.pending", ("tests/orders/test_pending.py",))
    assert run.survivors_of("qkt.orders.pending", workers=2, lines=range(line, line + 1)) == (4, [])
    monkeypatch.setitem(run.TARGETS, "qkt.orders.pending", ("tests/orders/test_fills.py",))
    total, survived = run.survivors_of("qkt.orders.pending", workers=2, lines=range(line, line + 1))
    assert len(survived) == total == 4
