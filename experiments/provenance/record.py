"""What a past run left of itself, read back from the store."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from experiments.artifact_names import CONFIG, PATCH, PROVENANCE, REQUIREMENTS, SOURCES, TRACE
from experiments.config import flatten
from experiments.errors import CannotRun
from experiments.provenance.gather import FORMAT
from experiments.recipe import read_recipe
from experiments.tracking.store import Store
from experiments.tracking.tracked_run import as_param
from experiments.training.trace import Line, read_trace

_NEEDED = {CONFIG, PROVENANCE, PATCH, REQUIREMENTS}
_ARTIFACTS = _NEEDED | {SOURCES, TRACE}


@dataclass(frozen=True, kw_only=True)
class Record:
    """One run's own account of itself."""

    run: Run
    folder: Path  # of its artifacts, as far as they are needed here
    tree: Mapping[str, Any]  # the fields in its config.yaml
    provenance: Mapping[str, Any]
    trace: Sequence[Line]  # with the scores on test as a last stage of their own, where it was read

    @property
    def epochs(self) -> int:
        return sum(line["stage"] == "epoch" for line in self.trace)

    @property
    def reads_test(self) -> bool:
        return self.trace[-1:] != [] and self.trace[-1]["stage"] == "test"

    def until(self, epochs: int) -> list[Line]:
        """The trace up to this epoch; `test` comes after the last."""
        until = [line for line in self.trace if line.get("epoch", 0) <= epochs]
        return until if epochs == self.epochs else [line for line in until if line["stage"] != "test"]

    def scores(self, epochs: int) -> dict[str, float]:
        """Those of the last epoch of `until`, and of test."""
        latest: dict[str, str] = {}
        for line in self.until(epochs):
            latest |= line.get("metrics", {})
        return {name: float.fromhex(value) for name, value in latest.items()}

    @property
    def edited(self) -> set[str]:
        """The fields whose value in config.yaml is no longer the param that the run was made with."""
        params = self.run.data.params
        now = {name: as_param(value) for name, value in flatten(self.tree).items()}
        return {name for name in params.keys() | now.keys() if params.get(name) != now.get(name)}


def read_provenance(path: Path) -> dict[str, Any]:
    """What a provenance.json holds. Raises CannotRun where its format is too old or too new; ValueError, OSError."""
    provenance: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if "packages" not in provenance:
        raise CannotRun("it was recorded by an early version of the workbench", "start a new run")
    if provenance.get("format", 1) > FORMAT:
        message = f"its {PROVENANCE} has format {provenance['format']}, and this version reads up to {FORMAT}"
        raise CannotRun(message, "use the version of the workbench that recorded it")
    return provenance


def read_record(store: Store, run_id: str, folder: Path) -> Record:
    """The record of a run that has ended; its artifacts go to `folder`, which is made. CannotRun if it is not whole."""
    run = store.client.get_run(run_id)
    if run.info.status == "RUNNING":
        raise CannotRun("it still runs", "wait until it has ended")
    is_sweep = run.data.tags.get("workbench.kind") == "sweep"
    remedy = f"name runs of it, such as {run.info.run_name}:champion" if is_sweep else "run it anew"
    folder.mkdir()
    try:
        held = {artifact.path for artifact in store.client.list_artifacts(run_id)}
        if missing := _NEEDED - held:
            raise CannotRun(f"it holds no complete record of itself: without {', '.join(sorted(missing))}", remedy)
        for name in held & _ARTIFACTS:
            store.client.download_artifacts(run_id, name, str(folder))
        tree = read_recipe(folder / CONFIG)
        provenance = read_provenance(folder / PROVENANCE)
        trace = read_trace(folder / TRACE)
    except (OSError, ValueError, MlflowException) as error:
        raise CannotRun(f"its record cannot be read: {' '.join(str(error).split())}", remedy) from error
    test = {name: value.hex() for name, value in run.data.metrics.items() if name.startswith("test/")}
    if test:
        trace.append({"stage": "test", "metrics": test})
    return Record(run=run, folder=folder, tree=tree, provenance=provenance, trace=trace)
