"""Checks of the arguments that every broker takes: lists of orders or ids, and the id that names an order."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from qkt.errors import InvalidRequestError

T = TypeVar("T")


def list_argument(given: Iterable[T], method: str, what: str) -> list[T]:
    """The items of an iterable argument; raises InvalidRequestError for a text or a single item."""
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise InvalidRequestError(f"{method} takes a list of {what}; got {given!r}")
    return list(given)


def check_one_id(client_order_id: str | None, broker_order_id: str | None) -> None:
    """Raise InvalidRequestError unless exactly one id is given, and the client order id is not empty."""
    if (client_order_id is None) == (broker_order_id is None):
        raise InvalidRequestError("name the order by client_order_id or by broker_order_id, exactly one of them")
    if client_order_id == "":
        raise InvalidRequestError(
            "the client_order_id is empty, as is that of an order placed without one: name it by broker_order_id="
        )
