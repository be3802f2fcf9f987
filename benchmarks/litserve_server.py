"""The same model behind LitServe, with its batching: MODEL PORT. Needs litserve, which is no dependency of ours."""

import sys
from typing import Any

import litserve
import mlflow
import numpy as np
import torch


class Api(litserve.LitAPI):  # type: ignore[misc]
    """One image a request, as in MLflow's protocol."""

    def setup(self, device: str) -> None:
        torch.set_num_threads(1)
        self.model = mlflow.pyfunc.load_model(sys.argv[1]).unwrap_python_model()

    def decode_request(self, request: dict[str, Any]) -> Any:
        return np.array(request["inputs"], np.uint8)

    def batch(self, inputs: list[Any]) -> Any:
        return np.concatenate(inputs)

    def predict(self, images: Any) -> dict[str, Any]:
        answer: dict[str, Any] = self.model.predict(None, images)
        return answer

    def unbatch(self, answer: dict[str, Any]) -> Any:
        return list(zip(answer["label"], answer["probabilities"], strict=True))

    def encode_response(self, answer: Any) -> dict[str, Any]:
        label, row = answer
        return {"predictions": {"label": [label.item()], "probabilities": [row.tolist()]}}


if __name__ == "__main__":
    api = Api(max_batch_size=64, batch_timeout=0.002, api_path="/invocations")
    litserve.LitServer(api, accelerator="cpu", workers_per_device=1).run(
        host="127.0.0.1", port=int(sys.argv[2]), log_level="warning", generate_client_file=False
    )
