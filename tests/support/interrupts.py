"""Ctrl-C at a chosen instruction: KeyboardInterrupt raised by the interpreter itself, where it can raise one.

CPython runs signal handlers where a call, a function or a loop begins or ends, never elsewhere. `run` counts those
instructions while an action runs on the main thread and trips SIGINT just before one of them is executed, so the
handler raises exactly where a real Ctrl-C would have.
"""

from __future__ import annotations

import _thread
import dis
import gc
import signal
import sys
from collections.abc import Callable
from types import CodeType, FrameType
from typing import Any

import attrs

_CHECKING = {number for name, number in dis.opmap.items() if name.startswith(("CALL", "RESUME", "JUMP_BACKWARD"))}
_FOREIGN = ("/_pytest/", "/pluggy/", "<attrs generated", "<generated")


class _Trigger(int):
    """SIGINT. Reading ``trip`` trips it without a call, which would have the tracing function interrupted itself."""

    trip = property(_thread.interrupt_main)


@attrs.frozen
class Outcome:
    """How an action ended: interrupted or not, what it returned, and how many instructions could be interrupted."""

    is_interrupted: bool
    result: Any
    instructions: int


def run(action: Callable[[], Any], at: int) -> Outcome:
    """Run ``action`` and interrupt it at its ``at``-th instruction (from 1); 0 only counts."""
    trigger = _Trigger(signal.SIGINT)
    checks: dict[CodeType, frozenset[int]] = {}
    count = 0

    def each_instruction(frame: FrameType, event: str, _arg: Any) -> Any:
        nonlocal count
        if event == "opcode" and frame.f_lasti in checks[frame.f_code]:
            count += 1
            if count == at:
                sys.settrace(None)
                trigger.trip  # noqa: B018 - reading it trips the signal
        return each_instruction

    def each_call(frame: FrameType, _event: str, _arg: Any) -> Any:
        code = frame.f_code
        if any(part in code.co_filename for part in _FOREIGN):
            return None
        if code not in checks:
            checks[code] = frozenset(one.offset for one in dis.get_instructions(code) if one.opcode in _CHECKING)
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        return each_instruction

    before, handler = sys.gettrace(), signal.signal(signal.SIGINT, signal.default_int_handler)
    gc.disable()
    try:
        sys.settrace(each_call)
        result = action()
    except KeyboardInterrupt:
        return Outcome(True, None, count)
    finally:
        sys.settrace(before)
        gc.enable()
        signal.signal(signal.SIGINT, handler)
    return Outcome(False, result, count)
