"""Reads the artifacts of past runs, one file at a time."""

from dataclasses import dataclass
from pathlib import Path

from mlflow.exceptions import MlflowException

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
