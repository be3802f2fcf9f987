"""A private PostgreSQL server, from Debian's package. Tests use it too."""

import getpass
import secrets
import shutil
import socket
import subprocess
from pathlib import Path


def is_installed() -> bool:
    return any(Path("/usr/lib/postgresql").glob("*/bin/initdb"))


class Postgres:
    """A server on a free port, with one user and a password. `settings` are PostgreSQL's own, such as fsync=off.

    It listens on loopback, or on `address`, for the hosts of `network`. PostgreSQL refuses to run as root: if this
    process runs as root, the user `postgres` runs the server, and must be able to read and write `folder`.
    """

    def __init__(self, folder: Path, *settings: str, address: str = "127.0.0.1", network: str = "127.0.0.1/32") -> None:
        self._programs = next(iter(sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)), Path("/usr/bin"))
        self._data, self._log, self._settings = folder / "data", folder / "log", settings
        self._address = address
        self.password = secrets.token_urlsafe(16)  # made here, because a recorded patch may contain this file
        with socket.socket() as probe:
            probe.bind((address, 0))
            self.port = probe.getsockname()[1]
        (folder / "password").write_text(self.password)
        if getpass.getuser() == "root":
            for path in (folder, folder / "password"):
                shutil.chown(path, "postgres", "postgres")
        options = ("-A", "scram-sha-256", "-U", "researcher", "--pwfile", folder / "password")
        self._run("initdb", "-D", self._data, *options)
        with (self._data / "pg_hba.conf").open("a") as admitted:
            admitted.write(f"host all all {network} scram-sha-256\n")
        self.start()

    @property
    def url(self) -> str:
        return self.database("postgres")

    def database(self, name: str) -> str:
        """The URL of a database."""
        return f"postgresql://researcher:{self.password}@{self._address}:{self.port}/{name}"

    def create(self, name: str) -> str:
        """Makes a database and returns its URL."""
        import psycopg

        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}"'.encode())
        return self.database(name)

    def start(self) -> None:
        settings = (
            f"port={self.port}",
            f"listen_addresses={self._address}",
            "unix_socket_directories=",
            *self._settings,
        )
        options = " ".join(f"-c {setting}" for setting in settings)
        self._run("pg_ctl", "start", "-w", "-D", self._data, "-l", self._log, "-o", options)

    def stop(self) -> None:
        """Stops at once, as in a crash; the next start recovers."""
        self._run("pg_ctl", "stop", "-m", "immediate", "-D", self._data)

    def _run(self, program: str, *words: str | Path) -> None:
        command = [str(self._programs / program), *map(str, words)]
        if getpass.getuser() == "root":
            command = ["runuser", "-u", "postgres", "--", *command]
        subprocess.run(command, check=True, capture_output=True, cwd="/")
