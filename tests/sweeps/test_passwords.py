"""Passwords planted wherever one can stand: nothing that a command prints or leaves behind holds them."""

import os
import sqlite3
import subprocess
import sys
import zlib
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import quote, quote_plus

import psycopg
import pytest

from benchmarks.postgres import Postgres
from tests.conftest import TrackingServer
from workbench import main

# Each has a core that is searched for, and characters that URLs, JSON, HTML and shells treat in their own ways.
HARD = 'Zq7/{}#x?y@z:1 é%2F&"<'
PASSWORDS = {place: HARD.format(place) for place in ("server", "storage", "pgpass", "recipe", "note", "away")}

NETWORK = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, image_shape, num_classes, url: str, calls_left: int = 10**9):
        super().__init__()
        self.url, self.calls_left = url, calls_left
        self.head = nn.Linear(image_shape[0] * image_shape[1] * image_shape[2], num_classes)

    def forward(self, images):
        self.calls_left -= 1
        if self.calls_left < 0:
            raise RuntimeError(f"no answer from {self.url}")
        return self.head(torch.flatten(images, 1))
"""


def forms(password: str) -> set[bytes]:
    """A password as it is and encoded; and its parts, which an error about a URL may quote."""
    texts = {password, quote(password), quote(password, safe=""), quote_plus(password)}
    core = password.partition("/")[2].partition("#")[0]  # server, storage, …: never a word of its own
    texts |= {f"/{core}#", f"%2F{core}%23", f"{core}#x", f"{core}%23x"}
    return {text.encode() for text in texts}


def leaks(content: bytes) -> list[str]:
    return [place for place, password in PASSWORDS.items() if any(form in content for form in forms(password))]


def leaking_files(folder: Path) -> dict[str, list[str]]:
    """Returns the files of a folder that hold a password, also packed by git."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            content = path.read_bytes()
            if "objects" in path.parts and path.suffix == "" and len(path.name) == 38:
                content += zlib.decompress(content)
            if places := leaks(content):
                found[str(path.relative_to(folder))] = places
    return found


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project of the user's own, whose recipe holds a password in a URL."""
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "net.py").write_text(NETWORK)
    url = f"postgresql://me:{quote(PASSWORDS['recipe'], safe='')}@db/x"
    fields = f"model: {{network: net.Net, network_args: {{url: '{url}'}}}}\ndata: {{source: digits}}\n"
    (folder / "own.yaml").write_text(f"{fields}trainer: {{max_epochs: 1, threads: 1}}\n")
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
    return folder


@pytest.fixture
def databases(postgres: Postgres) -> Iterator[dict[str, str]]:
    """The URLs of two databases, of users with hard passwords: in the URL, and in PGPASSWORD."""
    urls = {}
    for place in ("storage", "pgpass"):
        with psycopg.connect(postgres.url, autocommit=True) as connection:
            text = PASSWORDS[place].replace("'", "''")
            connection.execute(f"CREATE ROLE {place} LOGIN SUPERUSER PASSWORD '{text}'".encode())
        postgres.create(f"of_{place}")
        secret = f":{quote(PASSWORDS[place], safe='')}" if place == "storage" else ""
        urls[place] = f"postgresql://{place}{secret}@127.0.0.1:{postgres.port}/of_{place}"
    yield urls
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        for place in urls:
            connection.execute(f"DROP DATABASE of_{place} WITH (FORCE)".encode())
            connection.execute(f"DROP ROLE {place}".encode())


class Commands:
    """Runs commands in the project, and remembers what they print."""

    def __init__(self, project: Path, store: Path, **environment: str) -> None:
        self._project, self._store = project, store
        self._environment = os.environ | environment | {"PYTHONPATH": str(Path.cwd())}
        self.printed: dict[str, str] = {}

    def run(self, *words: str, code: int = 0) -> str:
        command = [sys.executable, "-m", "workbench", *words, "--store", str(self._store)]
        done = subprocess.run(command, cwd=self._project, env=self._environment, capture_output=True, text=True)
        self.printed[" ".join(words)[:60]] = done.stdout + done.stderr
        assert done.returncode == code, done.stderr
        return done.stdout

    def check(self) -> None:
        found = {command: leaks(text.encode()) for command, text in self.printed.items()}
        assert {command: places for command, places in found.items() if places} == {}


