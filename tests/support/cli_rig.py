"""Run ``qkt`` as a person does: on a pseudo-terminal, or piped, in a process of its own."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time

import attrs

ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[()][A-Z0-9]")

# The terminal becomes the child's own, so that Ctrl-C typed into it reaches the child; then it is `qkt`.
_OWN_TERMINAL = "import fcntl, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
_MANY = """
import contextlib, io, json
from qkt.cli import main
for command in json.loads(sys.argv[1]):
    class Tee(io.StringIO):
        encoding = "utf-8"
        isatty = lambda self: True
        fileno = lambda self: 1
    with contextlib.redirect_stdout(Tee()) as screen:
        code = main(command)
    print(f"--8<--{code};" + screen.getvalue(), end="")
"""


@attrs.frozen(kw_only=True)
class Ended:
    """How a run of ``qkt`` ended."""

    code: int
    out: str
    err: str = ""

    @property
    def lines(self) -> list[str]:
        """What a person sees: no colours."""
        text = ANSI.sub("", self.out.replace("\r\n", "\n"))
        return [line.rstrip("\r").rpartition("\r")[2] for line in text.removesuffix("\n").split("\n")]

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


def many_on_a_terminal(*commands: tuple[str, ...], env: dict[str, str]) -> list[Ended]:
    """Several commands one after the other on one terminal, in one process."""
    seen = on_a_terminal(json.dumps(commands), env=env, program=_MANY)
    assert seen.code == 0, seen.text
    parts = seen.out.split("--8<--")[1:]
    return [Ended(code=int(part.split(";", 1)[0]), out=part.split(";", 1)[1]) for part in parts]


def on_a_terminal(
    *arguments: str,
    env: dict[str, str] | None = None,
    answer: tuple[str, str] | None = None,
    timeout_s: float = 40,
    program: str = "from qkt.cli import main; sys.exit(main())",
) -> Ended:
    """Run to the end on a pseudo-terminal of 80 columns.

    ``answer``: once the first text is on the screen, type the second (``"\\x03"`` is Ctrl-C).
    """
    terminal, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 80, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-c", _OWN_TERMINAL + program, *arguments],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=env or environment(),
        start_new_session=True,
    )
    os.close(theirs)
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
        process.kill()
    os.close(terminal)
    return Ended(code=process.wait(), out=screen.decode("utf-8", "replace"))
