"""The tree is the architecture: imports only point up the list, pure rooms stay pure, the venue shares no code."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import qkt

ROOT = Path(qkt.__file__).parent

# top of the house first; a module may import from its own line and from the lines above it
HOUSE = (
    ("errors", "money", "slots", "plain", "readonly", "ids", "clock", "secret", "threads", "_version"),
    ("model",),
    ("events",),
    ("orders",),
    ("reconcile",),
    ("health",),
    ("bus",),
    ("positions",),
    ("net",),
    ("journal",),
    (
        "broker.protocol",
        "broker.arguments",
        "broker.capabilities",
        "broker.state",
        "broker.order_log",
        "broker.state_observer",
        "broker.price_source",
        "broker.order_queries",
        "broker.risk",
    ),
    ("broker.paper", "broker.adapter", "broker.symbol_pattern", "broker.composite"),
    ("bybit.codec",),
    ("bybit.transport",),
    ("bybit.queries",),
    ("bybit.account",),
    ("bybit",),
    ("testing", "recorder"),
    ("monitoring", "cli"),
)
PURE = ("errors", "money", "plain", "readonly", "model", "events", "orders", "reconcile", "health")
PURE_PARTS = (
    "broker.order_log",
    *(
        f"journal.{part}"
        for part in (
            "arguments",
            "intents",
            "ownership",
            "ownership_messages",
            "postgres_sql",
            "protocol",
            "schema",
            "statements",
            "verify",
        )
    ),
)
FOR_MONITORING = {"prometheus_client", "apprise", "waitress"}  # extras `metrics`, `alerts` and `web`
IMPURE_MODULES = {"threading", "socket", "time", "random", "os", "requests", "websocket", "logging", "blinker", "queue"}


def modules() -> Iterator[tuple[str, Path]]:
    for path in sorted(ROOT.rglob("*.py")):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        yield name.removesuffix(".__init__") if name != "__init__" else "", path


def imports_of(path: Path) -> Iterator[tuple[int, str]]:
    """Every import, wherever in the file it stands; `from a import b` counts as `a` and as `a.b`."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            if node.level:
                package = ("qkt", *path.relative_to(ROOT).parts[: -node.level])
                module = ".".join((*package, module)).rstrip(".")
            yield node.lineno, module
            yield from ((node.lineno, f"{module}.{alias.name}") for alias in node.names)


def line_of(name: str) -> int | None:
    for number, rooms in enumerate(HOUSE):
        if any(name == room or name.startswith(f"{room}.") for room in rooms):
            return number
    return None


def own(imported: str) -> str | None:
    """The part behind ``qkt.``, or None for other people's modules."""
    return imported.removeprefix("qkt.") if imported.startswith("qkt.") else None


def wrong_arrows(name: str, path: Path) -> list[str]:
    here = line_of(name)
    found = []
    for lineno, imported in imports_of(path):
        target = own(imported)
        there = None if target is None else line_of(target)
        if here is not None and there is not None and there > here:
            found.append(f"{path}:{lineno}: qkt.{name} imports {imported}, which lies below it")
    return found


@pytest.mark.parametrize(("name", "path"), [pytest.param(*pair, id=pair[0] or "qkt") for pair in modules()])
def test_imports_only_point_up_the_house(name: str, path: Path) -> None:
    if name.startswith("venue"):
        return
    if name in ("", "broker", "bybit", "__main__"):
        return  # the face looks at everybody; nobody looks at the face
    assert line_of(name) is not None, f"qkt.{name} has no place in the house: give it one in HOUSE"
    assert wrong_arrows(name, path) == []


def test_the_check_notices_an_arrow_that_points_down(tmp_path: Path) -> None:
    offender = tmp_path / "machine.py"
    offender.write_text("from qkt.bybit.transport.client import BybitClient\n")

    assert wrong_arrows("orders.machine", offender) != []


def test_nothing_inside_imports_the_face() -> None:
    guilty = [
        f"{path}:{lineno}"
        for name, path in modules()
        for lineno, imported in imports_of(path)
        if imported == "qkt" and name != "" and not name.startswith("testing.contract")
    ]
    assert guilty == []


def test_only_the_command_line_and_the_test_kit_open_the_venue() -> None:
    guilty = [
        f"{path}:{lineno}: {imported}"
        for name, path in modules()
        for lineno, imported in imports_of(path)
        if (own(imported) or "").split(".")[0] == "venue" and name.split(".")[0] not in ("venue", "testing", "cli")
    ]
    assert guilty == []


def test_the_simulated_venue_shares_no_code_with_the_sdk() -> None:
    guilty = [
        f"{path}:{lineno}: {imported}"
        for name, path in modules()
        if name.split(".")[0] == "venue"
        for lineno, imported in imports_of(path)
        if imported.split(".")[0] == "qkt" and not imported.startswith("qkt.venue")
    ]
    assert guilty == []


def test_nothing_in_the_product_imports_the_test_kit_or_the_command_line() -> None:
    guilty = [
        f"{path}:{lineno}: {imported}"
        for name, path in modules()
        for lineno, imported in imports_of(path)
        if (own(imported) or "").split(".")[0] in ("testing", "cli")
        and name.split(".")[0] not in ("testing", "cli", "__main__")
    ]
    assert guilty == []


