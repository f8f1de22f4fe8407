"""``qkt serve``: the status page of an account in a browser, live and read-only, until Ctrl-C.

The page shows the account as this process knows it. To see a bot's own view, call `qkt.monitoring.serve_status` in the
bot. Exit codes: 0 the time given by ``--for-s`` is over, 2 wrong call, 3 the venue could not be reached, 130 Ctrl-C.
"""

from __future__ import annotations

import argparse
import os
import sys
import threading
from collections import deque
from collections.abc import Sequence

from qkt.cli import exit_codes
from qkt.cli.output import Screen
from qkt.cli.runner import command_parser, run_command
from qkt.cli.session import KEYS_HELP, add_account_options, session
from qkt.errors import InvalidRequestError
from qkt.events import BrokerEvent
from qkt.monitoring.extras import require
from qkt.monitoring.status.history import StatusHistory
from qkt.monitoring.status.server import DEFAULT_PORT, StatusServer, serve_status

_TOKEN_VARIABLE = "QKT_STATUS_TOKEN"
_BACK_MS = 1_800_000  # as far as the time line reaches
_EARLY_EVENTS = 2_000


def run(argv: Sequence[str]) -> int:
    """``qkt serve``."""
    parser = command_parser(
        "serve",
        "Serve the account's status page to a browser on this machine; change nothing. Ctrl-C ends it.",
        epilog=f"{KEYS_HELP}\n\n{_TOKEN_VARIABLE} sets the page's token; without it one is made and printed once.\n"
        "/healthz answers 503 beyond an age bound; /metrics is for Prometheus, /state.json for programs.",
    )
    add_account_options(parser, categories="both")
    parser.add_argument("--port", type=int, default=DEFAULT_PORT, help=f"default {DEFAULT_PORT}; 0 takes a free one")
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen on (default 127.0.0.1)")
    parser.add_argument(
        "--allow-host", action="append", default=[], metavar="NAME", help="a further Host to answer, e.g. of a proxy"
    )
    parser.add_argument("--poll-ms", type=int, default=5_000, help="the time between two rounds (default 5000)")
    parser.add_argument("--age-bound-ms", type=int, help="default: three times --poll-ms")
    parser.add_argument("--for-s", type=float, metavar="SECONDS", help="end after so long; default: until Ctrl-C")
    return run_command(parser, argv, _serve)


def _serve(options: argparse.Namespace, screen: Screen) -> int:
    if options.for_s is not None and options.for_s < 0:
        raise InvalidRequestError("--for-s must not be negative")
    require("waitress", "web", "qkt serve")
    early: deque[BrokerEvent] = deque(maxlen=_EARLY_EVENTS)  # of the first round, before the page can listen
    with session(
        options, screen, hear=early.append, poll_interval_ms=options.poll_ms, recovery_window_ms=_BACK_MS
    ) as account:
        found = list(early)
        history = StatusHistory([account.bus])
        for event in found:
            history.hear(account.bus, event)
        token = os.environ.get(_TOKEN_VARIABLE) or None
        try:
            server = serve_status(
                account.broker,
                options.port,
                host=options.host,
                token=token,
                age_bound_ms=options.age_bound_ms or 3 * options.poll_ms,
                allowed_hosts=options.allow_host,
                label=f"{account.scope} on {account.place}",
                history=history,
            )
        except OSError as error:
            raise InvalidRequestError(
                f"{options.host}:{options.port} cannot be listened on: {error.strerror or error}; name another --port"
            ) from error
        with server:
            screen.lines(account.unread_lines())
            _announce(server, screen, is_token_known=token is not None)
            threading.Event().wait(options.for_s)
    return exit_codes.OK


def _announce(server: StatusServer, screen: Screen, *, is_token_known: bool) -> None:
    """Print the address once; a token that the environment gave is not repeated."""
    url = server.address if is_token_known else server.url
    screen.result({"url": url, "port": server.port})
    screen.lines(["The status page; it changes nothing. Ctrl-C ends it.", url])
    sys.stdout.flush()
