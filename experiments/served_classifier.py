"""The code of a logged model (MLflow's models-from-code), copied beside the weights: it imports nothing of ours.

MLflow runs it when the model is loaded; nothing is unpickled.
"""

from typing import Any

import mlflow
import numpy as np
import torch
from mlflow.pyfunc import PythonModel

_BATCH = 1000  # images at a time


class ServedClassifier(PythonModel):  # type: ignore[misc]  # mlflow is not typed
    """Raw images (N, H, W) or (N, H, W, C) → `label` (N,) and `probabilities` (N, K)."""

    def load_context(self, context: Any) -> None:
        self.program = torch.export.load(context.artifacts["program"]).module()

    # MLflow reads the hint of model_input: a bare ndarray means that the logged signature says what goes in.
    def predict(self, context: Any, model_input: np.ndarray, params: Any = None) -> dict[str, Any]:
        images = np.asarray(model_input)
        images_NHWC = torch.from_numpy(np.ascontiguousarray(images if images.ndim == 4 else images[..., np.newaxis]))
        with torch.no_grad():
            probabilities_NK = torch.cat([self.program(batch) for batch in torch.split(images_NHWC, _BATCH)])
        return {"label": probabilities_NK.argmax(dim=1).numpy(), "probabilities": probabilities_NK.numpy()}


mlflow.models.set_model(ServedClassifier())
