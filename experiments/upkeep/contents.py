"""What a store's tracking database says about its runs, as far as it decides what may be removed."""

import json
import re
import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from mlflow.entities import Run, ViewType

from experiments.databases.schema import MLFLOW
from experiments.process.owner import Owner
from experiments.tracking.addresses import local_folder
from experiments.tracking.store import Store
from experiments.upkeep.reading import reading

_TAGS = (
    *("workbench.kind", "workbench.outcome", "workbench.owner", "workbench.sweep", "mlflow.parentRunId"),
    *("workbench.slot", "workbench.trial", "workbench.seed"),
    *("workbench.champion_run_ids", "workbench.best_run_ids"),
)
_PARAMS = ("trainer.keep_checkpoints", "trainer.weights", "model.weights", "data.source", "data.root")
_PAGE = 1000
_RUN_ID = re.compile("[0-9a-f]{32}")


@dataclass(frozen=True, kw_only=True)
class RunRow:
    """A run, with those of its tags and params that matter here."""

    run_id: str
    name: str
    status: str
    is_deleted: bool
    artifact_uri: str
    tags: Mapping[str, str]
    params: Mapping[str, str]

    @classmethod
    def of(cls, run: Run) -> "RunRow":
        return cls(
            run_id=run.info.run_id,
            name=run.info.run_name or "",
            status=run.info.status,
            is_deleted=run.info.lifecycle_stage == "deleted",
            artifact_uri=run.info.artifact_uri,
            tags={name: text for name, text in run.data.tags.items() if name in _TAGS},
            params={name: text for name, text in run.data.params.items() if name in _PARAMS},
        )

    @property
    def kind(self) -> str:
        """The kind of a run of the workbench; empty for those of other programs."""
        return self.tags.get("workbench.kind", "")

    @property
    def is_busy(self) -> bool:
        """Whether a process may still write to the run."""
        owner = Owner.parse(self.tags.get("workbench.owner", ""))
        return self.status in {"RUNNING", "SCHEDULED"} and not (owner is not None and owner.fate() == "gone")

    def folder(self, store: Store) -> Path | None:
        """Returns the folder with the run's artifacts; None if a server has them, or if it is not a run's own folder.

        A store that was moved is found at its new place, although its database may not say so yet.
        """
        moved = store.folder / "artifacts" / self.run_id / "artifacts"
        folder = moved if moved.is_dir() else local_folder(self.artifact_uri)
        return folder if folder is not None and folder.parts[-2:] == (self.run_id, "artifacts") else None


@dataclass(frozen=True, kw_only=True)
class Contents:
    """The runs of a store, those that were deleted included."""

    runs: Mapping[str, RunRow]  # by id
    models: Mapping[str, str] = field(default_factory=dict)  # MLflow's logged models: the id of each → that of its run
    registered: frozenset[str] = frozenset()  # ids of the runs whose models are in the registry
    began: float | None = None  # when the database was made, in seconds since 1970; None: not known

    @cached_property
    def has_busy_runs(self) -> bool:
        return any(run.is_busy for run in self.runs.values())

    @cached_property
    def champions(self) -> Mapping[str, frozenset[str]]:
        """The ids of the champion's runs of each sweep that has its finalists, by the id of the sweep's run."""
        return {run.run_id: ids for run in self._sweeps() if (ids := _ids(run, "champion")) is not None}

    def is_named_as_weights(self, run: RunRow) -> bool:
        """Whether a run has, or may have, started from the weights of this one (`model.weights`)."""
        return any(_may_mean(selector, run, self._best) for selector in self._selectors)

    @cached_property
    def _selectors(self) -> frozenset[str]:
        given = (run.params.get("model.weights", "null") for run in self.runs.values())
        return frozenset(text for text in given if text not in ("", "null", "None"))

    @cached_property
    def _best(self) -> Mapping[str, frozenset[str]]:
        """The ids of the best trials of each sweep, by the name of the sweep."""
        return {run.tags.get("workbench.sweep", ""): _ids(run, "best") or frozenset() for run in self._sweeps()}

    def _sweeps(self) -> Iterator[RunRow]:
        return (run for run in self.runs.values() if run.kind == "sweep")


def read_contents(store: Store, *, in_place: bool) -> Contents:
    """Reads the store's database; see `reading`."""
    if store.is_local:
        with reading(store.folder / "mlflow.db", in_place=in_place) as connection:
            MLFLOW.check_file(connection, "--store", str(store.folder), store.command("store", "upgrade"))
            return _from_database(connection)
    experiments = store.client.search_experiments(view_type=ViewType.ALL)
    runs: dict[str, RunRow] = {}
    token = None
    while True:
        page = store.client.search_runs(
            [each.experiment_id for each in experiments], "", ViewType.ALL, _PAGE, page_token=token
        )
        runs |= {run.info.run_id: RunRow.of(run) for run in page}
        if not (token := page.token):
            return Contents(runs=runs)


def _from_database(connection: sqlite3.Connection) -> Contents:
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    tags, params = _pairs(connection, "tags", _TAGS), _pairs(connection, "params", _PARAMS)
    columns = "run_uuid, name, status, lifecycle_stage, artifact_uri"
    runs = {
        run_id: RunRow(
            run_id=run_id,
            name=name or "",
            status=status,
            is_deleted=stage == "deleted",
            artifact_uri=uri or "",
            tags=tags.get(run_id, {}),
            params=params.get(run_id, {}),
        )
        for run_id, name, status, stage, uri in connection.execute(f"SELECT {columns} FROM runs")
    }
    models: dict[str, str] = {}
    registered: list[str] = []
    if "logged_models" in tables:
        models = dict(connection.execute("SELECT model_id, coalesce(source_run_id, '') FROM logged_models"))
    if "model_versions" in tables:
        query = "SELECT run_id, source FROM model_versions WHERE current_stage IS NOT 'Deleted_Internal'"
        registered = [
            found for version in connection.execute(query) for text in version for found in _RUN_ID.findall(text or "")
        ]
    ((began,),) = connection.execute("SELECT min(creation_time) FROM experiments")
    return Contents(
        runs=runs,
        models=models,
        registered=frozenset(registered),
        began=began and began / 1000,
    )


def _pairs(connection: sqlite3.Connection, table: str, names: tuple[str, ...]) -> dict[str, dict[str, str]]:
    """Returns the values of these tags or params, by the run's id and their name."""
    found: dict[str, dict[str, str]] = {}
    marks = ", ".join("?" * len(names))
    for run_id, name, value in connection.execute(
        f"SELECT run_uuid, key, value FROM {table} WHERE key IN ({marks})", names
    ):
        found.setdefault(run_id, {})[name] = value
    return found


def _ids(run: RunRow, which: str) -> frozenset[str] | None:
    """Returns the ids of a sweep's best or champion's runs; None if it has not come so far."""
    text = run.tags.get(f"workbench.{which}_run_ids")
    return None if text is None else frozenset(json.loads(text))


def _may_mean(selector: str, run: RunRow, best: Mapping[str, frozenset[str]]) -> bool:
    """Whether a value of `model.weights` may name this run: its id or the start of it, its name, its sweep, a path."""
    sweep, _, which = selector.rpartition(":")
    of_sweep = sweep != "" and sweep == run.tags.get("workbench.sweep")
    is_in_sweep = of_sweep and (which == "all" or (which == "best" and run.run_id in best.get(sweep, ())))
    return is_in_sweep or selector == run.name or run.run_id.startswith(selector) or run.run_id in selector
