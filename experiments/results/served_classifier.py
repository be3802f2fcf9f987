"""The code of a logged model (MLflow's models-from-code). It is copied beside the weights and imports no project code.

MLflow runs this file when it loads the model; nothing is unpickled.
"""

from typing import Any

import mlflow
import numpy as np
import torch
from mlflow.pyfunc import PythonModel

_BATCH = 1000  # images at a time


class ServedClassifier(PythonModel):  # type: ignore[misc]  # mlflow is not typed
    """Maps raw images (N, H, W) or (N, H, W, C) to `label` (N,) and `probabilities` (N, K)."""

    def load_context(self, context: Any) -> None:
        self.program = torch.export.load(context.artifacts["program"]).module()

    # MLflow reads the type hint of model_input: a plain ndarray tells it to use the logged signature.
    def predict(self, context: Any, model_input: np.ndarray, params: Any = None) -> dict[str, Any]:
        images_NHWC = model_input if model_input.ndim == 4 else model_input[..., np.newaxis]
        batches = (images_NHWC[start : start + _BATCH] for start in range(0, len(images_NHWC), _BATCH))
        with torch.no_grad():
            probabilities_NK = torch.cat([self.program(torch.tensor(batch)) for batch in batches])
        return {"label": probabilities_NK.argmax(dim=1).numpy(), "probabilities": probabilities_NK.numpy()}


mlflow.models.set_model(ServedClassifier())
