"""The code of a logged model (MLflow's models-from-code): it is copied beside the weights, so it imports only torch.

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

    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]  # MLflow would read hints as a schema
        images = np.asarray(model_input)
        images_NHWC = torch.from_numpy(np.ascontiguousarray(images if images.ndim == 4 else images[..., np.newaxis]))
        with torch.no_grad():
            probabilities_NK = torch.cat([self.program(batch) for batch in torch.split(images_NHWC, _BATCH)])
        return {"label": probabilities_NK.argmax(dim=1).numpy(), "probabilities": probabilities_NK.numpy()}


mlflow.models.set_model(ServedClassifier())
