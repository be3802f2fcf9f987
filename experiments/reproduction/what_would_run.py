"""What a reproduction would run, in words, for a user who is asked to trust it. Nothing is imported to find out."""

import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

from experiments.code.own import texts_in
from experiments.code.recorded import RecordedCode
from experiments.errors import Altered, CannotRun
from experiments.provenance.machine import is_harmless
from experiments.provenance.record import Record, read_record
from experiments.reproduction.reproduce import Settings
from experiments.tracking.store import Store

_MOST = 3  # runs that are described
_DOTTED = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")
_AT_START = ("sitecustomize.py", "usercustomize.py")  # Python runs these before anything else


def what_would_run(store: Store, run_ids: Sequence[str], settings: Settings) -> list[str]:
    """Returns one description for each kind of thing that the reproduction of these runs would execute or set."""
    said: list[str] = []
    with tempfile.TemporaryDirectory() as scratch:
        for number, run_id in enumerate(run_ids[:_MOST]):
            try:
                record = read_record(store, run_id, Path(scratch) / str(number))
            except CannotRun as error:
                said.append(f"run {run_id[:8]}, of which {error.message}")
                continue
            said += _of_record(store, record, settings)
    if len(run_ids) > _MOST:
        said.append(f"{len(run_ids) - _MOST} more runs")
    return list(dict.fromkeys(said))


def _of_record(store: Store, record: Record, settings: Settings) -> Iterator[str]:
    code = RecordedCode(store.folder, record.provenance, record.folder)
    names: list[str] = []
    if settings.code == "today":
        yield "today's code"
    else:
        try:
            names = code.names()
        except (Altered, CannotRun) as error:
            yield f"its code, of which {error.message}"
        yield f"its {code.version}" + (f", {len(names)} files" if names else "")
    yield from (f"{name}, at the start of Python" for name in names if name.endswith(_AT_START))
    yield from _parts(record.tree, names)
    if applied := [name for name, value in record.provenance["variables"].items() if value and is_harmless(name)]:
        yield f"with {', '.join(applied)} set"
    if settings.env == "recorded":
        yield "pip install of its requirements.txt"


def _parts(tree: Mapping[str, Any], names: Sequence[str]) -> Iterator[str]:
    """Describes where the dotted paths of a config lead."""
    for text in filter(_DOTTED.fullmatch, texts_in(tree)):
        top = text.partition(".")[0]
        files = [name for name in names if f"/{name}".endswith((f"/{top}.py", f"/{top}/__init__.py"))]
        if files:
            yield f"{text} in {files[0]}"
        else:
            is_installed = PathFinder.find_spec(top) is not None
            yield f"{text} of the installed package {top}" if is_installed else f"{text}, which is not found"
