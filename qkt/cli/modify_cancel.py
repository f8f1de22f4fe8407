"""``qkt modify``, ``qkt cancel``, ``qkt cancel-all``: send the request, then wait for the result of each order.

Exit codes: 0 done, 1 refused or too late (the order is unchanged, or had ended otherwise), 2 wrong call, 3 the venue
could not be reached, 4 unknown, 130 Ctrl-C. With several orders the highest code is returned.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence

import attrs

from qkt.broker.protocol import SubmitAck, SubmitOutcome
from qkt.cli import exit_codes
from qkt.cli.confirm import add_sending_options, is_confirmed
from qkt.cli.formatting import counted, number, order_table, plain, terms
from qkt.cli.output import Screen
from qkt.cli.progress import progress
from qkt.cli.runner import command_parser, run_command
from qkt.cli.session import (
    KEYS_HELP,
    Session,
    add_account_options,
    check_symbol,
    find_order,
    ids_of,
    matches,
    session,
    span_ms,
)
from qkt.cli.submit import decimal_of
from qkt.errors import InvalidRequestError, VenueUnavailableError, WaitTimeoutError
from qkt.model.orders import OrderModification, OrderStatus, OrderView


@attrs.frozen(kw_only=True)
class Ending:
    """Result of one cancel. ``code`` is its exit code."""

    view: OrderView
    code: int
    what: str


def run_modify(argv: Sequence[str]) -> int:
    """``qkt modify``."""
    parser = command_parser("modify", "Change the terms of a working order.", epilog=KEYS_HELP)
    parser.add_argument("id", help="client order id or the venue's order id")
    parser.add_argument("--quantity", help="the new total quantity, executed part included")
    parser.add_argument("--limit", metavar="PRICE", help="the new limit price")
    parser.add_argument("--stop", metavar="PRICE", help="the new stop price")
    add_account_options(parser, categories="both")
    add_sending_options(parser)
    return run_command(parser, argv, _modify)


def run_cancel(argv: Sequence[str]) -> int:
    """``qkt cancel``."""
    parser = command_parser("cancel", "Cancel orders, and wait until each has ended.", epilog=KEYS_HELP)
    parser.add_argument("ids", nargs="+", metavar="id", help="client order ids or the venue's order ids")
    add_account_options(parser, categories="both")
    add_sending_options(parser)
    return run_command(parser, argv, _cancel)


def run_cancel_all(argv: Sequence[str]) -> int:
    """``qkt cancel-all``."""
    parser = command_parser(
        "cancel-all",
        "Cancel every open order of the account, spot and linear, whoever placed it.",
        epilog=KEYS_HELP,
    )
    parser.add_argument("--symbol", help="only this symbol, e.g. BTCUSDT")
    add_account_options(parser, categories="both")
    add_sending_options(parser)
    return run_command(parser, argv, _cancel_all)


def _modify(options: argparse.Namespace, screen: Screen) -> int:
    changes = _changes(options)
    with session(options, screen) as account:
        view = find_order(account, options.id)
        what = f"{options.id}: {number(view.quantity)} at {terms(view)}, to become {_wanted(changes)}"
        if options.dry_run:
            screen.result({"dry_run": True, "order": plain(view), "changes": plain(changes)})
            screen.line(f"{what}; not sent (--dry-run)")
            return exit_codes.OK
        if not is_confirmed(options, screen, f"{what} at {account.place}: send it?"):
            return exit_codes.NO
        with progress(screen, "waiting for the outcome", expected_s=span_ms(options.wait) / 1000):
            ack = account.broker.modify(**ids_of(view), changes=changes)
            now = _after_modify(account, view, changes, ack, span_ms(options.wait))
    outcome, code = _modify_outcome(changes, ack, now)
    screen.result({"outcome": outcome, "reason": ack.reject_reason or now.reason, "order": plain(now)})
    why = f": {ack.reject_reason}" if ack.reject_reason else ""
    styles = {exit_codes.OK: "green", exit_codes.NO: "red"}
    screen.line([(outcome, styles.get(code, "bold yellow")), (f"  {options.id}{why}", "")])
    screen.line(f"  {now.status.value.lower()}: {number(now.quantity)} at {terms(now)}, {_filled(now)}")
    return code


def _changes(options: argparse.Namespace) -> OrderModification:
    given = {"new_quantity": options.quantity, "new_limit_price": options.limit, "new_stop_price": options.stop}
    if not any(given.values()):
        raise InvalidRequestError("what is to change? say --quantity, --limit or --stop")
    prices = {name: None if text is None else decimal_of(text, name) for name, text in given.items()}
    return OrderModification(
        new_quantity=prices["new_quantity"],
        new_limit_price=prices["new_limit_price"],
        new_stop_price=prices["new_stop_price"],
    )


def _wanted(changes: OrderModification) -> str:
    named = {"quantity": changes.new_quantity, "limit": changes.new_limit_price, "stop": changes.new_stop_price}
    return " ".join(f"{name} {number(value)}" for name, value in named.items() if value is not None)


def _has(view: OrderView, changes: OrderModification) -> bool:
    pairs = (
        (changes.new_quantity, view.quantity),
        (changes.new_limit_price, view.limit_price),
        (changes.new_stop_price, view.stop_price),
    )
    return all(wanted is None or wanted == shown for wanted, shown in pairs)


def _after_modify(
    account: Session, view: OrderView, changes: OrderModification, ack: SubmitAck, wait_ms: int
) -> OrderView:
    if ack.outcome is SubmitOutcome.REJECTED:
        return account.broker.order(**ids_of(view))
    try:
        return account.broker.wait(
            **ids_of(view), until=lambda now: _has(now, changes) or not now.is_open, timeout_ms=wait_ms
        )
    except WaitTimeoutError:
        return account.broker.order(**ids_of(view))


def _modify_outcome(changes: OrderModification, ack: SubmitAck, now: OrderView) -> tuple[str, int]:
    if ack.outcome is SubmitOutcome.REJECTED:
        return "REJECTED", exit_codes.NO
    if _has(now, changes):
        return "MODIFIED", exit_codes.OK
    if not now.is_open:
        return "TOO LATE", exit_codes.NO
    return "UNKNOWN", exit_codes.UNKNOWN


def _cancel(options: argparse.Namespace, screen: Screen) -> int:
    with session(options, screen) as account:
        views = [find_order(account, name) for name in options.ids]
        return _cancel_these(account, views, options, screen)


def _cancel_all(options: argparse.Namespace, screen: Screen) -> int:
    with session(options, screen) as account:
        check_symbol(account, options.symbol)
        views = [view for view in account.broker.open_orders() if matches(view.symbol, options.symbol)]
        code = _cancel_these(account, views, options, screen)
        screen.lines(account.unread_lines())
        return max(code, exit_codes.UNAVAILABLE) if account.unread else code


def _cancel_these(account: Session, views: list[OrderView], options: argparse.Namespace, screen: Screen) -> int:
    if not views:
        screen.result({"orders": [], "still_open": 0, "other_open_orders": 0})
        screen.line(f"no open orders to cancel in {account.scope} at {account.place}")
        return exit_codes.OK
    if options.dry_run or not options.yes:
        screen.lines(order_table(views))
    if options.dry_run:
        screen.result({"dry_run": True, "orders": plain(views)})
        screen.line(f"{len(views)} of {account.scope} would be cancelled at {account.place}; not sent (--dry-run)")
        return exit_codes.OK
    if not is_confirmed(options, screen, f"cancel {len(views)} in {account.scope} at {account.place}?"):
        return exit_codes.NO
    with progress(screen, f"cancelling {len(views)}", expected_s=span_ms(options.wait) / 1000):
        asked = [(view, _ask(account, view)) for view in views]
        deadline = time.monotonic() + span_ms(options.wait) / 1000  # one deadline for all orders
        endings = [
            _ending(account, view, answer, max(1, round((deadline - time.monotonic()) * 1000)))
            for view, answer in asked
        ]
        account.broker.reconcile()  # finds orders that were opened meanwhile
    for ending in endings:
        name = ending.view.client_order_id or ending.view.broker_order_id
        style = {exit_codes.OK: "green", exit_codes.NO: "red"}.get(ending.code, "bold yellow")
        screen.line([(f"{name}  ", ""), (ending.what, style), (f", {_filled(ending.view)}", "")])
    named = {ids_of(view).get("broker_order_id") for view in views}
    newcomers = [view for view in account.broker.open_orders() if view.broker_order_id not in named]
    still_open = sum(ending.view.is_open for ending in endings)
    screen.result(
        {
            "orders": [{"outcome": ending.what, "order": plain(ending.view)} for ending in endings],
            "still_open": still_open,
            "other_open_orders": len(newcomers),
        }
    )
    if still_open:
        screen.line([(f"{still_open} of {len(endings)} may still be open", "bold yellow")])
    if newcomers:
        screen.line(f"{counted(len(newcomers), 'other open order')} at {account.place}")
    return max(ending.code for ending in endings)


def _ask(account: Session, view: OrderView) -> SubmitAck | VenueUnavailableError:
    """Send one cancel; returns the error of one that could not be sent, so that the others are sent all the same."""
    try:
        return account.broker.cancel(**ids_of(view))
    except VenueUnavailableError as error:
        return error


def _ending(account: Session, view: OrderView, answer: SubmitAck | VenueUnavailableError, wait_ms: int) -> Ending:
    if isinstance(answer, VenueUnavailableError):
        now = account.broker.order(**ids_of(view))
        return Ending(view=now, code=exit_codes.UNAVAILABLE, what=f"not sent: {answer}")
    try:
        if answer.outcome is SubmitOutcome.REJECTED:
            now = account.broker.order(**ids_of(view))
        else:
            now = account.broker.wait(**ids_of(view), until="closed", timeout_ms=wait_ms)
    except WaitTimeoutError:
        now = account.broker.order(**ids_of(view))
    match now.status:
        case OrderStatus.CANCELLED:
            return Ending(view=now, code=exit_codes.OK, what="cancelled")
        case OrderStatus.FILLED:
            return Ending(view=now, code=exit_codes.NO, what="filled before the cancel")
        case OrderStatus.REJECTED:
            return Ending(view=now, code=exit_codes.NO, what=f"rejected: {now.reason}")
        case _ if answer.outcome is SubmitOutcome.REJECTED:
            return Ending(view=now, code=exit_codes.NO, what=f"refused: {answer.reject_reason}")
        case _:
            return Ending(view=now, code=exit_codes.UNKNOWN, what="unknown: asked, and not seen to end")


def _filled(view: OrderView) -> str:
    return f"{number(view.cum_quantity)} filled"
