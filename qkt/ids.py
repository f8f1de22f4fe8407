"""Who named what: client order ids are ours, broker order ids and execution ids are the venue's.

A generated client order id is ``qkt-<run nonce>-<n>``, or ``qkt-<owner>-<run nonce>-<n>`` where the broker has an
owner: a name that stays the same over restarts, so that orders of earlier runs are recognised. The nonce is drawn once
per process, so a restart within the same second cannot repeat an id (the venue refuses a repeated one and may answer
for the older order), and an order that carries our nonce but was never sent by us betrays a second process.
"""

from __future__ import annotations

import os
import re
import secrets
import threading
from typing import NewType

from qkt.errors import InvalidRequestError

ClientOrderId = NewType("ClientOrderId", str)
BrokerOrderId = NewType("BrokerOrderId", str)
ExecId = NewType("ExecId", str)

MAX_CLIENT_ORDER_ID_LENGTH = 36
_ALLOWED = re.compile(r"[A-Za-z0-9_-]+\Z")
_GENERATED = re.compile(r"qkt-(?:([A-Za-z0-9_]{1,12})-)?([0-9a-f]{10})-(\d+)\Z")
_NAME = re.compile(r"[A-Za-z0-9._-]{1,40}\Z")
_OWNER = re.compile(r"[A-Za-z0-9_]{1,12}\Z")


class _Run:
    """This process's nonce and counter, drawn anew in a forked child."""

    def __init__(self) -> None:
        self.renew()

    def renew(self) -> None:
        self.nonce = secrets.token_hex(5)
        self.issued = 0
        self._lock = threading.Lock()

    def next_number(self) -> int:
        with self._lock:
            self.issued += 1
            return self.issued


_run = _Run()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_run.renew)


def new_client_order_id(owner: str | None = None) -> str:
    """A fresh client order id, unique across threads, forks and restarts; known before the order is sent.

    ``owner`` (see `validate_owner`) is carried in the id.
    """
    mark = f"{owner}-" if owner else ""
    return f"qkt-{mark}{_run.nonce}-{_run.next_number()}"


def validate_owner(value: object) -> str:
    """Refuse an owner that an id cannot carry: it has 1 to 12 characters of ``[A-Za-z0-9_]``."""
    if not isinstance(value, str) or not _OWNER.match(value):
        raise InvalidRequestError(f"owner must be 1 to 12 letters, digits or '_', e.g. owner='grid'; got {value!r}")
    return value


def validate_name(value: object) -> str:
    """Refuse a name that logs and thread names cannot carry: it has 1 to 40 characters of ``[A-Za-z0-9._-]``."""
    if not isinstance(value, str) or not _NAME.match(value):
        raise InvalidRequestError(f"name must be 1 to 40 letters, digits, '.', '_' or '-'; got {value!r}")
    return value


def owner_of(client_order_id: str) -> str | None:
    """The owner inside a generated id, or None when it carries none."""
    match = _GENERATED.match(client_order_id)
    return match.group(1) if match else None


def run_nonce() -> str:
    """The nonce in every id this process generates."""
    return _run.nonce


def nonce_of(client_order_id: str) -> str | None:
    """The run nonce inside a generated id, or None for an id that qkt did not generate."""
    match = _GENERATED.match(client_order_id)
    return match.group(2) if match else None


def was_issued_here(client_order_id: str) -> bool:
    """True for an id that this very process generated, for whichever of its brokers."""
    match = _GENERATED.match(client_order_id)
    return match is not None and match.group(2) == _run.nonce and 1 <= int(match.group(3)) <= _run.issued


def validate_client_order_id(value: object) -> str:
    """Refuse what the venue would refuse: over 36 characters, or others than ``[A-Za-z0-9_-]``.

    Source: docs v5/order/create-order, ``orderLinkId``.
    """
    if not isinstance(value, str):
        raise InvalidRequestError(f"client_order_id must be text, not {type(value).__name__}")
    if not value:
        raise InvalidRequestError("client_order_id is empty; leave it out and qkt generates one")
    if len(value) > MAX_CLIENT_ORDER_ID_LENGTH:
        raise InvalidRequestError(
            f"client_order_id {value!r} has {len(value)} characters; the venue takes at most "
            f"{MAX_CLIENT_ORDER_ID_LENGTH}"
        )
    if not _ALLOWED.match(value):
        raise InvalidRequestError(f"client_order_id {value!r} may hold only letters, digits, '-' and '_'")
    return value
