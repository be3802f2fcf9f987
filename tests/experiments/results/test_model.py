"""The logged model: raw images in, the run's own answers out, by stock MLflow alone."""

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlflow.entities import Run

from experiments import load_config
from lightning_modules import ImageDataModule


@pytest.fixture(scope="module")
def raw_test_images() -> np.ndarray:
    """uint8 (360, 8, 8), as the source gives them."""
    data = ImageDataModule(load_config("digits").data)
    data.setup()
    test = data.splits["test"]
    return test.images[test.indices][..., 0]


@pytest.fixture(scope="module")
def predictions(first_folder: Path) -> dict[str, np.ndarray]:
    return dict(np.load(first_folder / "predictions.npz"))


@pytest.fixture
def model(
    digits_store: Path, first_run: Run, load_model: Callable[[Path | str], Any], monkeypatch: pytest.MonkeyPatch
) -> Any:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{digits_store}/mlflow.db")
    return load_model(f"runs:/{first_run.info.run_id}/model")


@pytest.mark.parametrize("count", [1, 3, 360])
def test_raw_images_get_the_labels_of_predictions_npz(
    model: Any, raw_test_images: np.ndarray, predictions: dict[str, np.ndarray], count: int
) -> None:
    answer = model.predict(raw_test_images[:count])
    assert answer["label"].tolist() == predictions["test_label"][:count].tolist()
    assert np.allclose(answer["probabilities"], predictions["test_probabilities"][:count], atol=1e-5)


def test_the_signature_takes_uint8_images_and_names_label_and_probabilities(model: Any) -> None:
    signature = model.metadata.signature
    (images,) = signature.inputs.inputs
    assert (images.type, images.shape) == (np.uint8, (-1, -1, -1))
    assert signature.outputs.input_names() == ["label", "label_index", "probabilities", "class_names"]


def test_float_images_are_refused(model: Any, raw_test_images: np.ndarray) -> None:
    with pytest.raises(Exception, match="uint8"):
        model.predict(raw_test_images[:2] / 16)


def test_the_model_s_folder_holds_no_pickle(first_folder: Path) -> None:
    assert [path for path in (first_folder / "model").rglob("*") if path.suffix in {".pkl", ".pickle", ".pth"}] == []


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def served(digits_store: Path, first_run: Run, tmp_path: Path, poll: Callable[..., None]) -> Iterator[str]:
    """Stock `mlflow models serve` of the run's model, in a session of its own; its URL."""
    url = f"http://127.0.0.1:{(port := free_port())}"
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", f"runs:/{first_run.info.run_id}/model"]
    command += ["--env-manager", "local", "--host", "127.0.0.1", "--port", str(port)]
    own = {
        "MLFLOW_TRACKING_URI": f"sqlite:///{digits_store}/mlflow.db",
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        # `python -m mlflow` starts uvicorn from PATH.
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    log = (tmp_path / "serve.log").open("w")
    server = subprocess.Popen(
        command, env=os.environ | own, cwd=tmp_path, stdout=log, stderr=log, start_new_session=True
    )

    def healthy() -> bool:
        assert server.poll() is None, (tmp_path / "serve.log").read_text()
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    try:
        poll(healthy, seconds=120)
        yield url
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()
        log.close()


def test_stock_mlflow_serves_it(served: str, raw_test_images: np.ndarray, predictions: dict[str, np.ndarray]) -> None:
    body = json.dumps({"inputs": raw_test_images.tolist()}).encode()
    request = urllib.request.Request(f"{served}/invocations", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        given = json.load(answer)["predictions"]
    assert given["label"] == predictions["test_label"].tolist()


def test_the_network_s_layers_and_parameters_are_told(first_folder: Path) -> None:
    # On 8×8 digits: 32·(9 + 1) of the convolution, (32·3·3 + 1)·128 and (128 + 1)·10 of the two dense layers.
    text = (first_folder / "network.txt").read_text()
    assert text.endswith(f"{32 * 10 + 289 * 128 + 129 * 10:,} parameters\n")
    assert "Conv2d(1, 32, kernel_size=(3, 3)" in text
