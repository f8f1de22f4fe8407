"""`ReadOnlyDict`: the mapping type of every public value of qkt."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import NoReturn, Self, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class ReadOnlyDict(dict[K, V]):
    """A dict that refuses changes with TypeError. It can be pickled, copied, and written as JSON.

    A ``MappingProxyType`` can do none of the three, so a value that holds one cannot leave its process.
    """

    __slots__ = ()

    def __setitem__(self, key: K, value: V) -> NoReturn:
        raise _read_only()

    def __delitem__(self, key: K) -> NoReturn:
        raise _read_only()

    def __ior__(self, other: object) -> NoReturn:  # type: ignore[misc]
        raise _read_only()

    def clear(self) -> NoReturn:
        """Raises TypeError."""
        raise _read_only()

    def pop(self, *_arguments: object) -> NoReturn:
        """Raises TypeError."""
        raise _read_only()

    def popitem(self) -> NoReturn:
        """Raises TypeError."""
        raise _read_only()

    def setdefault(self, *_arguments: object) -> NoReturn:
        """Raises TypeError."""
        raise _read_only()

    def update(self, *_arguments: object, **_named: object) -> NoReturn:
        """Raises TypeError."""
        raise _read_only()

    def __reduce__(self) -> tuple[type[Self], tuple[dict[K, V]]]:
        return type(self), (dict(self),)

    def copy(self) -> dict[K, V]:
        """An ordinary dict with the same items."""
        return dict(self)

    def __copy__(self) -> Self:
        return self


def _read_only() -> TypeError:
    return TypeError("this mapping is read-only; make a dict of it to change it")


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
