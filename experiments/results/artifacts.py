"""Files that past runs left, read back one at a time."""

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlparse

from mlflow.exceptions import MlflowException
from mlflow.utils.file_utils import local_file_uri_to_path

from experiments.tracking.runs import RunSummary
from experiments.tracking.store import Store


@dataclass(frozen=True)
class Artifacts:
    """The artifacts of a store's runs: those of a local store where they lie, others fetched into `scratch`."""

    store: Store
    scratch: Path

    def find(self, run: RunSummary, name: str) -> Path | None:
        """The file `name` of a run; None where it left none, or where it is not to be had."""
        if urlparse(run.artifact_uri).scheme in ("", "file"):
            path = Path(local_file_uri_to_path(run.artifact_uri)) / name
            return path if path.is_file() else None
        folder = self.scratch / "artifacts" / run.run_id
        folder.mkdir(parents=True, exist_ok=True)
        try:
            return Path(self.store.client.download_artifacts(run.run_id, name, str(folder)))
        except (MlflowException, OSError):
            return None
