"""The code of a logged model (MLflow's models-from-code). It is copied beside the weights and imports no project code.

MLflow runs this file when it loads the model; nothing is unpickled.
"""

import importlib
import json
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import torch
import torch.nn.functional as F
from mlflow.pyfunc import PythonModel
from torch import Tensor

_BATCH = 1000  # images at a time
_LUMA = (0.299, 0.587, 0.114)  # of red, green and blue (ITU-R BT.601), as Pillow converts to gray


class ServedClassifier(PythonModel):  # type: ignore[misc]  # mlflow is not typed
    """Maps raw images (N, H, W) or (N, H, W, C) of any size to a dict; sizes and channels become those of training.

    `label` (N,): the data set's label. `label_index` (N,): its place in `class_names` (K,). `probabilities` (N, K).
    """

    def load_context(self, context: Any) -> None:
        self.facts = json.loads(Path(context.artifacts["facts"]).read_text(encoding="utf-8"))
        self.program = torch.export.load(context.artifacts["program"]).module()
        self.network = None  # the program holds the network, if torch.export could trace it
        if self.facts["network"] is not None:
            self.network = _build(**self.facts["network"], weights=context.artifacts["weights"])

    # MLflow reads the type hint of model_input: a plain ndarray tells it to use the logged signature.
    def predict(self, context: Any, model_input: np.ndarray, params: Any = None) -> dict[str, Any]:
        images_NHWC = model_input if model_input.ndim == 4 else model_input[..., np.newaxis]
        batches = (images_NHWC[start : start + _BATCH] for start in range(0, len(images_NHWC), _BATCH))
        with torch.no_grad():
            probabilities_NK = torch.cat([self._answer(torch.tensor(batch)) for batch in batches])
        index_N = probabilities_NK.argmax(dim=1).numpy()
        return {
            "label": np.array(self.facts["labels"])[index_N],
            "label_index": index_N,
            "probabilities": probabilities_NK.numpy(),
            "class_names": np.array(self.facts["class_names"]),
        }

    def _answer(self, images_NHWC: Tensor) -> Tensor:
        answers: Tensor = self.program(as_trained(images_NHWC, *self.facts["image_shape"]))
        return answers if self.network is None else self.network(answers).softmax(dim=1)


def as_trained(images_NHWC: Tensor, height: int, width: int, channels: int) -> Tensor:
    """Gives images the size and the channels of the training images, which most have already."""
    kind = images_NHWC.dtype
    if images_NHWC.shape[3] != channels:
        rgb = images_NHWC[..., :3].float()
        images_NHWC = rgb.expand(*rgb.shape[:3], 3) if channels == 3 else (rgb @ torch.tensor(_LUMA))[..., None]
    if images_NHWC.shape[1:3] != (height, width):
        scaled_NCHW = F.interpolate(
            images_NHWC.permute(0, 3, 1, 2).float(), (height, width), mode="bilinear", antialias=True
        )
        images_NHWC = scaled_NCHW.permute(0, 2, 3, 1)
    if images_NHWC.dtype == kind:
        return images_NHWC
    return (images_NHWC.round() if kind == torch.uint8 else images_NHWC).to(kind).contiguous()


def _build(path: str, arguments: dict[str, Any], weights: str, shape: list[int]) -> torch.nn.Module:
    """Makes the network again from its source files, which are beside the weights, or from its package."""
    from safetensors.torch import load_model

    module, *names = path.split(".")
    made: Any = importlib.import_module(module)
    for name in names:
        module += f".{name}"
        made = getattr(made, name) if hasattr(made, name) else importlib.import_module(module)
    # JSON has no tuples, and the network got the shape of the images as one.
    given = {name: tuple(value) if value == shape else value for name, value in arguments.items()}
    network: torch.nn.Module = made(**given)
    network = getattr(network, "_orig_mod", network)  # of a compiled one
    with torch.no_grad():
        network.eval()(torch.zeros(2, *shape))  # gives lazy layers their shapes
    load_model(network, weights)
    return network.eval()


mlflow.models.set_model(ServedClassifier())
