"""Reads the artifacts of past runs, one file at a time."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlflow.exceptions import MlflowException

from experiments.artifact_names import PROVENANCE
from experiments.errors import CannotRun
from experiments.provenance.record import is_whole, read_provenance
from experiments.tracking.addresses import local_folder
from experiments.tracking.runs import RunSummary
from experiments.tracking.store import Store


@dataclass(frozen=True)
class Artifacts:
    """The artifacts of a store's runs. Local files are read in place; others are downloaded to `scratch`."""

    store: Store
    scratch: Path

    def find(self, run: RunSummary, name: str) -> Path | None:
        """Returns the path of a run's file `name`; None if the file is missing or cannot be downloaded."""
        if (local := local_folder(run.artifact_uri)) is not None:
            return local / name if (local / name).is_file() else None
        folder = self.scratch / "artifacts" / run.run_id
        folder.mkdir(parents=True, exist_ok=True)
        try:
            return Path(self.store.client.download_artifacts(run.run_id, name, str(folder)))
        except (MlflowException, OSError):
            return None

    def provenance(self, run: RunSummary) -> Mapping[str, Any] | None:
        """Returns a run's provenance.json; None if the run has none that is whole and can be read."""
        path = self.find(run, PROVENANCE)
        try:
            found = None if path is None else read_provenance(path)
        except (CannotRun, OSError, ValueError):
            return None
        return found if found is not None and is_whole(found) else None
