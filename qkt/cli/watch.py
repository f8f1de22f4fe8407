"""``qkt watch``: live view of the account, with the age of every number; changes nothing.

On a terminal a page that follows its size; piped, one line per event; with ``--json`` one JSON line per event and per
state. It continues through lost connections and shows them. Exit codes: 0 the time given by ``--for`` is over, 2 wrong
call, 3 the venue could not be reached at the start, 130 Ctrl-C.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from qkt.cli import exit_codes
from qkt.cli.formatting import plain
from qkt.cli.output import Line, Screen
from qkt.cli.runner import command_parser, run_command
from qkt.cli.session import KEYS_HELP, Session, add_account_options, session, span_ms
from qkt.cli.watch_view import Memory, discrepancies_of, event_line, page, positions_of
from qkt.events import BrokerEvent

_AT_LEAST_EVERY_S, _AT_MOST_EVERY_S = 1.0, 0.2


def run(argv: Sequence[str]) -> int:
    """``qkt watch``."""
    parser = command_parser(
        "watch", "Watch orders, fills, balances and health live; change nothing. Ctrl-C ends it.", epilog=KEYS_HELP
    )
    add_account_options(parser, categories="both")
    parser.add_argument("--once", action="store_true", help="one page, then the end")
    parser.add_argument("--for", dest="duration", metavar="SPAN", help="end after so long; default: until Ctrl-C")
    parser.add_argument("--poll", default="5s", help="the time between two rounds (default 5s)")
    parser.add_argument("--since", default="5m", help="how far back fills are read (default 5m)")
    return run_command(parser, argv, _watch)


def _watch(options: argparse.Namespace, screen: Screen) -> int:
    duration_ms = None if options.duration is None else span_ms(options.duration)
    memory = Memory()
    woken = threading.Event()
    untold: deque[BrokerEvent] = deque()

    def hear(event: BrokerEvent) -> None:
        memory.hear(event)
        untold.append(event)
        woken.set()

    with session(
        options,
        screen,
        hear=hear,
        poll_interval_ms=span_ms(options.poll),
        recovery_window_ms=span_ms(options.since),
    ) as account:
        if options.once:
            _once(account, memory, screen)
            return exit_codes.OK
        until = None if duration_ms is None else time.monotonic() + duration_ms / 1000
        if screen.is_json:
            _every_turn(woken, until, lambda: _print_json(account, untold))
        elif sys.stdout.isatty() and os.environ.get("TERM") != "dumb":
            with _painter() as paint:
                _every_turn(woken, until, lambda: paint(_page(account, memory)))
        else:
            screen.lines(_page(account, memory))
            untold.clear()  # events of the first round are on the page already
            _every_turn(woken, until, lambda: _print_lines(screen, untold))
    return exit_codes.OK


def _once(account: Session, memory: Memory, screen: Screen) -> None:
    screen.lines(_page(account, memory, height=1_000))
    screen.result(_state(account))


def _page(account: Session, memory: Memory, height: int | None = None) -> list[Line]:
    columns, lines = _terminal_size()
    # one column less: terminals differ in where the cursor goes after a character in the last column
    return page(account, memory, width=columns - 1, height=height or lines)


def _terminal_size() -> tuple[int, int]:
    """Size reported by the terminal, else ``COLUMNS`` and ``LINES``, which do not follow a resized window."""
    try:
        size = os.get_terminal_size(sys.stdout.fileno())
    except (OSError, ValueError):
        size = os.terminal_size((0, 0))
    return tuple(size) if size.columns and size.lines else tuple(shutil.get_terminal_size())  # type: ignore[return-value]


def _every_turn(woken: threading.Event, until: float | None, turn: Callable[[], None]) -> None:
    """Call ``turn`` at once, after each event (at most every 0.2 s), and every second, until the deadline."""
    breath = threading.Event()
    while True:
        woken.clear()
        turn()
        left = _AT_LEAST_EVERY_S if until is None else min(_AT_LEAST_EVERY_S, until - time.monotonic())
        if left <= 0:
            return
        if woken.wait(left):
            breath.wait(min(_AT_MOST_EVERY_S, left))


def _print_lines(screen: Screen, untold: deque[BrokerEvent]) -> None:
    while untold:
        line = event_line(untold.popleft())
        if line is not None:
            screen.line(line)


def _print_json(account: Session, untold: deque[BrokerEvent]) -> None:
    while untold:
        event = untold.popleft()
        print(json.dumps({"event": type(event).__name__, **plain(event)}))
    print(json.dumps({"state": _state(account)}), flush=True)


def _state(account: Session) -> dict[str, object]:
    stats = account.client.stats
    return {
        "place": account.place,
        "health": {category: plain(broker.health) for category, broker in account.brokers.items()},
        "frame_age_ms": stats.frame_age_ms,
        "losses": stats.losses,
        "orders": plain(account.broker.open_orders()),
        "positions": plain(positions_of(account)),
        "balances": plain(account.client.wallet.coins),
        "balances_as_of_ms": account.client.wallet.as_of_ms,
        "discrepancies": plain(discrepancies_of(account)),
        "unread": dict(account.unread),
    }


@contextmanager
def _painter() -> Iterator[Callable[[list[Line]], None]]:
    """Context that paints pages on the terminal's alternate screen and restores the first screen at the end."""
    write = sys.stdout.write
    console = Screen().console
    write("\x1b[?1049h\x1b[?25l")
    last_size = (0, 0)

    def paint(lines: list[Line]) -> None:
        nonlocal last_size
        size = _terminal_size()
        painted = [_coloured(console, line) + "\x1b[K" for line in lines]
        write(("\x1b[2J" if size != last_size else "") + "\x1b[H" + "\n".join(painted) + "\x1b[J")
        sys.stdout.flush()
        last_size = size

    try:
        yield paint
    finally:
        write("\x1b[?25h\x1b[?1049l")
        sys.stdout.flush()


def _coloured(console: object, line: Line) -> str:
    pieces = [(line, "")] if isinstance(line, str) else list(line)
    if console is None:
        return "".join(text for text, _ in pieces)
    from rich.style import Style

    return "".join(Style.parse(style).render(text) if style else text for text, style in pieces)
