"""The code of a logged module of the user's own (MLflow's models-from-code). It imports no project code."""

from typing import Any

import mlflow
import numpy as np
import torch
from mlflow.pyfunc import PythonModel


class ServedModule(PythonModel):  # type: ignore[misc]  # mlflow is not typed
    """Maps an array (N, …) as `forward` does: to an array, or a mapping of arrays."""

    def load_context(self, context: Any) -> None:
        self.program = torch.export.load(context.artifacts["program"]).module()

    # MLflow reads the type hint of model_input: a plain ndarray tells it to use the logged signature.
    def predict(self, context: Any, model_input: np.ndarray, params: Any = None) -> Any:
        with torch.no_grad():
            return _as_arrays(self.program(torch.tensor(model_input)))


def _as_arrays(answers: Any) -> Any:
    if isinstance(answers, torch.Tensor):
        return answers.numpy()
    if isinstance(answers, dict):
        return {name: _as_arrays(value) for name, value in answers.items()}
    return {f"output_{number}": _as_arrays(value) for number, value in enumerate(answers)}


mlflow.models.set_model(ServedModule())
