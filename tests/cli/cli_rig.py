"""Run ``qkt`` as a person does: on a pseudo-terminal, or piped, in a process of its own."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import sys
import time

import attrs

ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[()][A-Z0-9]|\r")


@attrs.frozen(kw_only=True)
class Ended:
    """How a run of ``qkt`` ended."""

    code: int
    out: str
    err: str = ""

    @property
    def lines(self) -> list[str]:
        """What a person sees: no colours."""
        return ANSI.sub("", self.out).splitlines()

    @property
    def text(self) -> str:
        return "\n".join(self.lines)


def environment(**more: str) -> dict[str, str]:
    """Of the run: 80 columns, no account of the developer's."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("BYBIT_")}
    return {**kept, "COLUMNS": "80", "LINES": "40", "TERM": "xterm-256color", "PYTHONUNBUFFERED": "1", **more}


def start(*arguments: str, env: dict[str, str] | None = None, stdin: str | None = None) -> subprocess.Popen[str]:
    """Begin a piped run."""
    return subprocess.Popen(
        [sys.executable, "-m", "qkt.cli", *arguments],
        stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=env or environment(),
    )


def end(process: subprocess.Popen[str], timeout_s: float = 40) -> Ended:
    """Wait for a piped run."""
    out, err = process.communicate(timeout=timeout_s)
    return Ended(code=process.returncode, out=out, err=err)


def on_a_terminal(
    *arguments: str,
    env: dict[str, str] | None = None,
    answer: tuple[str, str] | None = None,
    timeout_s: float = 40,
) -> Ended:
    """Run to the end on a pseudo-terminal of 80 columns.

    ``answer``: once the first text is on the screen, type the second (``"\\x03"`` is Ctrl-C).
    """
    child, terminal = pty.fork()
    if child == 0:
        os.execve(sys.executable, [sys.executable, "-m", "qkt.cli", *arguments], env or environment())
    screen, deadline = b"", time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        ready, _, _ = select.select([terminal], [], [], 0.2)
        if not ready:
            continue
        try:
            piece = os.read(terminal, 65536)
        except OSError:  # the child has closed its side
            piece = b""
        if not piece:
            break
        screen += piece
        if answer is not None and answer[0].encode() in screen:
            os.write(terminal, answer[1].encode())
            answer = None
    else:
        os.kill(child, 9)
    _, status = os.waitpid(child, 0)
    os.close(terminal)
    return Ended(code=os.waitstatus_to_exitcode(status), out=screen.decode("utf-8", "replace"))
