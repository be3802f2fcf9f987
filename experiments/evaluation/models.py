"""The models that are evaluated: those that runs have logged, and those of finalists, which only keep a checkpoint."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from experiments.artifact_names import CONFIG, MODEL
from experiments.config import load_config
from experiments.evaluation.robustness import Answer
from experiments.results.model import whole
from experiments.serving.loaded import load_model
from experiments.tasks.classification import Classification
from experiments.tasks.prepare import prepare
from experiments.tracking.runs import RunSummary
from experiments.tracking.store import Store
from experiments.training.checkpoints import load_weights
from experiments.training.kept import kept_checkpoint
from lightning_modules import InputError


@dataclass(frozen=True, kw_only=True)
class Model:
    """A run's model. `answer` takes images (N, H, W, C) of the type `type`, and gives them the size of training."""

    run: RunSummary
    class_names: Sequence[str]
    size: tuple[int, int]
    channels: int
    type: np.dtype[Any]
    answer: Answer


def logged_model(store: Store, run: RunSummary) -> Model:
    """Returns the model that a run has logged. Raises InputError if it has none."""
    loaded = load_model(store, run.run_id)

    def answer(images_NHWC: NDArray[Any]) -> NDArray[Any]:
        return loaded.answer_checked(images_NHWC)["probabilities"]

    return Model(
        run=run,
        class_names=loaded.class_names,
        size=loaded.size,
        channels=loaded.channels,
        type=loaded.type,
        answer=answer,
    )


def any_model(store: Store, run: RunSummary) -> Model:
    """Returns the model that a run has logged, or else that of its checkpoint. Raises InputError if it has neither."""
    if store.client.list_artifacts(run.run_id, MODEL):
        return logged_model(store, run)
    from experiments.results.served_classifier import as_trained  # registers a model with MLflow

    folder = Path(store.client.download_artifacts(run.run_id, ""))
    nothing = InputError("--against", run.name, "this run kept no model and no checkpoint", "name another run")
    if not (folder / CONFIG).exists():
        raise nothing
    config = load_config(str(folder / CONFIG))
    checkpoint = folder / kept_checkpoint(config.trainer.weights)
    if not checkpoint.exists():
        raise nothing
    threads = torch.get_num_threads()
    task = prepare(config, None, store)
    torch.set_num_threads(threads)  # a trial's are few
    if not isinstance(task, Classification):
        raise InputError(
            "--against", run.name, "its module is your own, not a classifier of images", "name another run"
        )
    load_weights(task.module, checkpoint)
    network, images = whole(task.module.network, task.data), task.data.dataset.train.images

    def answer(images_NHWC: NDArray[Any]) -> NDArray[Any]:
        with torch.no_grad():
            return np.asarray(network(as_trained(torch.from_numpy(images_NHWC), *images.shape[1:])))

    return Model(
        run=run,
        class_names=task.data.class_names,
        size=(images.shape[1], images.shape[2]),
        channels=images.shape[3],
        type=images.dtype,
        answer=answer,
    )
