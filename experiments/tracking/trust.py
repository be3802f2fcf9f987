"""Whose store this is. Code from a store runs only if this user made the store, or has said that it may.

A store has a key. The user's configuration folder remembers the keys of the stores that this user made or trusts.
"""

import hashlib
import os
import secrets
import shlex
import sqlite3
import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.process.redaction import without_credentials
from lightning_modules.errors import InputError
from lightning_modules.log import LOG
from lightning_modules.showable import PROSE, showable

if TYPE_CHECKING:
    from experiments.tracking.store import Store

_KEY = "key"


def own(folder: Path) -> None:
    """Gives a new store its key, and remembers that this user made it."""
    key = folder / _KEY
    if not key.exists():
        with os.fdopen(os.open(key, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:  # noqa: PTH
            file.write(secrets.token_hex(32))
    _remember(_name_of_folder(folder), str(folder))


def own_if_empty(folder: Path) -> None:
    """Takes over a store that MLflow has made and nobody has used yet."""
    if not (folder / _KEY).exists():
        with closing(sqlite3.connect(folder / "mlflow.db", timeout=60)) as connection:
            tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE name = 'runs'")}
            is_used = not tables or connection.execute("SELECT 1 FROM runs LIMIT 1").fetchone() is not None
        if not is_used:
            own(folder)


def is_trusted(store: "Store") -> bool:
    """Whether this user made the store, or has trusted it before."""
    name = _name(store)
    return name is not None and (_remembered() / name).exists()


def require_trust(store: "Store", is_given: bool, what_would_run: Callable[[], Sequence[str]]) -> None:
    """Raises InputError unless the store is trusted, or becomes so now: by `--trust`, or by the answer on a terminal.

    `what_would_run` describes what the user is asked to trust.
    """
    if is_trusted(store):
        return
    where = str(store.folder) if store.is_local else without_credentials(store.tracking_uri)
    message = f"it is not known as a store of yours, and this would run: {'; '.join(what_would_run())}"
    if not is_given and sys.stdin.isatty():
        print(showable(f"{where}: {message}. Run it? [y/N] ", PROSE), end="", file=sys.stderr, flush=True)
        is_given = sys.stdin.readline().strip().lower() in {"y", "yes"}
    if not is_given:
        raise InputError("--trust", where, message, "add --trust to run it, now and later")
    if store.is_local:
        own(store.folder)
    else:
        _remember(_name_of_server(store), where)
    LOG.info(f"{where} is trusted from now on; to undo it: rm {shlex.quote(str(_remembered() / str(_name(store))))}")


def _name(store: "Store") -> str | None:
    return _name_of_folder(store.folder) if store.is_local else _name_of_server(store)


def _name_of_folder(folder: Path) -> str | None:
    """Returns the name under which a store's key is remembered; None if it has no key."""
    try:
        key = (folder / _KEY).read_bytes()
    except OSError:
        return None
    return hashlib.sha256(key).hexdigest() if len(key) >= 32 else None


def _name_of_server(store: "Store") -> str:
    return hashlib.sha256(without_credentials(store.tracking_uri).encode()).hexdigest()


def _remembered() -> Path:
    home = os.environ.get("XDG_CONFIG_HOME") or Path("~/.config").expanduser()
    return Path(home) / "lightning-workbench" / "stores"


def _remember(name: str | None, where: str) -> None:
    """Remembers a store; says so if that is not possible."""
    try:
        _remembered().mkdir(parents=True, exist_ok=True)
        (_remembered() / str(name)).write_text(f"{where}\n", encoding="utf-8")
    except OSError as error:
        LOG.warning(f"{_remembered()} cannot be written ({error.strerror}): you will be asked for --trust each time")
