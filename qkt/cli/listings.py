"""``qkt orders``, ``fills``, ``positions``, ``balances``: what the account holds, read now and in full.

Exit codes: 0 read, 2 wrong call or no keys, 3 the venue could not be reached or read in full, 130 Ctrl-C.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from qkt.bybit.linear import BybitLinearBroker
from qkt.cli import exit_codes
from qkt.cli.formatting import clock_time, counted, number, order_table, plain, time_of_day
from qkt.cli.output import Screen
from qkt.cli.runner import command_parser, run_command
from qkt.cli.session import (
    KEYS_HELP,
    Session,
    add_account_options,
    bare_symbol,
    check_symbol,
    matches,
    session,
    span_ms,
)
from qkt.cli.tables import table
from qkt.events import BrokerEvent, FillEvent


def run_orders(argv: Sequence[str]) -> int:
    """``qkt orders``."""
    parser = command_parser("orders", "List the open orders, whoever placed them.", epilog=KEYS_HELP)
    add_account_options(parser, categories="both")
    parser.add_argument("--symbol", help="only this symbol, e.g. BTCUSDT")
    return run_command(parser, argv, _orders)


def run_fills(argv: Sequence[str]) -> int:
    """``qkt fills``."""
    parser = command_parser("fills", "List what has traded lately, oldest first.", epilog=KEYS_HELP)
    add_account_options(parser, categories="both")
    parser.add_argument("--symbol", help="only this symbol, e.g. BTCUSDT")
    parser.add_argument("--since", default="1h", help="how far back: 30m, 12h, 7d (default 1h)")
    return run_command(parser, argv, _fills)


def run_balances(argv: Sequence[str]) -> int:
    """``qkt balances``."""
    parser = command_parser("balances", "Show what the account holds, coin by coin.", epilog=KEYS_HELP)
    add_account_options(parser)
    parser.add_argument("--all", action="store_true", help="coins that are zero, too")
    return run_command(parser, argv, _balances)


def run_positions(argv: Sequence[str]) -> int:
    """``qkt positions``."""
    parser = command_parser("positions", "List the open positions of perpetuals.", epilog=KEYS_HELP)
    add_account_options(parser)
    parser.set_defaults(category="linear")
    return run_command(parser, argv, _positions)


def _orders(options: argparse.Namespace, screen: Screen) -> int:
    with session(options, screen, recovery_window_ms=0) as account:
        check_symbol(account, options.symbol)
        views = [view for view in account.broker.open_orders() if matches(view.symbol, options.symbol)]
        unresolved = account.unresolved
    views.sort(key=lambda view: (view.symbol, view.created_ms))
    screen.result(
        {
            "place": account.place,
            "categories": list(account.brokers),
            "orders": plain(views),
            "unresolved": list(unresolved),
            "unread": dict(account.unread),
        }
    )
    if views:
        screen.lines(order_table(views))
    screen.line([(f"{counted(len(views), 'open order')} in {account.scope} at {account.place}", "dim")])
    return _told_unread(account, screen)


def _fills(options: argparse.Namespace, screen: Screen) -> int:
    heard: list[FillEvent] = []

    def hear(event: BrokerEvent) -> None:
        if isinstance(event, FillEvent) and event.exec_id:
            heard.append(event)

    with session(options, screen, hear=hear, recovery_window_ms=span_ms(options.since)) as account:
        check_symbol(account, options.symbol)  # the first round reads the window, and closing delivers what it found
    fills = sorted(heard, key=lambda fill: (fill.exec_time_ms, fill.exec_id))
    fills = [fill for fill in fills if matches(fill.symbol, options.symbol)]
    screen.result(
        {
            "place": account.place,
            "categories": list(account.brokers),
            "since": options.since,
            "fills": plain(fills),
            "unread": dict(account.unread),
        }
    )
    columns = ("TIME UTC", "ID", "SYMBOL", "SIDE", ">QUANTITY", ">PRICE", ">FEE")
    when = time_of_day if span_ms(options.since) < span_ms("1d") else clock_time
    if fills:
        screen.lines(table(columns, [fill_row(fill, when(fill.exec_time_ms)) for fill in fills]))
    screen.line(
        [(f"{counted(len(fills), 'fill')} of {account.scope} in the last {options.since} at {account.place}", "dim")]
    )
    return _told_unread(account, screen)


def _positions(options: argparse.Namespace, screen: Screen) -> int:
    with session(options, screen, recovery_window_ms=0) as account:
        broker = account.brokers["linear"]
        assert isinstance(broker, BybitLinearBroker)
        positions = broker.positions()
    held = [
        {"symbol": symbol, "position_index": index, **plain(position)}
        for (symbol, index), position in sorted(positions.items())
    ]
    screen.result({"place": account.place, "positions": held})
    if positions:
        rows = [
            [bare_symbol(symbol), _POSITION_SIDES[index], number(position.quantity), number(position.avg_price)]
            for (symbol, index), position in sorted(positions.items())
        ]
        screen.lines(table(("SYMBOL", "SIDE", ">QUANTITY", ">ENTRY"), rows))
    screen.line([(f"{counted(len(positions), 'open position')} in linear at {account.place}", "dim")])
    return exit_codes.OK


_POSITION_SIDES = {0: "one-way", 1: "long", 2: "short"}


def _told_unread(account: Session, screen: Screen) -> int:
    """Print the categories that could not be read; the exit code says whether there are any."""
    screen.lines(account.unread_lines())
    return exit_codes.UNAVAILABLE if account.unread else exit_codes.OK


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