def test_nothing_but_the_command_line_imports_monitoring() -> None:
    guilty = [
        f"{path}:{lineno}: {imported}"
        for name, path in modules()
        for lineno, imported in imports_of(path)
        if (own(imported) or "").split(".")[0] == "monitoring" and name.split(".")[0] not in ("monitoring", "cli")
    ]
    assert guilty == []


def test_monitoring_does_not_import_the_command_line_or_one_venue() -> None:
    guilty = [
        f"{path}:{lineno}: {imported}"
        for name, path in modules()
        if name.startswith("monitoring")
        for lineno, imported in imports_of(path)
        if (own(imported) or "").split(".")[0] in ("cli", "bybit", "testing", "venue")
    ]
    assert guilty == []


def test_pure_rooms_know_no_thread_no_clock_and_no_socket() -> None:
    guilty = [
        f"{path}:{lineno}: {imported}"
        for name, path in modules()
        if name.split(".")[0] in PURE or name in PURE_PARTS
        for lineno, imported in imports_of(path)
        if imported.split(".")[0] in IMPURE_MODULES
    ]
    assert guilty == []


def test_the_product_never_sleeps() -> None:
    guilty = [
        f"{path}:{node.lineno}"
        for name, path in modules()
        if not name.startswith("venue")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and node.attr == "sleep"
    ]
    assert guilty == []


def test_the_core_imports_only_its_four_packages_and_the_standard_library() -> None:
    import sys

    four = {"requests", "websocket", "attrs", "attr", "blinker"}
    brought_by_requests = {"urllib3", "certifi"}
    allowed = {"qkt"} | four | brought_by_requests | set(sys.stdlib_module_names)
    guilty = [
        f"{path}:{lineno}: {imported}"
        for name, path in modules()
        if name.split(".")[0] not in ("venue", "cli") and name != "testing.pytest_plugin"
        for lineno, imported in imports_of(path)
        if imported.split(".")[0] not in allowed
        and not imported.startswith("cryptography")  # extra `rsa`
        and not (name == "journal.postgres_session" and imported.startswith("psycopg"))  # extra `postgres`
        and not (name.startswith("monitoring.") and imported.split(".")[0] in FOR_MONITORING)
    ]
    assert guilty == []


def import_graph(root: Path) -> dict[str, set[str]]:
    """Module -> the modules of the same package it imports, wherever the import stands (TYPE_CHECKING included)."""
    paths = {
        ".".join((root.name, *path.relative_to(root).with_suffix("").parts)).removesuffix(".__init__"): path
        for path in sorted(root.rglob("*.py"))
    }
    graph: dict[str, set[str]] = {}
    for name, path in paths.items():
        imported: set[str] = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                imported.update(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
                parts = {f"{node.module}.{alias.name}" for alias in node.names}
                imported |= {part if part in paths else node.module for part in parts}
        graph[name] = (imported & paths.keys()) - {name}
    return graph


def cycles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Every group of modules that import each other, directly or around a corner."""
    reach: dict[str, set[str]] = {}
    for start in graph:
        seen: set[str] = set()
        waiting = list(graph[start])
        while waiting:
            name = waiting.pop()
            if name not in seen:
                seen.add(name)
                waiting.extend(graph[name])
        reach[start] = seen
    groups = {
        frozenset(other for other in reach[name] if name in reach[other]) for name in graph if name in reach[name]
    }
    return sorted(sorted(group) for group in groups)


def test_no_module_imports_itself_around_a_corner() -> None:
    assert cycles(import_graph(ROOT)) == []


def test_the_cycle_check_notices_a_cycle_under_type_checking(tmp_path: Path) -> None:
    house = tmp_path / "house"
    house.mkdir()
    (house / "hall.py").write_text("from house import attic\n")
    (house / "attic.py").write_text("if TYPE_CHECKING:\n    from house.stairs import Step\n")
    (house / "stairs.py").write_text("import house.hall\n")

    assert cycles(import_graph(house)) == [["house.attic", "house.hall", "house.stairs"]]


# words of one venue: reasons, types of execution, paths and fields as its wire prints them
VENUE_WORDS = re.compile(
    r"EC_\w|AdlTrade|BustTrade|CancelBy\w|/v5/"
    r"|\b(?:order|exec|cum|leaves|ret|cancel|reject|trigger|market|stopOrder|create|position|tick|wallet)"
    r"(?:Filter|LinkId|Id|Status|Type|Reason|Qty|ExecQty|Price|Code|Msg|Unit|Idx|Balance)\b"
)


def is_neutral(name: str) -> bool:
    """True for the rooms that serve any venue; the paper venue speaks Bybit's reasons on purpose."""
    rooms = ("model", "orders", "reconcile", "net", "journal")
    return name.split(".")[0] in rooms or (name.startswith("broker.") and name.count(".") == 1)


def venue_words(path: Path) -> list[str]:
    return [
        f"{path}:{number}: {found.group()}"
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        for found in VENUE_WORDS.finditer(line)
    ]


def test_the_core_knows_no_word_of_a_venue() -> None:
    assert [word for name, path in modules() if is_neutral(name) for word in venue_words(path)] == []


@pytest.mark.parametrize("word", ['"EC_NoError"', '"AdlTrade"', "CancelByUser", "/v5/order", "row['orderLinkId']"])
def test_the_check_notices_a_word_of_a_venue(word: str, tmp_path: Path) -> None:
    offender = tmp_path / "machine.py"
    offender.write_text(f"reason = {word}\n")

    assert venue_words(offender) != []
