"""Where MLflow's database holds addresses of artifacts, and how they follow a store that was moved."""

import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from urllib.parse import urlparse

from mlflow.utils.file_utils import local_file_uri_to_path

ADDRESSES = {  # the columns that hold addresses of artifacts
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
    ("trace_tags", "value"),
    ("workspaces", "default_artifact_root"),
}


def local_folder(artifact_uri: str) -> Path | None:
    """Returns the folder with a run's artifacts; None if a server has them."""
    is_local = urlparse(artifact_uri).scheme in ("", "file")
    return Path(local_file_uri_to_path(artifact_uri)) if is_local else None


def below(address: str | None, roots: Iterable[str]) -> str | None:
    """Returns the rest of the address after one of the roots; None if it is under none of them."""
    rests = [address.removeprefix(root) for root in roots if address and address.startswith(root)]
    return next((rest for rest in rests if rest == "" or (rest[0] == "/" and rest[:2] != "//")), None)


def follow(database: Path, artifacts: Path) -> int:
    """Adapts the addresses in a store's `mlflow.db` if the store was moved here; returns how many runs have new ones.

    It was moved if the artifacts are in the folder `artifacts`, but the database says another one, which is gone.
    """
    with closing(sqlite3.connect(database, timeout=60)) as connection:
        moved = [old for old in _roots(connection) if old != artifacts and _was_moved(connection, old, artifacts)]
        if not moved:
            return 0
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        runs = 0
        with connection:
            for old in moved:
                for before, after in ((old.as_uri(), artifacts.as_uri()), (str(old), str(artifacts))):
                    for table, column in sorted(ADDRESSES):
                        if table not in tables:
                            continue
                        done = connection.execute(
                            f"UPDATE {table} SET {column} = ? || substr({column}, ?) "
                            f"WHERE {column} = ? OR substr({column}, 1, ?) = ?",
                            (after, len(before) + 1, before, len(before) + 1, f"{before}/"),
                        )
                        runs += done.rowcount if table == "runs" else 0
        return runs


def _roots(connection: sqlite3.Connection) -> set[Path]:
    """Returns the folders called `artifacts` that experiments keep their runs in: itself, or its folder 0, 1, …"""
    locations = [
        location for (location,) in connection.execute("SELECT artifact_location FROM experiments") if location
    ]
    folders = [folder for location in locations if (folder := local_folder(location)) is not None]
    return {path for folder in folders for path in (folder, folder.parent) if path.name == "artifacts"}


def _was_moved(connection: sqlite3.Connection, old: Path, artifacts: Path) -> bool:
    if old.exists():
        return False
    uris = [uri for (uri,) in connection.execute("SELECT artifact_uri FROM runs") if uri]
    rests = [rest for uri in uris if (rest := below(uri, (old.as_uri(), str(old)))) is not None]
    return any((artifacts / rest.strip("/")).exists() for rest in rests)
