"""Reads the record of a past run from the store."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from experiments.artifact_names import CODE_BUNDLE, CONFIG, PATCH, PROVENANCE, REQUIREMENTS, SOURCES, TRACE
from experiments.config import flatten
from experiments.errors import CannotRun
from experiments.provenance.gather import FORMAT
from experiments.recipe import read_recipe
from experiments.tracking.store import Store
from experiments.tracking.tracked_run import as_param
from experiments.training.trace import Line, metrics_of_the_start, read_trace

_NEEDED = {CONFIG, PROVENANCE, PATCH, REQUIREMENTS}
_FIELDS = {"data_sha256", "machine", "torch", "variables"}  # of every provenance.json
_SINCE_CODE = 4  # the first format with the field `code`
_ARTIFACTS = _NEEDED | {CODE_BUNDLE, SOURCES, TRACE}


@dataclass(frozen=True, kw_only=True)
class Record:
    """What a run recorded about itself."""

    run: Run
    folder: Path  # with the artifacts that a reproduction needs
    tree: Mapping[str, Any]  # the fields of its config.yaml
    provenance: Mapping[str, Any]
    trace: Sequence[Line]  # if the run read test, its test scores are the last stage

    @property
    def epochs(self) -> int:
        return sum(line["stage"] == "epoch" for line in self.trace)

    @property
    def reads_test(self) -> bool:
        return self.trace[-1:] != [] and self.trace[-1]["stage"] == "test"

    def until(self, epochs: int) -> list[Line]:
        """Returns the trace up to this epoch; the stage `test` is included only with the last epoch."""
        until = [line for line in self.trace if line.get("epoch", 0) <= epochs]
        return until if epochs == self.epochs else [line for line in until if line["stage"] != "test"]

    def scores(self, epochs: int) -> dict[str, float]:
        """Returns the scores of the last epoch of `until`, and those on test if it includes them."""
        latest: dict[str, str] = {}
        for line in self.until(epochs):
            latest |= line.get("metrics", {})
        return {name: float.fromhex(value) for name, value in latest.items()}

    @property
    def edited(self) -> set[str]:
        """The fields whose value in config.yaml differs from the param that the run was made with."""
        params = self.run.data.params
        now = {name: as_param(value) for name, value in flatten(self.tree).items()}
        return {name for name in params.keys() | now.keys() if params.get(name) != now.get(name)}


def read_provenance(path: Path) -> dict[str, Any]:
    """Reads a provenance.json. Raises CannotRun if its format is too old or new, ValueError or OSError if broken."""
    provenance: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if "packages" not in provenance:
        raise CannotRun("it was recorded by an early version of the workbench", "start a new run")
    if lacking := _FIELDS - provenance.keys():
        raise CannotRun(f"its {PROVENANCE} lacks {', '.join(sorted(lacking))}", "start a new run")
    if provenance.get("format", 1) > FORMAT:
        message = f"its {PROVENANCE} has format {provenance['format']}, but this version reads only up to {FORMAT}"
        raise CannotRun(message, "use the version of the workbench that recorded it")
    if "network_folder" in provenance:  # up to format 2, only a network could be the user's own
        folder = provenance.pop("network_folder")
        provenance["own_folders"] = [] if folder is None else [folder]
    for name in ("git", "sources"):
        provenance.setdefault(name, None)
    return provenance


def is_whole(provenance: Mapping[str, Any]) -> bool:
    """Whether it says which code ran. Earlier versions wrote that a moment later, and were killed in between."""
    return "code" in provenance or provenance.get("format", 1) < _SINCE_CODE


def read_record(store: Store, run_id: str, folder: Path) -> Record:
    """Returns the record of an ended run, its artifacts in the new `folder`. Raises CannotRun if it is incomplete."""
    try:
        run = store.client.get_run(run_id)
    except MlflowException as error:
        remedy = f"list the runs: {store.command('runs')}"
        raise CannotRun(f"it cannot be read: {str(error).splitlines()[0]}", remedy) from error
    if run.info.lifecycle_stage == "deleted":
        raise CannotRun("it was deleted in MLflow", f"restore it: mlflow runs restore --run-id {run_id}")
    if run.info.status == "RUNNING":
        raise CannotRun("it is still running", "wait until it has ended")
    remedies = {
        "sweep": f"name runs of the sweep, such as {run.info.run_name}:champion",
        "repeats": f"name one of its runs: {store.command('runs', '--sweep', str(run.info.run_name))}",
    }
    remedy = remedies.get(run.data.tags.get("workbench.kind", ""), "start a new run")
    folder.mkdir()
    try:
        held = {artifact.path for artifact in store.client.list_artifacts(run_id)}
        if missing := _NEEDED - held:
            raise CannotRun(f"its record is incomplete, without {', '.join(sorted(missing))}", remedy)
        for name in held & _ARTIFACTS:
            store.client.download_artifacts(run_id, name, str(folder))
        tree = read_recipe(folder / CONFIG)
        provenance = read_provenance(folder / PROVENANCE)
        trace = metrics_of_the_start(read_trace(folder / TRACE))
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError, MlflowException) as error:
        reason = " ".join(str(error).split()) if isinstance(error, OSError | ValueError) else repr(error)
        raise CannotRun(f"its record cannot be read: {reason}", remedy) from error
    test = {name: value.hex() for name, value in run.data.metrics.items() if name.startswith("test/")}
    if test:
        trace.append({"stage": "test", "metrics": test})
    return Record(run=run, folder=folder, tree=tree, provenance=provenance, trace=trace)
