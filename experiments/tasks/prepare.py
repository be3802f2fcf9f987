"""Makes a run's task from its configuration: the modules, tried on real data, ready to train."""

import os
from pathlib import Path

import pytorch_lightning as pl
import torch

from experiments.artifact_names import BEST_CHECKPOINT, LAST_CHECKPOINT
from experiments.config import ExperimentConfig
from experiments.tasks import own_rehearsal
from experiments.tasks.classification import Classification
from experiments.tasks.digests import inspect
from experiments.tasks.own import Logged, OwnTask
from experiments.tasks.rehearsal import rehearse, structure
from experiments.tasks.task import Task
from experiments.tracking.runs import resolve_one
from experiments.tracking.store import Store
from experiments.training.devices import own_device
from experiments.training.exact import set_exact
from experiments.training.stepping import compile_network, may_capture
from experiments.training.trace import Digests
from experiments.training.trainer import make_trainer
from lightning_modules import ImageClassifier, ImageDataModule, InputError
from lightning_modules.datasets import ImageDataset
from lightning_modules.own import OWN_DATA, OWN_MODULE
from lightning_modules.parameters import load_given

_logged: dict[str, Logged] = {}  # by what was tried in this process


def prepare(
    config: ExperimentConfig,
    dataset: ImageDataset | None,
    store: Store,
    *,
    reads_test: bool = False,
    local_rank: int = 0,
) -> Task:
    """Returns the task, ready to train. Raises InputError if any input is wrong.

    `dataset`: the images of the config's source, if already loaded. `reads_test`: whether the run will read test, and
    log its model. `local_rank`: of this process among those of this machine that train one run.
    """
    set_exact(config.trainer.exact)
    torch.set_num_threads(config.trainer.threads or cores())
    torch.set_float32_matmul_precision(config.trainer.matmul_precision)
    torch.backends.cudnn.allow_tf32 = config.trainer.matmul_precision != "highest"  # for convolutions
    _check_accelerator(config.trainer.accelerator)
    trainer = make_trainer(config, devices=own_device(config.trainer, local_rank))
    config.trainer.make_callbacks()
    if config.data.module is not None:
        return _own_on_own_data(config, reads_test)
    images = ImageDataModule(config.data, seed=config.seed, dataset=dataset)
    images.setup()
    if config.model.module is not None:
        return _own_on_images(config, images)
    findings = rehearse(config, images, trainer, logs_model=reads_test)
    images.drops_single = findings.drops_single
    _seed(config)
    network = config.model.build(images.image_shape, images.num_classes)
    if config.model.weights is not None:
        load_given(network, _file_of_weights(config.model.weights, store))
    if not may_capture(config):
        compile_network(network, config.trainer.compile)
    classifier = ImageClassifier(
        network,
        loss=config.model.build_loss(images.num_classes),
        class_weights=config.model.weigh_classes(images.splits["train"].targets),
        optimizer=config.optimizer,
        metrics=config.trainer.own_metrics(),
        mixing=config.data.augmentation.mixing,
        memory_format=findings.memory_format,
    )
    return Classification(
        config=config,
        module=classifier,
        data=images,
        digests=_digests(images),
        step_seconds=findings.step_seconds,
    )


def _own_on_images(config: ExperimentConfig, images: ImageDataModule) -> OwnTask:
    offered = {
        "image_shape": images.image_shape,
        "num_classes": images.num_classes,
        "class_names": images.class_names,
    }
    size = config.data.batch_size
    images.drops_single = size != "full" and len(images.splits["train"]) % size == 1  # batch norm needs more
    _seed(config)
    logged = _rehearse(config, OWN_MODULE.make(config.model, offered), images)
    _seed(config)
    module = OWN_MODULE.make(config.model, offered)
    counts = {split: len(subset) for split, subset in images.splits.items()}
    return OwnTask(config=config, module=module, data=images, digests=_digests(images), counts=counts, logged=logged)


def _own_on_own_data(config: ExperimentConfig, reads_test: bool) -> OwnTask:
    """Makes the modules twice: the first pair is inspected and tried. What they draw at random is the same in both."""
    found, logged = None, None
    for _ in ("to try", "to train"):
        _seed(config)
        data = OWN_DATA.make(config.data, {"seed": config.seed, "split_seed": config.data.split_seed})
        module = OWN_MODULE.make(config.model, {})
        if found is None:
            found = inspect(data, str(config.data.module), with_test=reads_test)
            logged = _rehearse(config, module, data)
    assert found is not None
    assert logged is not None
    return OwnTask(config=config, module=module, data=data, digests=found.digests, counts=found.counts, logged=logged)


def _rehearse(config: ExperimentConfig, module: pl.LightningModule, data: pl.LightningDataModule) -> Logged:
    """Tries the module, once in this process for all configurations that differ in numbers alone."""
    tried = repr(structure(config))
    if tried not in _logged:
        _logged[tried] = own_rehearsal.rehearse(config, module, data)
    return _logged[tried]


def _seed(config: ExperimentConfig) -> None:
    pl.seed_everything(config.seed, workers=True, verbose=False)


def _digests(images: ImageDataModule) -> Digests:
    splits = {name: subset.order_sha256 for name, subset in images.splits.items()}
    return Digests(images.dataset.sha256, splits)


def _file_of_weights(weights: str, store: Store) -> Path:
    """Returns the file that `model.weights` means: itself, or the checkpoint that a run kept."""
    if is_file_of_weights(weights):
        return Path(weights)
    try:
        run_id = resolve_one(store, weights).run_id
    except InputError as error:
        remedy = "give a run, a .ckpt or a .safetensors file"
        raise InputError("model.weights", weights, error.message, remedy) from error
    folder = str(Path(LAST_CHECKPOINT).parent)
    held = {artifact.path for artifact in store.client.list_artifacts(run_id, folder)}
    found = next((name for name in (BEST_CHECKPOINT, LAST_CHECKPOINT) if name in held), None)
    if found is None:
        message = "this run has no weights: a sweep's trials keep none once it is done, nor does keep_checkpoints: none"
        raise InputError("model.weights", weights, message, "name a finalist (SWEEP:champion), or train it again")
    return Path(store.client.download_artifacts(run_id, found))


def _check_accelerator(name: str) -> None:
    """Raises InputError if this machine has no such accelerator."""
    is_missing = {"cuda": lambda: not torch.cuda.is_available(), "mps": lambda: not torch.backends.mps.is_available()}
    if name in is_missing and is_missing[name]():
        remedy = "write auto, which takes a GPU if there is one, or cpu"
        raise InputError("trainer.accelerator", name, "torch finds no such device on this machine", remedy)


def is_file_of_weights(weights: str) -> bool:
    """Whether `model.weights` means a file, and not a run."""
    return Path(weights).is_file() or Path(weights).suffix in {".safetensors", ".ckpt"}


def cores() -> int:
    """Returns the number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
