"""A run's logged model, loaded: what it takes, and what it answers."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import torch
from numpy.typing import NDArray

from experiments.artifact_names import CONFIG, MODEL, PREDICTIONS
from experiments.tracking.runs import RunSummary, resolve_model
from experiments.tracking.store import Store
from lightning_modules import InputError
from lightning_modules.images.layout import CHANNELS, ImagesError, in_type
from lightning_modules.images.pictures import LARGEST, PictureError, decode


@dataclass(frozen=True)
class LoadedModel:
    """The model of `run`, in MLflow's `folder`. It takes images (N, H, W), if it is gray, or (N, H, W, C)."""

    run: RunSummary
    folder: Path
    pyfunc: Any

    @property
    def class_names(self) -> list[str]:
        return list(self.facts["class_names"])

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the training images, to which others are scaled."""
        height, width, _ = self.facts["image_shape"]
        return height, width

    @property
    def channels(self) -> int:
        return int(self.facts["image_shape"][2])

    @property
    def is_gray(self) -> bool:
        return self.channels == 1

    @cached_property
    def type(self) -> np.dtype[Any]:
        """The type of the values of the training images."""
        (images,) = self.pyfunc.metadata.get_input_schema().inputs
        kind: np.dtype[Any] = np.dtype(images.type)
        return kind

    def decode(self, picture: Path | bytes, most_pixels: int = LARGEST) -> NDArray[Any]:
        """Returns a picture file as an image (H, W), or (H, W, 3), that the model takes. Raises PictureError."""
        if self.channels not in (1, 3):
            raise PictureError(f"cannot be used: the model takes images of {self.channels} channels, as arrays")
        image = decode(picture, self.size, self.channels, most_pixels)
        return (image[..., 0] if self.is_gray else image).astype(self.type)

    def checked(self, images_NHWC: NDArray[Any]) -> NDArray[Any]:
        """Returns numbers as images that the model takes. Raises ImagesError if it does not take such images."""
        known = CHANNELS if self.channels in (1, 3) else (self.channels,)
        if images_NHWC.shape[3] not in known:
            many = " or ".join(map(str, known))
            raise ImagesError(f"has images with {images_NHWC.shape[3]} channels; the model takes {many}")
        return in_type(images_NHWC, self.type)

    def answer(self, images: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """Returns `label` (N,), `label_index` (N,), `probabilities` (N, K) and `class_names` (K,)."""
        answer: dict[str, NDArray[Any]] = self.pyfunc.predict(images)
        return answer

    def answer_checked(self, images: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """As `answer`, for images whose type and shape were checked: MLflow's own check is as slow as a small model."""
        answer: dict[str, NDArray[Any]] = self.pyfunc.unwrap_python_model().predict(None, images)
        return answer

    def use_channels_last(self) -> None:
        """Lays the weights out with channels last, if the model then gives the same answers.

        A batch of the recipe's network takes a third of the time: torch's pooling is vectorized over channels alone. A
        network that depends on how its tensors are laid out, such as by `view`, keeps the layout that it has.
        """
        served = self.pyfunc.unwrap_python_model()
        modules = [module for module in (served.program, served.network) if module is not None]
        images = np.random.default_rng(0).integers(0, 256, (4, *self.size, self.channels)).astype(self.type)
        before = self.answer_checked(images)["probabilities"]
        for module in modules:
            module.to(memory_format=torch.channels_last)
        try:
            is_same = np.allclose(self.answer_checked(images)["probabilities"], before, atol=1e-5)
        except RuntimeError:  # torch's, for a view of what is not laid out for it
            is_same = False
        if not is_same:
            for module in modules:
                module.to(memory_format=torch.contiguous_format)

    @property
    def facts(self) -> dict[str, Any]:
        """What the serving code knows: see `write_facts` in results/model.py."""
        facts: dict[str, Any] = self.pyfunc.unwrap_python_model().facts
        return facts


def load_model(store: Store, selector: str) -> LoadedModel:
    """Returns the model of the run that `selector` names. Its code runs: see tracking/trust.py.

    Raises InputError, with the command that makes a model, if the run kept none.
    """
    run = resolve_model(store, selector)
    if run.is_own_task:
        remedy = f"its predict_step writes {PREDICTIONS}; load the model with mlflow.pyfunc: runs:/{run.run_id}/{MODEL}"
        raise InputError("RUN", run.name, "its module is your own, and this command only knows images", remedy)
    held = {artifact.path for artifact in store.client.list_artifacts(run.run_id)}
    if MODEL not in held:
        config = store.client.download_artifacts(run.run_id, CONFIG) if CONFIG in held else None
        remedy = f"train it: {store.command('train', config)}" if config else "name another run"
        raise InputError("RUN", run.name, f"this {run.kind} kept no model", remedy)
    folder = Path(store.client.download_artifacts(run.run_id, MODEL))
    # To warn of other releases, MLflow would look through all installed packages, which takes a second.
    model = mlflow.pyfunc.load_model(str(folder), suppress_warnings=True)
    if "label_index" not in model.metadata.get_output_schema().input_names():
        raise InputError("RUN", run.name, "its model was logged by an early version of the workbench", "train it again")
    return LoadedModel(run, folder, model)
