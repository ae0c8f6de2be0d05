"""A PostgreSQL of one's own on loopback, ended and removed afterwards."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.ports import free_ports


@dataclass(frozen=True)
class Server:
    """``url`` of a database by its name, with ``{}`` for the name; ``trigrams``: the extension pg_trgm, which Prefect's database needs."""

    url: str
    trigrams: bool


def binaries() -> Path | None:
    """Folder of ``initdb`` and ``postgres`` of this machine, None where it has none that root could start as another user."""
    found = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    on_path = shutil.which("initdb")
    folder = max(found, key=lambda path: int(path.parent.name), default=Path(on_path).resolve().parent if on_path else None)
    try:
        import pwd

        pwd.getpwnam("postgres")
    except KeyError:
        return None if os.geteuid() == 0 else folder
    return folder


@contextmanager
def served(*databases: str, packaged: bool = False) -> Iterator[Server]:
    """A running server with empty ``databases``: the machine's, or ``packaged`` with PyPI's pgserver."""
    folder = binaries()
    if folder is None or packaged:
        yield from _pgserver(databases)
        return
    # the server refuses to run as root, and pytest's folders are closed to everybody else
    user: dict[str, Any] = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.geteuid() == 0 else {}
    data = Path(tempfile.mkdtemp(prefix="fct-pg-"))
    if user:
        shutil.chown(data, "postgres", "postgres")
    (port,) = free_ports(1)
    try:
        initdb = [folder / "initdb", "-D", data / "db", "-U", "postgres", "-A", "trust", "--no-sync"]
        subprocess.run(initdb, check=True, capture_output=True, cwd=data, **user)
        ctl = [folder / "pg_ctl", "-D", data / "db", "-w"]
        options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={data} -c fsync=off"
        subprocess.run([*ctl, "-o", options, "-l", data / "log", "start"], check=True, stdout=subprocess.DEVNULL, cwd=data, **user)
        try:
            psql = [folder / "psql", "-h", "127.0.0.1", "-p", str(port), "-U", "postgres", "-qAt", "-c"]
            for name in databases:
                subprocess.run([*psql, f"CREATE DATABASE {name}"], check=True, capture_output=True)
            asked = "SELECT count(*) FROM pg_available_extensions WHERE name = 'pg_trgm'"
            trigrams = subprocess.run([*psql, asked], check=True, capture_output=True, text=True).stdout.strip() == "1"
            yield Server(f"postgresql://postgres@127.0.0.1:{port}/{{}}", trigrams)
        finally:
            subprocess.run([*ctl, "-m", "immediate", "stop"], check=False, stdout=subprocess.DEVNULL, cwd=data, **user)
    finally:
        shutil.rmtree(data, ignore_errors=True)


def _pgserver(databases: tuple[str, ...]) -> Iterator[Server]:
    import pgserver
    import psycopg2

    folder = tempfile.mkdtemp(prefix="fct-pg-")
    server = pgserver.get_server(folder, cleanup_mode="stop")
    try:
        connection = psycopg2.connect(server.get_uri())  # its own psql goes through a shell, where a folder with a space is two words
        try:
            connection.autocommit = True
            for name in databases:
                connection.cursor().execute(f"CREATE DATABASE {name}")
        finally:
            connection.close()
        yield Server(server.get_uri().replace("/postgres?", "/{}?"), False)
    finally:
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)