def test_no_password_is_printed_or_left_behind(
    project: Path, stoppable_server: TrackingServer, databases: dict[str, str], postgres: Postgres, tmp_path: Path
) -> None:
    server = stoppable_server.url.replace("//", f"//me:{quote(PASSWORDS['server'], safe='')}@")
    store = tmp_path / "store"
    commands = Commands(project, store, MLFLOW_TRACKING_URI=server, PGPASSWORD=PASSWORDS["pgpass"])
    note = f"see http://me:{quote(PASSWORDS['note'], safe='')}@host"
    commands.run("train", "own.yaml", "--notes", note, "--tag", f"from={note}", "--name", "first")
    commands.run("train", "own.yaml", "--trainer.max_epochs", "2", "--json", "--name", "second")
    commands.run("train", "own.yaml", "--model.network_args.calls_left", "20", "--name", "failing", code=1)
    for place, workers in (("storage", "1"), ("pgpass", "2")):
        words = ["--storage", databases[place], "--budget.trials", "2", "--finalists.seeds", "1", "--name", place]
        commands.run("sweep", "digits", *words, "--workers", workers, "--trainer.max_epochs", "1")
    commands.run("sweep", "digits", "--storage", databases["storage"], "--name", "storage", "--seed", "7", code=2)
    commands.run("runs", "--json")
    commands.run("compare", "first", "second", "--html", str(tmp_path / "page.html"), "--log")
    commands.run("reproduce", "first", "--trust")
    commands.check()
    assert leaking_files(store) == {}
    assert leaks((tmp_path / "page.html").read_bytes()) == []
    server_folder = stoppable_server._folder
    with closing(sqlite3.connect(server_folder / "server.db")) as connection:
        assert leaks("\n".join(connection.iterdump()).encode()) == []
    assert leaking_files(server_folder) == {}
    for place, url in databases.items():
        with psycopg.connect(url, password=PASSWORDS[place]) as connection:
            tables = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
            rows = [str(connection.execute(f'SELECT * FROM "{table}"'.encode()).fetchall()) for (table,) in tables]
        assert len(tables) > 10
        assert leaks("\n".join(rows).encode()) == []


@pytest.mark.parametrize("command", [["runs"], ["train", "digits"], ["sweep", "digits"], ["ui"]], ids="".join)
@pytest.mark.parametrize("start", ["http://me:", "postgresql://me:", "ftp://me:", "mysql://me:"])
@pytest.mark.parametrize("is_encoded", [True, False])
def test_an_address_that_cannot_be_used_is_told_without_its_password(
    command: list[str],
    start: str,
    is_encoded: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    written = quote(PASSWORDS["away"], safe="") if is_encoded else PASSWORDS["away"]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"{start}{written}@127.0.0.1:9/db")
    assert main([*command, "--json", "--store", str(tmp_path)]) == 2
    printed = "".join(capfd.readouterr())
    assert "MLFLOW_TRACKING_URI" in printed
    assert "Traceback" not in printed
    assert leaks(printed.encode()) == []
    assert leaking_files(tmp_path) == {}


@pytest.mark.parametrize("start", ["postgresql://me:", "mysql://me:"])
@pytest.mark.parametrize("is_encoded", [True, False])
def test_a_storage_that_cannot_be_used_is_told_without_its_password(
    start: str, is_encoded: bool, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    written = quote(PASSWORDS["away"], safe="") if is_encoded else PASSWORDS["away"]
    url = f"{start}{written}@127.0.0.1:9/db"
    for command in (["sweep", "digits", "--storage", url], ["train", "digits", f"--storage={url}"]):
        assert main([*command, "--store", str(tmp_path)]) == 2
    (tmp_path / "mlflow.db").touch()
    assert main(["store", "copy", str(tmp_path), str(tmp_path / "to"), "--to-tracking", url]) == 2
    printed = "".join(capfd.readouterr())
    assert "Traceback" not in printed
    assert leaks(printed.encode()) == []
    assert leaking_files(tmp_path) == {}
