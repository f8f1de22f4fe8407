"""Detects that the process was forked since an object was made.

A child of `os.fork` has the sockets of its parent but none of its threads: a connection used by both mixes up their
answers. Objects that own connections keep the `generation` they were made in, and refuse to work in another one.
"""

from __future__ import annotations

import os

_generation = 0


def generation() -> int:
    """How many forks lie between the first process and this one."""
    return _generation


def _forked() -> None:
    global _generation
    _generation += 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
