"""The code of a LoggedModel (MLflow's models-from-code): it loads the model from the folder of the run that made it."""

from typing import Any

import mlflow
import numpy as np
from mlflow.pyfunc import PythonModel


class ServedRun(PythonModel):  # type: ignore[misc]  # mlflow is not typed
    """Answers as the model at `runs:/RUN_ID/model`, which `model_config` names."""

    def load_context(self, context: Any) -> None:
        self.model = mlflow.pyfunc.load_model(context.model_config["model"])

    # MLflow reads the type hint of model_input: a plain ndarray tells it to use the logged signature.
    def predict(self, context: Any, model_input: np.ndarray, params: Any = None) -> Any:
        return self.model.predict(model_input)


mlflow.models.set_model(ServedRun())
