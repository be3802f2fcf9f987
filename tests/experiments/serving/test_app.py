"""The service in this process: clients that send nothing, pictures that take long, and models of four channels."""

import base64
import io
import json
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest
import requests
from PIL import Image

import workbench
from experiments import Store, load_config, run
from experiments.serving.app import Service
from experiments.serving.bodies import Limits
from experiments.serving.loaded import LoadedModel, load_model
from experiments.serving.server import Server
from tests.experiments.serving.servers import JSON, as_json


@contextmanager
def answering(model: LoadedModel, limits: Limits | None = None) -> Iterator[str]:
    """The address, HOST:PORT, of a server of `model`."""
    service, server = Service(model, limits or Limits()), Server("127.0.0.1", 0)
    server.start(service.app)
    try:
        yield server.netloc
    finally:
        server.stop()
        server.wait()
        service.close()


def post(address: str, body: bytes, content_type: str = JSON) -> requests.Response:
    headers = {"Content-Type": content_type, "Connection": "close"}
    return requests.post(f"http://{address}/invocations", body, headers=headers, timeout=60)


def png(image: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


def in_json(picture: bytes) -> bytes:
    return json.dumps({"instances": [base64.b64encode(picture).decode()]}).encode()


@pytest.fixture(scope="module")
def model(digits_store: Path) -> LoadedModel:
    return load_model(Store.open(digits_store), "first")


def test_a_client_that_sends_no_byte_of_its_body_loses_its_place(model: LoadedModel, images: np.ndarray) -> None:
    with answering(model, Limits(seconds=0.5, open_requests=1)) as address:
        host, _, port = address.partition(":")
        with socket.create_connection((host, int(port)), timeout=20) as silent:
            head = f"POST /invocations HTTP/1.1\r\nHost: {address}\r\nContent-Type: {JSON}\r\nContent-Length: 9\r\n\r\n"
            silent.sendall(head.encode())
            assert silent.recv(2**16).startswith(b"HTTP/1.1 408")
            assert post(address, as_json(images[:1])).status_code == 200


@pytest.mark.parametrize("form", ["picture", "base64"])
def test_others_are_answered_while_a_small_picture_is_decoded(
    model: LoadedModel, images: np.ndarray, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    begun, may_end, decode = Event(), Event(), LoadedModel.decode

    def slow(*given: Any) -> Any:
        begun.set()
        assert may_end.wait(60)
        return decode(*given)

    monkeypatch.setattr(LoadedModel, "decode", slow)
    picture = png(images[0])
    body, content_type = (picture, "image/png") if form == "picture" else (in_json(picture), JSON)
    with answering(model) as address, ThreadPoolExecutor(1) as client:
        reply = client.submit(post, address, body, content_type)
        try:
            assert begun.wait(60)
            assert requests.get(f"http://{address}/ping", timeout=20).status_code == 200
            assert post(address, as_json(images[:1])).status_code == 200
        finally:
            may_end.set()
        assert reply.result().status_code == 200


@pytest.fixture(scope="module")
def four_channels(store: Store, tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    """The model of a run on images of four channels."""
    folder = tmp_path_factory.mktemp("four")
    images = np.random.default_rng(0).integers(0, 256, (60, 8, 8, 4), np.uint8)
    np.savez(folder / "four.npz", x=images, y=np.arange(60) % 3)
    (folder / "four.yaml").write_text(
        "experiment: four\ndata: {source: arrays, path: four.npz, normalization: per_channel}\n"
    )
    run(
        load_config(str(folder / "four.yaml"), {"trainer.max_epochs": 1, "trainer.threads": 1}),
        name="four",
        store=store,
    )
    return load_model(store, "four")


def test_a_model_of_four_channels_refuses_pictures(four_channels: LoadedModel, images: np.ndarray) -> None:
    with answering(four_channels) as address:
        for body, content_type in ((png(images[0]), "image/png"), (in_json(png(images[0])), JSON)):
            reply = post(address, body, content_type)
            message = "The picture cannot be used: the model takes images of 4 channels, as arrays."
            assert (reply.status_code, reply.json()["message"]) == (400, message)
        reply = post(address, as_json(images[:1]))
        assert (reply.status_code, "1 channels; the model takes 4" in reply.json()["message"]) == (400, True)
        assert post(address, as_json(images[:2, ..., np.newaxis].repeat(4, axis=3))).status_code == 200


def test_predict_refuses_pictures_for_a_model_of_four_channels(
    four_channels: LoadedModel, store: Store, images: np.ndarray, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.png").write_bytes(png(images[0]))
    np.save(tmp_path / "rgb.npy", images[:2, ..., np.newaxis].repeat(3, axis=3))
    for name, message in (("a.png", "cannot be used: the model takes images of 4 channels"), ("rgb.npy", "3 channels")):
        assert workbench.main(["predict", "four", str(tmp_path / name), "--store", str(store.folder)]) == 2
        assert message in capsys.readouterr().err
