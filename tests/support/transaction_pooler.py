"""PgBouncer in transaction mode before a server of the tests, where it is installed."""

from __future__ import annotations

import shutil
import subprocess
import threading
from pathlib import Path

import psycopg

from tests.support.postgres_server import PostgresServer

_CONFIGURATION = """\
[databases]
* = host={folder} port={port} user=qkt

[pgbouncer]
pool_mode = transaction
auth_type = any
listen_addr =
listen_port = 6432
unix_socket_dir = {folder}
default_pool_size = 3
max_client_conn = 200
ignore_startup_parameters = extra_float_digits
"""


def pgbouncer_program() -> str | None:
    """Where PgBouncer is installed, None where it is not."""
    return shutil.which("pgbouncer", path="/usr/sbin:/usr/bin:/usr/local/bin:/usr/local/sbin")


class TransactionPooler:
    """A running PgBouncer: each transaction may run on another connection of the server."""

    def __init__(self, server: PostgresServer, program: str) -> None:
        self.server = server
        configuration = Path(server.folder) / "pgbouncer.ini"
        configuration.write_text(_CONFIGURATION.format(folder=server.folder, port=server.port))
        configuration.chmod(0o644)
        self._process = server.run_as_its_user([program, "-q", str(configuration)])
        self._wait_until_it_answers()

    def dsn(self, database: str) -> str:
        """A connection string that leads through the pooler."""
        return f"host={self.server.folder} port=6432 user=qkt dbname={database}"

    def close(self) -> None:
        """Stop the pooler."""
        self._process.terminate()
        self._process.wait(timeout=10)

    def _wait_until_it_answers(self) -> None:
        pause = threading.Event()
        for _ in range(200):
            try:
                psycopg.connect(self.dsn("postgres"), connect_timeout=2).close()
            except psycopg.OperationalError:
                pause.wait(0.02)
            else:
                return
        self._process.kill()
        raise subprocess.SubprocessError("pgbouncer does not answer")
