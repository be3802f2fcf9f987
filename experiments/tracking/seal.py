"""`record.json`: what a run consisted of when it was closed, so that later changes to it are found.

It detects accidents and careless edits. Against a forger, who would change `record.json` too, it has to be signed.
"""

import json
import math
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mlflow.entities import Run

from experiments.artifact_names import RECORD, RECORD_SIGNATURE
from lightning_modules.images.files import file_sha256

_TAGS = ("workbench.", "mlflow.source.git.commit", "mlflow.parentRunId")  # prefixes of the tags that are sealed
# Tags that a later command may set or change.
_OPEN_TAGS = {"workbench.owner", "workbench.reproduced_by", "workbench.verdict"}


def seal(
    folder: Path,
    *,
    run_id: str,
    status: str,
    owner: str,
    params: Mapping[str, str],
    metrics: Mapping[str, float],
    tags: Mapping[str, str],
) -> None:
    """Writes `record.json` into a run's folder: the SHA-256 of every file there, the params, last metrics and tags."""
    content = {
        "run_id": run_id,
        "status": status,
        "owner": owner,
        "params": dict(sorted(params.items())),
        "metrics": {name: as_stored(value).hex() for name, value in sorted(metrics.items())},
        "tags": {name: text for name, text in sorted(tags.items()) if _is_sealed(name)},
        "artifacts": dict(artifacts(folder)),
    }
    break_seal(folder)
    new = folder / f"{RECORD}.new"
    new.write_text(json.dumps(content, indent=2), encoding="utf-8")
    new.replace(folder / RECORD)


def break_seal(folder: Path) -> None:
    """Removes `record.json` and its signature: the run goes on."""
    for name in (RECORD, RECORD_SIGNATURE):
        (folder / name).unlink(missing_ok=True)


def artifacts(folder: Path) -> Iterator[tuple[str, str]]:
    """Yields the name and the SHA-256 of every file below a run's folder, but those of the seal itself."""
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_file() and not name.startswith(RECORD):
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
    yield from _differing("tag", sealed["tags"], run.data.tags)
    found = dict(artifacts(folder))
    for name, digest in sealed["artifacts"].items():
        if name not in found:
            yield f"{name}: removed after the run was closed"
        elif found[name] != digest:
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


def _is_sealed(tag: str) -> bool:
    return tag.startswith(_TAGS) and tag not in _OPEN_TAGS
