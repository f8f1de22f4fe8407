"""``qkt orders``, ``qkt fills``, ``qkt balances``: what the account holds, read now and in full, changing nothing.

Exit codes: 0 read, 2 wrong call or no keys, 3 the venue could not be reached or read in full, 130 Ctrl-C.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence

from qkt.cli import exit_codes
from qkt.cli.formatting import ORDER_COLUMNS, clock_time, counted, number, order_row, plain, time_of_day
from qkt.cli.runner import command_parser, run_command
from qkt.cli.screen import Screen
from qkt.cli.session import KEYS_HELP, add_account_options, bare_symbol, full_symbol, session
from qkt.cli.tables import table
from qkt.errors import InvalidRequestError
from qkt.events import BrokerEvent, FillEvent

_UNITS_MS = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


def run_orders(argv: Sequence[str]) -> int:
    """``qkt orders``."""
    parser = command_parser("orders", "List the open orders, whoever placed them.", epilog=KEYS_HELP)
    add_account_options(parser)
    parser.add_argument("--symbol", help="only this symbol, e.g. BTCUSDT")
    return run_command(parser, argv, _orders)


def run_fills(argv: Sequence[str]) -> int:
    """``qkt fills``."""
    parser = command_parser("fills", "List what has traded lately, oldest first.", epilog=KEYS_HELP)
    add_account_options(parser)
    parser.add_argument("--symbol", help="only this symbol, e.g. BTCUSDT")
    parser.add_argument("--since", default="1h", help="how far back: 30m, 12h, 7d (default 1h)")
    return run_command(parser, argv, _fills)


def run_balances(argv: Sequence[str]) -> int:
    """``qkt balances``."""
    parser = command_parser("balances", "Show what the account holds, coin by coin.", epilog=KEYS_HELP)
    add_account_options(parser)
    parser.add_argument("--all", action="store_true", help="coins that are zero, too")
    return run_command(parser, argv, _balances)


def _orders(options: argparse.Namespace, screen: Screen) -> int:
    with session(options, screen, recovery_window_ms=0) as account:
        views = account.broker.open_orders()
        unresolved = account.broker.health.unresolved
    if options.symbol:
        wanted = full_symbol(options.symbol, options.category)
        views = [view for view in views if view.symbol == wanted]
    views.sort(key=lambda view: (view.symbol, view.created_ms))
    screen.result({"place": account.place, "orders": plain(views), "unresolved": list(unresolved)})
    if views:
        screen.lines(table(ORDER_COLUMNS, [order_row(view) for view in views]))
    screen.line([(f"{counted(len(views), 'open order')} at {account.place}", "dim")])
    return exit_codes.OK


def _fills(options: argparse.Namespace, screen: Screen) -> int:
    heard: list[FillEvent] = []

    def hear(event: BrokerEvent) -> None:
        if isinstance(event, FillEvent) and event.exec_id:
            heard.append(event)

    with session(options, screen, hear=hear, recovery_window_ms=span_ms(options.since)) as account:
        pass  # the first round reads the window, and closing delivers what it found
    fills = sorted(heard, key=lambda fill: (fill.exec_time_ms, fill.exec_id))
    if options.symbol:
        wanted = full_symbol(options.symbol, options.category)
        fills = [fill for fill in fills if fill.symbol == wanted]
    screen.result({"place": account.place, "since": options.since, "fills": plain(fills)})
    columns = ("TIME UTC", "ID", "SYMBOL", "SIDE", ">QUANTITY", ">PRICE", ">FEE")
    when = time_of_day if span_ms(options.since) < _UNITS_MS["d"] else clock_time
    if fills:
        screen.lines(table(columns, [fill_row(fill, when(fill.exec_time_ms)) for fill in fills]))
    screen.line([(f"{counted(len(fills), 'fill')} in the last {options.since} at {account.place}", "dim")])
    return exit_codes.OK


def fill_row(fill: FillEvent, when: str) -> list[str]:
    """One execution for a table."""
    return [
        when,
        fill.client_order_id or fill.broker_order_id,
        bare_symbol(fill.symbol),
        fill.side.value.lower(),
        number(fill.quantity),
        number(fill.price),
        f"{number(fill.fee)} {fill.fee_currency}",
    ]


def _balances(options: argparse.Namespace, screen: Screen) -> int:
    with session(options, screen, recovery_window_ms=0) as account:
        wallet = account.client.wallet
    coins = {coin: held for coin, held in sorted(wallet.coins.items()) if held.total or options.all}
    screen.result({"place": account.place, "as_of_ms": wallet.as_of_ms, "balances": plain(coins)})
    rows = [[coin, number(held.total), number(held.locked), number(held.available)] for coin, held in coins.items()]
    if rows:
        screen.lines(table(("COIN", ">TOTAL", ">LOCKED", ">AVAILABLE"), rows))
    screen.line([(f"{counted(len(rows), 'coin')} at {account.place}", "dim")])
    return exit_codes.OK


def span_ms(text: str) -> int:
    """``30m``, ``12h``, ``7d`` in milliseconds; raises InvalidRequestError for anything else."""
    match = re.fullmatch(r"(\d+)([smhd])", text)
    if match is None:
        raise InvalidRequestError(f"a span is a number and one of s, m, h, d, e.g. 12h; got {text!r}")
    return int(match[1]) * _UNITS_MS[match[2]]
