"""The model that is exported, with the images that it and its exported files are compared on."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments.artifact_names import CODE_BUNDLE, CONFIG, PATCH, SOURCES
from experiments.config import with_located_files
from experiments.recipe import build, read_recipe
from experiments.results.artifacts import Artifacts
from experiments.results.run_images import NoImages, read_split
from experiments.serving.loaded import LoadedModel
from experiments.tracking.store import Store
from lightning_modules import DataConfig, InputError, ModelConfig
from lightning_modules.log import LOG
from lightning_modules.pipeline.fitting import Fitting
from lightning_modules.pipeline.splits import Subset

CHECKED = 256  # images on which every file is compared with the original


@dataclass(frozen=True)
class Original:
    """A run's model; `scratch` is a folder for what is downloaded."""

    store: Store
    model: LoadedModel
    scratch: Path

    @property
    def facts(self) -> dict[str, Any]:
        """`class_names`, `labels`, `image_shape` (H, W, C) of raw images; `network`, None if the program holds it."""
        return self.model.facts

    @property
    def files(self) -> Path:
        """The folder in the model with its program and, if torch.export cannot trace the network, its weights."""
        return self.model.folder / "artifacts"

    @property
    def program(self) -> Path:
        """The program from raw images to probabilities or, if `is_traced` is false, to what the network reads."""
        return self.files / "program.pt2"

    @property
    def is_traced(self) -> bool:
        """Whether the program holds the network."""
        return self.facts.get("network") is None

    @cached_property
    def provenance(self) -> Mapping[str, Any] | None:
        return self._artifacts.provenance(self.model.run)

    @property
    def network_config(self) -> ModelConfig:
        """Imports the network. Raises InputError if it is not found."""
        return build(ModelConfig, self._tree["model"])

    @property
    def network_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one image, as the network receives it."""
        data = build(DataConfig, self._tree["data"])
        height, width, channels = self.facts["image_shape"]
        return Fitting(data.channels, data.source_options.image_size).shape(channels, height, width)

    @cached_property
    def images(self) -> tuple[NDArray[Any], str]:
        """Images (N, H, W, C) to compare on, and what they are: from test, else from val, else random ones."""
        reasons = []
        for split in ("test", "val"):
            try:
                subset = self.split(split)
            except NoImages as error:
                reasons.append(str(error))
            else:
                images = spread(subset, CHECKED)[0]
                return images, f"{len(images)} images of {split}"
        LOG.warning(f"the run's images cannot be read ({reasons[0]}): random images are compared instead")
        shape, generator = (CHECKED, *self.facts["image_shape"]), np.random.default_rng(0)
        kind = self.model.type
        values = generator.integers(0, 256, shape) if kind.kind in "biu" else generator.standard_normal(shape)
        return values.astype(kind), f"{CHECKED} random images"

    def split(self, name: str) -> Subset:
        """Returns a split of the run's data. Raises NoImages if it cannot be read, or is not what the run saw."""
        return read_split(self._artifacts, self.model.run, self.provenance, name)

    def answers(self, images_NHWC: NDArray[Any]) -> NDArray[Any]:
        """Returns the probabilities (N, K) of the original model."""
        answer = self.model.answer(images_NHWC[..., 0] if self.model.is_gray else images_NHWC)
        return answer["probabilities"]

    @cached_property
    def _tree(self) -> Mapping[str, Any]:
        path = self._artifacts.find(self.model.run, CONFIG)
        if path is None:
            raise InputError("RUN", self.model.run.name, f"has no {CONFIG}", "name another run")
        return with_located_files(read_recipe(path), [], is_recorded=True)

    def recorded_artifacts(self) -> Path:
        """Returns a folder with the artifacts in which earlier versions of the workbench, and servers, keep code."""
        folder = self.scratch / "code"
        folder.mkdir(exist_ok=True)
        for name in (CODE_BUNDLE, SOURCES, PATCH):
            if (found := self._artifacts.find(self.model.run, name)) is not None:
                shutil.copyfile(found, folder / name)
        return folder

    @property
    def _artifacts(self) -> Artifacts:
        return Artifacts(self.store, self.scratch)


def spread(subset: Subset, most: int) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Returns at most so many images (N, H, W, C) with their labels (N,), evenly spread over a split."""
    places = subset.indices[np.linspace(0, len(subset) - 1, min(most, len(subset))).round().astype(np.int64)]
    return np.asarray(subset.images[places]), subset.labels[places]
