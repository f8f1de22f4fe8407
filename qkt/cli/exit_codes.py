"""Exit codes of every ``qkt`` command; documented in ``docs/how-to/use-the-command-line.md``."""

from __future__ import annotations

OK = 0  # done; nothing differs
NO = 1  # negative result: refused by the venue, a difference found, a red check
USAGE = 2  # the call is wrong or something is missing here (arguments, keys, an extra); nothing was sent
UNAVAILABLE = 3  # the venue could not be reached or read; nothing happened there, try again
UNKNOWN = 4  # it may have happened: look it up by its id, do not repeat it
INTERRUPTED = 130  # Ctrl-C
