"""The LightningDataModule: load, split, clean, fit the normalization. For each batch: gather, augment, normalize."""

import re
from dataclasses import field
from typing import Annotated, Any, Literal

import pytorch_lightning as pl
import torch
from numpy import unique
from pydantic import Field

from lightning_modules.checked_path import checked_path
from lightning_modules.config import Count, Fraction, Seed, section
from lightning_modules.datasets import ImageDataset, SourceOptions, all_sources, find_source
from lightning_modules.errors import InputError, reading
from lightning_modules.images.on_disk import ImagesOnDisk
from lightning_modules.own import OWN_DATA
from lightning_modules.pipeline.augmentation import AugmentationConfig
from lightning_modules.pipeline.batches import Batches
from lightning_modules.pipeline.cleaning import CleaningConfig, clean
from lightning_modules.pipeline.fitting import Fitting
from lightning_modules.pipeline.groups import find_groups
from lightning_modules.pipeline.normalization import Normalization, NormalizationKind, fit_normalization
from lightning_modules.pipeline.placement import Placement
from lightning_modules.pipeline.sampling import Sampling
from lightning_modules.pipeline.share import Share
from lightning_modules.pipeline.splits import Subset, make_splits
from lightning_modules.showable import is_text
from lightning_modules.stepping.chunks import Chunks

# Images per batch when no gradients are kept. On a CPU, 128 images fit in the cache: three times as fast as 1,000.
_MOST_CLASSES = 30_000  # ImageNet has 21,841; a network has an output for each
_LONGEST_SIDE = 8192  # pixels of an image that is scaled
_EVALUATION_BATCH = {"cpu": 128, "cuda": 4096}


@section("data")
class DataConfig:
    """Which images a run uses, how they are split, and how they are processed before they reach the network."""

    module: str | None = None
    """A LightningDataModule of your own, by its dotted path: it replaces the other fields of `data` but split_seed."""

    module_args: dict[str, Any] = field(default_factory=dict)
    """Keyword arguments of the module."""

    source: str = "digits"
    """The images: a name from `workbench data list`, or the dotted path of a function (datasets/own.py)."""

    source_args: dict[str, Any] = field(default_factory=dict)
    """Keyword arguments of the function at a dotted path."""

    root: str | None = None
    """The folder for downloads; null: WORKBENCH_DATA if set, or the user's cache folder."""

    path: str | None = None
    """Source arrays: an .npz, or a .npy of images. Source image_folder: the folder."""

    labels_path: str | None = None
    """Source arrays: the .npy of labels for a .npy of images."""

    image_size: int | list[int] | None = None
    """The size that the network gets: side, or [height, width]; null: as the data are."""

    channels: Literal[1, 3] | None = None
    """The channels that the network gets: 1 gray, 3 RGB; null: as the data are, pictures RGB."""

    in_memory_mb: Annotated[int, Field(ge=0, le=10**9, examples=[256])] | None = None
    """Source arrays: a .npy larger than this (in MB) stays on disk and is shuffled in blocks; null: 256."""

    batch_size: Count | Literal["full"] = 32
    """Images per step, on all devices together; full: the whole train split (gradient descent)."""

    val_fraction: Fraction = 0.1
    """The share of the training images that are val. Unused if the source has a val split."""

    test_fraction: Fraction = 0.2
    """The share of all images that are test. Unused if the source has a test split."""

    groups: str | None = None
    """A .npy, or .npz with `groups`: one value per training image. Images with equal values stay in one split."""

    group_pattern: str | None = None
    """Source image_folder: a regular expression. Files with equal first groups stay in one split."""

    folds: Annotated[int, Field(ge=2, le=1000, examples=[5])] | None = None
    """The number of folds of a cross-validation. It replaces val_fraction."""

    fold: int | None = None
    """The fold that is val, counted from 0."""

    split_seed: Seed = 0
    """Chooses the val images. It is not `seed`, so that all trials of a sweep share them."""

    cleaning: CleaningConfig = field(default_factory=CleaningConfig)

    normalization: NormalizationKind = "per_pixel"
    """How pixels are scaled, with statistics of the train split alone."""

    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)

    sampling: Sampling = "shuffled"
    """shuffled: each train image once an epoch; balanced: as many draws, with all classes equally likely."""

    def __post_init__(self) -> None:
        OWN_DATA.check(self)
        source = find_source(self.source, self.source_args)
        for name in ("path", "labels_path", "in_memory_mb"):
            if getattr(self, name) is not None and name not in source.takes:
                takers = ", ".join(name_ for name_, other in sorted(all_sources().items()) if name in other.takes)
                remedy = f"leave it out, or set data.source to {takers}"
                raise InputError(f"data.{name}", getattr(self, name), f"does not apply to source {self.source}", remedy)
        if self.image_size is not None:
            sides = self._sides(self.image_size)
            if len(sides) != 2 or min(sides) < 1 or max(sides) > _LONGEST_SIDE:
                message = f"must be 1 pixel or more and at most {_LONGEST_SIDE:,}"
                raise InputError("data.image_size", self.image_size, message, "try 64, or [48, 64]")
        for name in ("root", "path", "labels_path", "groups"):  # absolute, so that it is valid in any working directory
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, str(checked_path(f"data.{name}", value).expanduser().resolve()))
        self._check_groups_and_folds()

    def _check_groups_and_folds(self) -> None:
        if self.groups is not None and self.group_pattern is not None:
            raise InputError("data.group_pattern", self.group_pattern, "data.groups is given too", "leave one out")
        try:
            re.compile(self.group_pattern or "")
        except (re.error, OverflowError, RecursionError) as error:
            message = f"is not a regular expression: {error}"
            raise InputError(
                "data.group_pattern", self.group_pattern, message, "for example, try '([^/]+)_[0-9]+'"
            ) from error
        if (self.fold is None) != (self.folds is None):
            missing = "fold" if self.fold is None else "folds"
            raise InputError(f"data.{missing}", None, "data.fold and data.folds go together", "give both, or neither")
        if self.fold is not None and self.folds is not None and not 0 <= self.fold < self.folds:
            message = f"folds are counted from 0 to {self.folds - 1}"
            raise InputError("data.fold", self.fold, message, f"give a number from 0 to {self.folds - 1}")

    @staticmethod
    def _sides(size: int | list[int]) -> tuple[int, ...]:
        return (size, size) if isinstance(size, int) else tuple(size)

    @property
    def source_options(self) -> SourceOptions:
        """The options that the source gets."""
        height_width = None if self.image_size is None else self._sides(self.image_size)
        return SourceOptions(
            root=self.root,
            path=self.path,
            labels_path=self.labels_path,
            image_size=None if height_width is None else (height_width[0], height_width[1]),
            channels=self.channels or 3,
            in_memory_mb=SourceOptions.in_memory_mb if self.in_memory_mb is None else self.in_memory_mb,
        )


