"""`record.json`: what a run consisted of when it was closed, so that later changes to it are found.

It detects accidents and careless edits. Against a forger, who would change `record.json` too, it has to be signed.

`removed.json`, beside it, lists the checkpoints that the workbench has removed since: `record.json` and its signature
stay as they are. The list excuses that a checkpoint is missing, and nothing else.
"""

import json
import math
import os
import sys
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from mlflow.entities import Run

from experiments.artifact_names import (
    BEST_CHECKPOINT,
    LAST_CHECKPOINT,
    NEW_CHECKPOINT,
    NEW_LEADERBOARD,
    NEW_PREDICTIONS,
    NEW_REPORT_PAGE,
    RECORD,
    RECORD_SIGNATURE,
    REMOVED,
)
from lightning_modules.images.files import file_sha256

_TAGS = ("workbench.", "mlflow.source.git.commit", "mlflow.parentRunId")  # prefixes of the tags that are sealed
# Tags that may change while a run is at work, or that a later command may set.
_OPEN_TAGS = {
    *("workbench.owner", "workbench.lease"),
    *("workbench.reproduced_by", "workbench.evaluated_by", "workbench.verdict"),
}
# Left by processes that were killed:
UNFINISHED = (
    *(NEW_CHECKPOINT, NEW_PREDICTIONS, NEW_LEADERBOARD, NEW_REPORT_PAGE),
    *(f"{RECORD}.new", f"{REMOVED}.new"),
)
REMOVABLE = {LAST_CHECKPOINT, BEST_CHECKPOINT, *UNFINISHED}  # what the workbench itself removes from an ended run


def seal(
    folder: Path,
    *,
    run_id: str,
    status: str,
    owner: str,
    params: Mapping[str, str],
    metrics: Mapping[str, float],
    tags: Mapping[str, str],
    without: Collection[str] = (),
) -> None:
    """Writes `record.json` into a run's folder: the SHA-256 of every file there, the params, last metrics and tags.

    `without`: files that are about to be removed.
    """
    content = {
        "run_id": run_id,
        "status": status,
        "owner": owner,
        "params": dict(sorted(params.items())),
        "metrics": {name: as_stored(value).hex() for name, value in sorted(metrics.items())},
        "tags": _sealed_tags(tags),
        "artifacts": {name: digest for name, digest in artifacts(folder) if name not in without},
    }
    break_seal(folder)
    new = folder / f"{RECORD}.new"
    new.write_text(json.dumps(content, indent=2), encoding="utf-8")
    new.replace(folder / RECORD)


def break_seal(folder: Path) -> None:
    """Removes `record.json`, its signature and the list of what was removed since: the run goes on."""
    for name in (RECORD, RECORD_SIGNATURE, REMOVED):
        (folder / name).unlink(missing_ok=True)


def list_removals(folder: Path, names: Collection[str], removed_at: str) -> None:
    """Adds files that are about to be removed to `removed.json`; `removed_at` is a time. Their hashes stay in the seal.

    The file is on disk when this returns: a process that is killed between this and the removal leaves a true record.
    """
    listed = {**read_removals(folder), **dict.fromkeys(sorted(names), removed_at)}
    new = folder / f"{REMOVED}.new"
    with new.open("w", encoding="utf-8") as file:
        json.dump(listed, file, indent=2)
        file.flush()
        os.fsync(file.fileno())
    new.replace(folder / REMOVED)


def remove_file(folder: Path, name: str) -> None:
    """Removes a file from a run's folder, and the folder that it was in if that is empty then."""
    path = folder / name
    path.unlink(missing_ok=True)
    if path.parent != folder:
        with suppress(OSError):  # it is not empty, or gone
            path.parent.rmdir()


def read_removals(folder: Path) -> dict[str, str]:
    """Returns the names in `removed.json` with their times. What is not `REMOVABLE` does not count."""
    try:
        listed = json.loads((folder / REMOVED).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    listed = listed if isinstance(listed, dict) else {}
    return {name: str(time) for name, time in listed.items() if name in REMOVABLE}


def artifacts(folder: Path) -> Iterator[tuple[str, str]]:
    """Yields the name and the SHA-256 of every file below a run's folder, but those of the seal itself."""
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_file() and not name.startswith((RECORD, REMOVED)):
            yield name, file_sha256(path)


def broken(sealed: Mapping[str, Any], run: Run, folder: Path) -> Iterator[str]:
    """Describes each thing in a run that differs from its `record.json`. `folder` has its artifacts."""
    if sealed["run_id"] != run.info.run_id:
        yield f"{RECORD} belongs to run {sealed['run_id']}"
        return
    if sealed["status"] != run.info.status:
        yield f"status: {sealed['status']} when the run was closed, now {run.info.status}"
    yield from _differing("param", sealed["params"], run.data.params)
    metrics = {name: as_stored(value).hex() for name, value in run.data.metrics.items()}
    yield from _differing("metric", sealed["metrics"], metrics, float.fromhex)
    yield from _differing("tag", _sealed_tags(sealed["tags"]), run.data.tags)  # earlier versions sealed the lease, too
    found, removed = dict(artifacts(folder)), read_removals(folder)
    for name, digest in sealed["artifacts"].items():
        if name not in found and name not in removed:
            yield f"{name}: removed after the run was closed"
        elif found.get(name, digest) != digest:
            yield f"{name}: changed after the run was closed"


def as_stored(value: float) -> float:
    """Returns a metric's value as MLflow's databases hold it: they have no infinity, and no negative zero."""
    return value if math.isnan(value) else max(-sys.float_info.max, min(sys.float_info.max, float(value))) + 0.0


def _differing(kind: str, before: Mapping[str, str], now: Mapping[str, str], shown: Any = str) -> Iterator[str]:
    for name, value in before.items():
        if name not in now:
            yield f"{kind} {name}: removed after the run was closed"
        elif now[name] != value:
            yield f"{kind} {name}: {shown(value)} when the run was closed, now {shown(now[name])}"


def _sealed_tags(tags: Mapping[str, str]) -> dict[str, str]:
    return {name: text for name, text in sorted(tags.items()) if name.startswith(_TAGS) and name not in _OPEN_TAGS}
