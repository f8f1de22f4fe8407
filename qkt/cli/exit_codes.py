"""What the exit code of every ``qkt`` command means; documented in ``docs/how-to/use-the-command-line.md``.

A script branches on these, so they are few, and each says what the caller can do.
"""

from __future__ import annotations

OK = 0  # done, and everything agrees
NO = 1  # the answer is no: refused by the venue, found to differ, a red light
USAGE = 2  # the call is wrong or something is missing here (arguments, keys, an extra); nothing was sent
UNAVAILABLE = 3  # the venue could not be reached or read; nothing happened there, try again
UNKNOWN = 4  # it may have happened: look it up by its id, do not repeat it
INTERRUPTED = 130  # Ctrl-C