def load_dataset(config: DataConfig) -> ImageDataset:
    """Reads the images that `config` names. Splits, batch size, normalization and augmentation change nothing here."""
    field, value = ("data.source", config.source) if config.path is None else ("data.path", config.path)
    with reading(field, value, f"data of source {config.source}", "fix the data, or leave out what is damaged"):
        dataset = find_source(config.source, config.source_args).load(config.source_options)
    if len(dataset.class_names) > _MOST_CLASSES:
        message = f"has {len(dataset.class_names):,} classes, more than {_MOST_CLASSES:,}: are the labels classes?"
        raise InputError(field, value, message, "give every class several images")
    for name in dataset.class_names:
        if not is_text(name):
            message = f"the class {name!r} is not Unicode text: it has NUL or half of a surrogate pair"
            raise InputError(field, value, message, "rename it")
    return dataset


class ImageDataModule(pl.LightningDataModule):
    """Serves train, val and test of one data set, all normalized with statistics of the train split alone.

    `seed` decides the order and the augmentation of training batches. `config.split_seed` decides the splits.
    `dataset` is a result of `load_dataset(config)`; several runs can share one, so that it is read only once.
    Batches are (float32 images (N, C, H, W), int64 labels (N,)). After `setup`, `splits` has the images in use, and
    `report` the faults found and the images left out. Raises InputError if the data cannot be used.
    """

    def __init__(self, config: DataConfig, *, seed: int = 0, dataset: ImageDataset | None = None) -> None:
        super().__init__()
        self.config = config
        self.seed = seed
        self.drops_single = False  # whether a last training batch of one image is left out
        self.steps_per_execution = 1  # batches that a training step takes at once
        self.in_stretches = False  # whether it takes them as stretches (stepping/stretch.py)
        self.share = Share()  # of several processes that train together
        self._dataset = dataset
        self._placement = Placement(torch.device("cpu"))
        self.splits: dict[str, Subset] = {}

    def setup(self, stage: str | None = None) -> None:
        if self.splits:  # fit, validate and test all call setup
            return
        config = self.config
        if config.batch_size == "full" and isinstance(self.dataset.train.images, ImagesOnDisk):
            message = "the images stay on disk: a batch of all images might not fit into memory"
            raise InputError("data.batch_size", "full", message, "give a number, or raise data.in_memory_mb")
        if self.num_classes < 2:
            message = f"all images are of one class, {self.class_names[0]}: there is nothing to learn"
            raise InputError("data.source", config.source, message, "add images of another class")
        groups = find_groups(self.dataset.train, config.groups, config.group_pattern)
        if groups is not None and {"val", "test"} <= self.dataset.parts.keys():
            field = "groups" if config.groups else "group_pattern"
            message = "has no effect: the data set has val and test splits of its own"
            raise InputError(f"data.{field}", getattr(config, field), message, "leave it out")
        splits = make_splits(
            self.dataset,
            val_fraction=config.val_fraction,
            test_fraction=config.test_fraction,
            split_seed=config.split_seed,
            groups=groups,
            fold=config.fold,
            folds=config.folds,
        )
        splits, self.report = clean(self.dataset, splits, config.cleaning)
        missing = set(range(self.num_classes)) - set(unique(splits["train"].targets).tolist())
        if missing:
            names = ", ".join(self.class_names[k] for k in sorted(missing))
            raise InputError("data.source", config.source, f"no training image of class {names}", "add images of each")
        fitted, key = self.dataset.normalizations, (config.normalization, splits["train"].order_sha256)
        if key not in fitted:
            known_as = f"{splits['train'].order_sha256} of {self.dataset.sha256}"
            fitted[key] = fit_normalization(config.normalization, splits["train"], known_as)
        self.normalization: Normalization = fitted[key]
        self.splits = splits

    @property
    def dataset(self) -> ImageDataset:
        """All images. The first access reads them."""
        if self._dataset is None:
            self._dataset = load_dataset(self.config)
        return self._dataset

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one image, as the network receives it."""
        height, width, channels = self.dataset.train.images.shape[1:]
        return self.fitting.shape(channels, height, width)

    @property
    def fitting(self) -> Fitting:
        """What gives the images of the data set the shape that the network gets."""
        channels, wanted = self.dataset.train.images.shape[3], self.config.channels
        if wanted is not None and channels not in (1, wanted):
            raise InputError("data.channels", wanted, f"the images have {channels} channels", "leave it out")
        return Fitting(wanted, self.config.source_options.image_size)

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.dataset.class_names

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    def train_dataloader(self) -> Batches | Chunks:
        size = len(self.splits["train"]) if self.config.batch_size == "full" else self.config.batch_size
        options = {"sampling": self.config.sampling, "augmentation": self.config.augmentation}
        batches = self._batches("train", size, shuffle_seed=self.seed, drops_single=self.drops_single, **options)
        if self.steps_per_execution == 1:
            return batches
        return Chunks(batches, self.steps_per_execution, in_stretches=self.in_stretches)

    def val_dataloader(self) -> Batches:
        return self._evaluation("val")

    def test_dataloader(self) -> Batches:
        return self._evaluation("test")

    def predict_dataloader(self) -> Batches:
        return self._evaluation("test")

    def _evaluation(self, split: str) -> Batches:
        return self._batches(split, self.evaluation_size(split, self._device.type))

    def evaluation_size(self, split: str, device: str) -> int:
        """Returns the images per batch of a pass over val or test, on a device such as `cpu`."""
        size, images, ranks = _EVALUATION_BATCH.get(device, 1024), len(self.splits[split]), self.share.ranks
        return size if images > (ranks - 1) * size else max(1, images // ranks)  # each process needs a batch

    def _batches(self, split: str, size: int, **options: Any) -> Batches:
        if len(self.splits[split]) < self.share.ranks:
            message = f"only {len(self.splits[split])} images are {split}, and {self.share.ranks} processes share them"
            raise InputError("trainer.devices", self.share.ranks, message, "train on fewer devices")
        if self._placement.device != self._device:
            self._placement = Placement(self._device)
        options |= {"placement": self._placement, "fitting": self.fitting, "share": self.share}
        return Batches(self.splits[split], self.normalization, size, **options)

    @property
    def _device(self) -> torch.device:
        """The device that the Trainer uses, or the CPU without a Trainer."""
        return torch.device("cpu") if self.trainer is None else self.trainer.strategy.root_device

    def state_dict(self) -> dict[str, Any]:
        """Returns the fitted normalization, which every checkpoint contains."""
        return dict(self.normalization.state_dict())

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.normalization = Normalization(state_dict["scale"], state_dict["offset"])
