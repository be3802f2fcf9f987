"""Finds what differs between runs: params, code, data, packages, hardware and environment, one row per field."""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from experiments.artifact_names import CODE_BUNDLE, PATCH, SOURCES
from experiments.code.differences import CodeDifference, code_differences
from experiments.code.recorded import RecordedCode
from experiments.config import NOT_COMPARED
from experiments.errors import Altered, CannotRun
from experiments.provenance.origins import Field, edited_files, is_told_by_some, origins, unrecorded
from experiments.results.artifacts import Artifacts
from experiments.tracking.runs import RunSummary

Row = dict[str, Any]  # field, kind, values: {run_id: value}

_ORDER = ("param", "code", "data", "package", "hardware", "threads", "environment", "unrecorded")
_READERS = 8  # how many provenance.json are read at once


@dataclass(frozen=True)
class Recorded:
    """A run with its provenance.json; None if the run has none that can be read."""

    run: RunSummary
    provenance: Mapping[str, Any] | None

    @property
    def run_id(self) -> str:
        return self.run.run_id

    @property
    def data_sha256(self) -> str | None:
        return None if self.provenance is None else str(self.provenance["data_sha256"])


def read_provenances(artifacts: Artifacts, runs: Sequence[RunSummary]) -> list[Recorded]:
    """Returns the runs in the same order, each with its provenance."""
    with ThreadPoolExecutor(_READERS) as pool:
        return list(pool.map(lambda run: Recorded(run, artifacts.provenance(run)), runs))


def does_differ(row: Row) -> bool:
    return len(set(map(str, row["values"].values()))) > 1


def differences(artifacts: Artifacts, runs: Sequence[Recorded]) -> tuple[list[Row], list[str]]:
    """Returns rows, and notes on what is unknown. Every field of any run has a row; of code only what differs.

    The location of data does not count: the row `data`, their digest, shows whether the data are the same.
    """
    known = [each for each in runs if each.provenance is not None]
    code, notes = _code(artifacts, known)
    for each in known:
        for detail in unrecorded(each.provenance or {}):
            notes.append(f"{each.run.name} ({each.run_id[:8]}): {detail}")
    if unknown := len(runs) - len(known):
        unknowns = "their code, data, packages and hardware are unknown"
        notes.append(f"{unknown} of {len(runs)} runs have no provenance.json: {unknowns}")
    rows = [*_params(runs), *code, *_environments(known)]
    return sorted(rows, key=lambda row: _ORDER.index(row["kind"])), notes


def _params(runs: Sequence[Recorded]) -> Iterator[Row]:
    for name in sorted({name for each in runs for name in each.run.params} - NOT_COMPARED):
        yield {"field": name, "kind": "param", "values": {each.run_id: each.run.params.get(name) for each in runs}}


def _environments(runs: Sequence[Recorded]) -> Iterator[Row]:
    """Yields the rows on everything but params and code, for runs that have a provenance."""
    found = {each.run_id: origins(each.provenance or {}) for each in runs}
    for field in sorted({field for fields in found.values() for field in fields}):
        values = {run_id: fields.get(field) for run_id, fields in found.items()}
        told = [fields[field] for fields in found.values() if field in fields]
        if is_told_by_some(field) and len(set(map(str, told))) == 1:
            values = dict.fromkeys(found, told[0])
        yield {"field": field[1], "kind": field[0], "values": _as_shown(field, values)}


def _as_shown(field: Field, values: Mapping[str, Any]) -> dict[str, Any]:
    """Shortens a package to its version (and a digest if only files differ), CPU flags to those that some runs lack."""
    kind, name = field
    if kind == "package" and is_told_by_some(field):
        return {
            run_id: package and f"{edited_files(package[0])} ({package[1][:8]})" for run_id, package in values.items()
        }
    if kind == "package":
        same = len({package and package[0] for package in values.values()}) == 1
        differ = same and len(set(values.values())) > 1
        return {
            run_id: package and package[0] + (f" (files {str(package[1])[:8]})" if differ else "")
            for run_id, package in values.items()
        }
    if name == "cpu_flags":
        flags = {run_id: set((value or "").split()) for run_id, value in values.items()}
        common = set.intersection(*flags.values())
        return {run_id: " ".join(sorted(own - common)) for run_id, own in flags.items()}
    return dict(values)


def _code(artifacts: Artifacts, runs: Sequence[Recorded]) -> tuple[list[Row], list[str]]:
    """Returns rows for the places where the runs' code differs, and notes. Each version of it is unpacked once."""
    versions: dict[str, list[Recorded]] = {}
    codes: dict[str, RecordedCode] = {}
    for each in runs:
        code = _code_of(artifacts, each)
        versions.setdefault(code.version, []).append(each)
        codes.setdefault(code.version, code)
    if len(versions) < 2:
        return [], []
    try:
        with ExitStack() as open_folders:
            folders = [open_folders.enter_context(code.unpacked()).folder for code in codes.values()]
            return [_row(difference, list(versions.values())) for difference in code_differences(folders)], []
    except (Altered, CannotRun, OSError) as error:
        values = {each.run_id: version for version, found in versions.items() for each in found}
        note = f"code could not be compared line by line: {error}"
        return [{"field": "commit", "kind": "code", "values": values}], [note]


def _code_of(artifacts: Artifacts, recorded: Recorded) -> RecordedCode:
    assert recorded.provenance is not None
    names = (CODE_BUNDLE, SOURCES) if "code" in recorded.provenance else (PATCH, SOURCES)
    paths = [artifacts.find(recorded.run, name) for name in names]
    folder = next((path.parent for path in paths if path), artifacts.scratch)
    return RecordedCode(artifacts.store.folder, recorded.provenance, folder)


def _row(difference: CodeDifference, versions: Sequence[Sequence[Recorded]]) -> Row:
    """Returns a row with each run's lines, or, for a file that some runs lack, which runs have it."""
    is_whole_file = None in difference.copies
    first = difference.copies[0]
    field = difference.file if is_whole_file or first is None else f"{difference.file}:{first.first}"
    values: dict[str, str | None] = {}
    for lines, runs in zip(difference.copies, versions, strict=True):
        text = None if lines is None else "exists" if is_whole_file else "\n".join(lines.text)
        values |= {each.run_id: text for each in runs}
    return {"field": field, "kind": "code", "values": values}
