"""Records what is needed to run a run again, before training begins."""

import json
import shlex
import sys
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

from mlflow.entities import Dataset, DatasetInput, InputTag

from experiments.artifact_names import CONFIG, PATCH, PROVENANCE, REQUIREMENTS, SOURCES
from experiments.config import ExperimentConfig, flatten
from experiments.process.redaction import without_credentials
from experiments.provenance.machine import machine, torch_state, variables
from experiments.provenance.packages import installed, requirements
from experiments.provenance.source import PROJECT, first_checkout
from experiments.provenance.source_copy import copy_sources, own_folders
from experiments.tracking.tracked_run import TrackedRun
from lightning_modules import ImageDataModule

FORMAT = 3


def record(run: TrackedRun, config: ExperimentConfig, data: ImageDataModule, callbacks: Sequence[str] = ()) -> None:
    """Writes the run's params, data inputs and tags, and the artifacts on its code, packages and machine.

    `config.yaml` is the complete recipe. `uncommitted.patch` leads from the commit to the code that runs. `sources.zip`
    holds the code that is in neither (it is written only if there is any). `requirements.txt` lists the packages for
    pip. `provenance.json` contains no credentials; it holds:

    - `format`: FORMAT; a record without it has format 1.
    - `command`: the command line. `working_directory`, `project`: absolute folders.
    - `own_folders`: the folders from which the user's own parts, such as a network or a metric, were imported.
    - `seed`, `split_seed`; `data_sha256`: of the data as read; `split_sha256`: {split: of its images in their order}.
    - `git`: `Checkout.as_dict`; null outside a checkout, where `sources.zip` holds the whole project.
    - `sources`: {`files`: {name in sources.zip: SHA-256}, `left_out`: [name]}; null if commit and patch hold all code.
    - `packages`: {name: {`version`, `record_sha256`, `files_sha256`}}: see `Package`. The project itself is left out.
    - `machine`, `torch`, `variables`: see machine.py.
    - `callbacks_not_recorded`: `callbacks`, the classes of those that were given as objects: a re-run lacks them.
    """
    checkout = first_checkout(PROJECT, run.store.folder)
    folders = own_folders(config.tree())
    copied = copy_sources(PROJECT, checkout, folders)
    provenance = {
        "format": FORMAT,
        "command": shlex.join(without_credentials(word) for word in sys.argv),
        "working_directory": str(Path.cwd()),
        "project": str(PROJECT),
        "own_folders": list(map(str, folders)),
        "seed": config.seed,
        "split_seed": config.data.split_seed,
        "data_sha256": data.dataset.sha256,
        "split_sha256": {name: subset.order_sha256 for name, subset in data.splits.items()},
        "git": None if checkout is None else checkout.as_dict(),
        "sources": copied.as_dict(),
        "packages": {package.name: package.as_dict() for package in installed()},
        "machine": machine(),
        "torch": torch_state(),
        "variables": variables(),
        "callbacks_not_recorded": list(callbacks),
    }
    run.path(CONFIG).write_text(config.to_yaml(), encoding="utf-8")
    run.path(PROVENANCE).write_text(json.dumps(provenance, indent=2), encoding="utf-8")
    run.path(PATCH).write_bytes(b"" if checkout is None else checkout.patch)
    run.path(REQUIREMENTS).write_text(requirements(), encoding="utf-8")
    if copied.files:
        run.path(SOURCES).write_bytes(copied.to_zip())
    run.log_params(flatten(config.tree()))
    run.log_inputs([_input(name, data) for name in data.splits])
    commit = {} if checkout is None else {"mlflow.source.git.commit": checkout.commit}
    unrecorded = {"workbench.unrecorded": f"callbacks: {', '.join(callbacks)}"} if callbacks else {}
    run.set_tags({"workbench.data_sha256": data.dataset.sha256, **commit, **unrecorded})


def _input(split: str, data: ImageDataModule) -> DatasetInput:
    """Returns a split as an MLflow data input. Its digest is cut to 36 characters; tag and profile hold all of it."""
    subset = data.splits[split]
    digest = sha256(f"{data.dataset.sha256} {split}".encode())
    digest.update(subset.indices.tobytes())
    shape = [len(subset), *subset.images.shape[1:]]
    profile = {"sha256": digest.hexdigest(), "data_sha256": data.dataset.sha256, "images": len(subset)}
    tensor = {"type": "tensor", "tensor-spec": {"dtype": str(subset.images.dtype), "shape": [-1, *shape[1:]]}}
    dataset = Dataset(
        name=f"{data.config.source}-{split}",
        digest=digest.hexdigest()[:36],
        source_type="local",
        source=json.dumps({"source": data.config.source, "path": data.config.path, "root": data.config.root}),
        schema=json.dumps({"mlflow_tensorspec": {"features": json.dumps([tensor])}}),
        profile=json.dumps(profile),
    )
    return DatasetInput(
        dataset, [InputTag("mlflow.data.context", split), InputTag("workbench.sha256", digest.hexdigest())]
    )
