"""Faults on command between a client and the venue: named, seeded, and combined at will."""

from .kinds import KINDS, FaultKind
from .registry import Fault, Faults

__all__ = ["KINDS", "Fault", "FaultKind", "Faults"]
