"""Find out whether a file system can lock, before a journal trusts it.

SQLite keeps processes apart with the file system's locks. Some network and FUSE file systems refuse them and some
accept every one of them, so that two processes write at once and damage the file.
"""

from __future__ import annotations

import secrets
from pathlib import Path

from qkt.errors import JournalError, JournalUnavailableError

try:
    import fcntl
except ImportError:  # Windows: its locks are mandatory, and SQLite reports their absence itself
    fcntl = None  # type: ignore[assignment]


def check_file_locks(path: Path) -> None:
    """Raise JournalError when a lock beside ``path`` is refused, or given twice."""
    if fcntl is None:
        return
    # A file of its own: closing any descriptor of a file drops this process's POSIX locks on it, SQLite's included.
    probe = path.with_name(f".{path.name}.{secrets.token_hex(4)}.lock-probe")
    try:
        _check(probe)
    except JournalError:
        raise
    except OSError as error:
        raise JournalUnavailableError(f"cannot write beside {path}: {error.strerror}") from error
    finally:
        probe.unlink(missing_ok=True)


def _check(probe: Path) -> None:
    with probe.open("w") as first, probe.open("w") as second:
        try:
            fcntl.flock(first, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise _cannot_lock(probe, f"a lock is refused: {error.strerror}") from error
        try:
            fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return
        raise _cannot_lock(probe, "a lock is given twice")


def _cannot_lock(probe: Path, cause: str) -> JournalError:
    return JournalError(
        f"the file system of {probe.parent} cannot lock files ({cause}): two processes would damage the journal; "
        "put it on a local disk, or use PostgresJournal"
    )
