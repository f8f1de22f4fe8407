"""`ReadOnlyDict`: the mapping type of every public value of qkt."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, NoReturn, Self, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class ReadOnlyDict(dict[K, V]):
    """A dict that refuses changes with TypeError. It can be pickled, copied, and written as JSON.

    A ``MappingProxyType`` can do none of the three, so a value that holds one cannot leave its process.
    """

    __slots__ = ()

    def _refuse(self, *_arguments: Any, **_named: Any) -> NoReturn:
        raise TypeError("this mapping is read-only; make a dict of it to change it")

    __setitem__ = __delitem__ = __ior__ = _refuse
    clear = pop = popitem = setdefault = update = _refuse

    def __reduce__(self) -> tuple[type[Self], tuple[dict[K, V]]]:
        return type(self), (dict(self),)

    def copy(self) -> dict[K, V]:
        """An ordinary dict with the same items."""
        return dict(self)

    def __copy__(self) -> Self:
        return self


# One converter per type of value: mypy does not read the type of an attrs field from a generic one.


def read_only_decimals(mapping: Mapping[str, Decimal]) -> Mapping[str, Decimal]:
    """A private read-only copy."""
    return ReadOnlyDict(mapping)


def read_only_texts(mapping: Mapping[str, str]) -> Mapping[str, str]:
    """A private read-only copy."""
    return ReadOnlyDict(mapping)


def read_only_integers(mapping: Mapping[str, int]) -> Mapping[str, int]:
    """A private read-only copy."""
    return ReadOnlyDict(mapping)
