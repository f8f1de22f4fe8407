"""``make mutants``: mutate modules one change at a time, run the tests that concern them, and say what survived.

Each mutant lives in a forked process that imports the mutated module instead of the one on disk; nothing is written.
A mutant is killed when a test fails, when the tests cannot even be collected, or when they exceed the time limit.
"""

from __future__ import annotations

import argparse
import ast
import importlib.abc
import importlib.machinery
import importlib.util
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import attrs
import hypothesis  # noqa: F401 - imported before the forks, so that each mutant starts quickly
import pytest
import requests  # noqa: F401

from tests.mutation.mutations import Mutant, mutants_of

ROOT = Path(__file__).parents[2]
HEART = ("tests/orders", "tests/broker/test_state.py")
STORIES = (
    "tests/scenarios/test_fills_and_ends.py",
    "tests/scenarios/test_late_and_missing.py",
    "tests/scenarios/test_outside_orders.py",
    "tests/scenarios/test_cancel_and_amend.py",
    "tests/scenarios/test_submit.py",
    "tests/scenarios/test_snapshots.py",
    "tests/proof/test_state_graph.py",
)
ENTRY = ("tests/bybit/test_spot.py", "tests/bybit/test_batch.py", *STORIES, "tests/scenarios/test_reads.py")
# Module -> its tests, the quickest judges first.
TARGETS: dict[str, tuple[str, ...]] = {
    "qkt.orders.machine": HEART + STORIES,
    "qkt.orders.report_rules": HEART + STORIES,
    "qkt.orders.emission": HEART + STORIES,
    "qkt.orders.pending": HEART + STORIES,
    "qkt.orders.fills": HEART + STORIES,
    "qkt.orders.order": HEART + STORIES,
    "qkt.orders.ledger": (*HEART, *STORIES, "tests/scenarios/test_time_and_memory.py", "tests/proof/test_memory.py"),
    "qkt.orders.deferred": HEART + STORIES,
    "qkt.orders.store": HEART,
    "qkt.bus": ("tests/test_bus.py", "tests/scenarios/test_handlers_and_threads.py"),
    "qkt.reconcile.plan": ("tests/reconcile", *STORIES, "tests/scenarios/test_reads.py"),
    "qkt.reconcile.snapshot": ("tests/reconcile", *STORIES, "tests/scenarios/test_reads.py"),
    "qkt.reconcile.wallet": ("tests/reconcile", "tests/scenarios/test_wallet.py", "tests/proof/test_wallet_graph.py"),
    "qkt.reconcile.positions": ("tests/reconcile", "tests/bybit/test_linear.py"),
    "qkt.bybit.recovery": ENTRY,
    "qkt.bybit.order_entry": ENTRY,
}
SECONDS_PER_MUTANT = 90
SECONDS_PER_QUICK_MUTANT = 25


class _Replacement(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports one module from a syntax tree instead of its file."""

    def __init__(self, name: str, tree: ast.Module) -> None:
        self._name, self._tree = name, tree

    def find_spec(
        self, fullname: str, _path: Sequence[str] | None = None, _target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        return importlib.util.spec_from_loader(fullname, self) if fullname == self._name else None

    def exec_module(self, module: ModuleType) -> None:
        exec(compile(self._tree, f"<mutant of {self._name}>", "exec"), vars(module))


@attrs.define
class Running:
    """A mutant in its process."""

    mutant: Mutant
    pid: int
    deadline: float


def start(name: str, mutant: Mutant, tests: Sequence[str], seconds: float) -> Running:
    pid = os.fork()
    if not pid:
        os._exit(_judge(name, mutant, tests))
    return Running(mutant, pid, time.monotonic() + seconds)


def _judge(name: str, mutant: Mutant, tests: Sequence[str]) -> int:
    """In the child: 0 when every test passed, so the mutant survived."""
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)
    sys.meta_path.insert(0, _Replacement(name, mutant.tree))
    # pytest would otherwise import the modules of a plugin's distribution itself, to rewrite their assertions
    options = ["-x", "-q", "--assert=plain", "-p", "no:cacheprovider", "-m", "not verify", "--no-header"]
    try:
        return int(pytest.main([*options, *tests]))
    except BaseException:
        return 1


def survivors_of(
    name: str, *, workers: int, lines: range | None = None, tests: Sequence[str] = ()
) -> tuple[int, list[Mutant]]:
    """How many mutants a module has, and those that no test noticed."""
    source = (ROOT / Path(*name.split("."))).with_suffix(".py").read_text()
    waiting = [mutant for mutant in mutants_of(source) if lines is None or mutant.line in lines]
    seconds = SECONDS_PER_QUICK_MUTANT if tests else SECONDS_PER_MUTANT
    total, running, survived = len(waiting), list[Running](), list[Mutant]()
    while waiting or running:
        while waiting and len(running) < workers:
            running.append(start(name, waiting.pop(0), tests or TARGETS[name], seconds))
        time.sleep(0.02)
        for one in list(running):
            ended, status = os.waitpid(one.pid, os.WNOHANG)
            if ended:
                running.remove(one)
                if os.waitstatus_to_exitcode(status) == 0:
                    survived.append(one.mutant)
            elif time.monotonic() > one.deadline:
                os.kill(one.pid, signal.SIGKILL)
    return total, survived


def main() -> int:
    """Parse, mutate, print."""
    parser = argparse.ArgumentParser(prog="make mutants", description=__doc__)
    parser.add_argument("modules", nargs="*", default=list(TARGETS), help="modules to mutate (default: all)")
    parser.add_argument("--workers", type=int, default=2, help="processes (default 2)")
    parser.add_argument("--quick", action="store_true", help="judge by the first two tests of each module alone")
    parser.add_argument("--lines", help="only mutants of these lines, e.g. 100-120")
    told = parser.parse_args()
    first, _, last = (told.lines or "").partition("-")
    lines = range(int(first), int(last or first) + 1) if told.lines else None
    made = killed = 0
    for name in told.modules:
        tests = TARGETS[name][:2] if told.quick else TARGETS[name]
        total, survived = survivors_of(name, workers=told.workers, lines=lines, tests=tests)
        made, killed = made + total, killed + total - len(survived)
        share = 100 * (total - len(survived)) / total if total else 100
        sys.stdout.write(f"{name}: {total} mutants, {len(survived)} survived ({share:.1f} % killed)\n")
        for mutant in survived:
            sys.stdout.write(f"    {name}:{mutant.line}: {mutant.what}\n")
        sys.stdout.flush()
    sys.stdout.write(f"all: {made} mutants, {killed} killed ({100 * killed / max(1, made):.1f} %)\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
