"""Named, seeded, composable faults: what goes wrong between a client and the venue, on demand."""

from .kinds import KINDS, FaultKind
from .registry import Fault, Faults

__all__ = ["KINDS", "Fault", "FaultKind", "Faults"]
