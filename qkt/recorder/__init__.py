"""The flight recorder: everything a process heard, sent, concluded and told, in files that can be replayed."""

from qkt.recorder.recorder import FlightRecorder, RecorderStats

__all__ = ["FlightRecorder", "RecorderStats"]
