"""`workbench serve`: a process that answers as predictions.npz does, whatever form the images have."""

import asyncio
import base64
import io
import json
import signal
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import requests
from mlflow.entities import Run
from mlflow.pyfunc.scoring_server.client import ScoringServerClient
from PIL import Image

import sweeps
from experiments import Store, load_config, run
from experiments.serving.predict import predict
from lightning_modules import ImageDataModule
from sweeps import load_sweep
from tests.experiments.serving.servers import JSON, Serving, as_json, ask_many, labels_of, said, serving


def as_picture(image: np.ndarray, kind: str = "PNG", times: int = 1) -> bytes:
    file = io.BytesIO()
    large = image.repeat(times, axis=0).repeat(times, axis=1)
    Image.fromarray(large).save(file, kind)
    return file.getvalue()


def in_base64(image: np.ndarray) -> str:
    return base64.b64encode(as_picture(image)).decode()


# What is sent for some images.
FORMS: dict[str, Callable[[np.ndarray], Any]] = {
    "inputs": lambda images: {"inputs": images.tolist()},
    "instances, with a channel": lambda images: {"instances": images[..., np.newaxis].tolist(), "params": {}},
    "channels first": lambda images: {"inputs": images[:, np.newaxis].tolist()},
    "float": lambda images: {"inputs": images.astype(float).tolist()},
    "a row of pixels": lambda images: {"dataframe_split": {"data": images.reshape(len(images), -1).tolist()}},
    "a cell of pixels": lambda images: {"dataframe_split": {"columns": ["x"], "data": [[i.tolist()] for i in images]}},
    "base64": lambda images: {"instances": [in_base64(image) for image in images]},
    "base64 of TensorFlow": lambda images: {"instances": [{"b64": in_base64(image)} for image in images]},
    "data URLs": lambda images: {"inputs": [f"data:image/png;base64,{in_base64(image)}" for image in images]},
    "base64 in a cell": lambda images: {"dataframe_split": {"data": [[in_base64(image)] for image in images]}},
}


@pytest.mark.parametrize("form", FORMS)
def test_each_form_of_json_gets_the_labels_of_predictions_npz(
    digits: Serving, images: np.ndarray, first_folder: Path, form: str
) -> None:
    assert labels_of(digits.post(FORMS[form](images[:50]))) == said(first_folder)[:50].tolist()


def test_mlflow_s_own_client_scores_arrays_and_tables(digits: Serving, images: np.ndarray, first_folder: Path) -> None:
    client = ScoringServerClient("127.0.0.1", digits.port)
    client.ping()
    assert client.get_version() == __import__("mlflow").__version__
    table = pd.DataFrame(images.reshape(len(images), -1))
    for given in (images, table):
        predictions = client.invoke(given)["predictions"]
        assert predictions["label"] == said(first_folder).tolist()
        assert np.array(predictions["probabilities"]).shape == (360, 10)
        assert predictions["class_names"] == list("0123456789")


def test_single_images_asked_for_at_the_same_time_get_their_own_answers(
    digits: Serving, images: np.ndarray, first_folder: Path
) -> None:
    arrays = ask_many(digits.url, [as_json(image[np.newaxis]) for image in images])
    pictures = ask_many(digits.url, [as_picture(image) for image in images], "image/png")
    expected = [[label] for label in said(first_folder).tolist()]
    assert [labels_of(reply) for reply in arrays] == expected
    assert [labels_of(reply) for reply in pictures] == expected
    with np.load(first_folder / "predictions.npz") as arrays_of_run:
        probabilities = arrays_of_run["test_probabilities"]
    answered = np.concatenate([document["predictions"]["probabilities"] for _, document in arrays])
    assert np.allclose(answered, probabilities, atol=1e-5)


def test_requests_of_other_sizes_are_not_mixed_up(digits: Serving, images: np.ndarray) -> None:
    large = images.repeat(3, axis=1).repeat(3, axis=2)
    bodies = [as_json(set_[number : number + 1]) for number in range(40) for set_ in (images, large)]
    replies = ask_many(digits.url, bodies)
    alone = [digits.post(json.loads(body)) for body in bodies]
    assert [labels_of(reply) for reply in replies] == [labels_of(reply) for reply in alone]


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "TIFF"])
def test_pictures_of_any_type_and_size_are_answered_as_by_predict(
    digits: Serving, digits_store: Path, images: np.ndarray, tmp_path: Path, kind: str
) -> None:
    files = [tmp_path / f"{number}.{kind.lower()}" for number in range(10)]
    for number, file in enumerate(files):
        file.write_bytes(as_picture(images[number], kind, times=3 + number))
    expected = predict(Store.open(digits_store), "first", files)
    replies = [digits.post(file.read_bytes(), f"image/{kind.lower()}") for file in files]
    assert [labels_of(reply) for reply in replies] == [[each["label"]] for each in expected]


def test_it_says_whose_model_it_is(digits: Serving, first_run: Run) -> None:
    about = requests.get(f"{digits.url}/model", timeout=60).json()
    assert about["run_id"] == digits.document["run_id"] == first_run.info.run_id
    assert (about["name"], about["image_shape"], about["image_type"]) == ("first", [8, 8, 1], "uint8")
    assert about["class_names"] == list("0123456789")
    assert requests.get(f"{digits.url}/ping", timeout=60).text == "\n"
    assert requests.get(f"{digits.url}/health", timeout=60).status_code == 200


ONE = [[[0] * 8] * 8]
BAD: dict[str, tuple[int, str, Any]] = {
    "not JSON": (400, "not valid JSON", b'{"inputs": '),
    "not UTF-8": (400, "not valid JSON", b'{"inputs": "\xff"}'),
    "NaN": (400, "NaN is not a number of JSON", b'{"inputs": [[[NaN]]]}'),
    "a list": (400, "must be an object with one of instances, inputs, dataframe_split", [1]),
    "no form": (400, "it has 'data'", {"data": ONE}),
    "two forms": (400, "it has instances, inputs", {"inputs": ONE, "instances": ONE}),
    "an unknown key": (400, "unknown key: 'input'", {"inputs": ONE, "input": ONE}),
    "params": (400, "takes no params", {"inputs": ONE, "params": {"a": 1}}),
    "nested deeply": (400, "", b'{"inputs": ' + b"[" * 200_000 + b"]" * 200_000 + b"}"),
    "no image": (400, "has no image", {"inputs": []}),
    "no pixel": (400, "no value in it", {"inputs": [[[], []]]}),
    "one image": (400, "has shape (8, 8)", {"inputs": ONE[0]}),
    "five dimensions": (400, "has shape (1, 1, 1, 8, 8)", {"inputs": [[ONE]]}),
    "ragged": (400, "differ in length or depth", {"inputs": [[[1, 2], [3]]]}),
    "two channels": (400, "2 channels; the model takes 1 or 3 or 4", {"inputs": [[[[1, 2]] * 8] * 8]}),
    "a name": (400, "inputs must be a list", {"inputs": {"image": ONE}}),
    "null": (400, "must hold numbers", {"inputs": [[[None]]]}),
    "true": (400, "it has true and false", {"inputs": [[[True, False]]]}),
    "texts": (400, "it has texts", {"inputs": [[["1"]]]}),
    "negative": (400, "the value -1; pixels are from 0 to 255", {"inputs": [[[-1]]]}),
    "too bright": (400, "the value 256", {"inputs": [[[256]]]}),
    "too large for 64 bits": (400, "must hold numbers", {"inputs": [[[10**30]]]}),
    "a fraction": (400, "the value 0.5; pixels are whole numbers", {"inputs": [[[0.5]]]}),
    "infinite": (400, "the value inf", b'{"inputs": [[[1e999]]]}'),
    "not base64": (400, "Image 0 of inputs is not base64", {"inputs": ["?"]}),
    "no picture in base64": (400, "The picture is not a PNG", {"inputs": ["aaaa"]}),
    "a bad third picture": (
        400,
        "Picture 2 is not a PNG",
        {"inputs": [in_base64(np.zeros((8, 8), np.uint8))] * 2 + ["aaaa"]},
    ),
    "mixed": (400, "Image 1 of inputs must be a picture in base64", {"inputs": ["aaaa", 1]}),
    "no data in a table": (400, '"data" is a list of rows', {"dataframe_split": {"columns": []}}),
    "rows of other lengths": (400, "differ in length", {"dataframe_split": {"data": [[1], [1, 2]]}}),
    "too few cells": (400, "have 3 cells; an image has 64 (8×8×1)", {"dataframe_split": {"data": [[1, 2, 3]]}}),
    "other columns": (400, '"columns"', {"dataframe_split": {"columns": [], "data": [[1] * 64]}}),
    "too many images": (413, "has 10,001 images", {"inputs": [[[0]]] * 10_001}),
}


@pytest.mark.parametrize("what", BAD)
def test_what_cannot_be_answered_is_refused_in_a_sentence(digits: Serving, what: str) -> None:
    status, words, body = BAD[what]
    digits.refuses(status, words, body)


def test_pictures_that_are_none_or_too_large_are_refused(digits: Serving) -> None:
    digits.refuses(400, "The picture is not a PNG", b"GIF89a", "image/png")
    digits.refuses(400, "is damaged", as_picture(np.zeros((50, 50), np.uint8))[:-30], "image/png")
    digits.refuses(400, "more than 33,554,432", as_picture(np.zeros((6000, 6000), np.uint8)), "image/png")
    many = [base64.b64encode(as_picture(np.zeros((4000, 4000), np.uint8))).decode()] * 3
    digits.refuses(413, "more than 33,554,432 pixels together", {"inputs": many})


def test_content_types_that_are_not_known_are_refused(digits: Serving, images: np.ndarray) -> None:
    digits.refuses(415, "'text/csv' is not one of application/json, image/png", as_json(images[:1]), "text/csv")
    digits.refuses(415, "'latin-1'", as_json(images[:1]), "application/json; charset=latin-1")
    assert digits.post(as_json(images[:1]), "application/json; charset=utf-8")[0] == 200


def test_bodies_that_are_too_large_are_refused_also_in_chunks(digits_store: Path, images: np.ndarray) -> None:
    body = b" " * (2 * 2**20) + as_json(images[:1])
    with serving(digits_store, "first", "--max-mb", "1") as server:
        server.refuses(413, "up to 1,048,576 bytes", body)
        for size in (2**20, 2**20 + 1):
            chunks = (b" " * 2**16 for _ in range(16)) if size == 2**20 else iter([b" " * size])
            answer = requests.post(f"{server.url}/invocations", data=chunks, headers={"Content-Type": JSON}, timeout=60)
            assert answer.status_code == (400 if size == 2**20 else 413)
        assert server.post(as_json(images[:1]))[0] == 200


def test_paths_and_methods_that_do_not_exist(digits: Serving) -> None:
    assert requests.get(f"{digits.url}/nothing", timeout=60).status_code == 404
    answer = requests.get(f"{digits.url}/invocations", timeout=60)
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    assert answer.json()["error_code"] == "METHOD_NOT_ALLOWED"


class Slow:
    """A request whose body is sent but for its last byte."""

    def __init__(self, server: Serving, body: bytes) -> None:
        self._connection = socket.create_connection(("127.0.0.1", server.port))
        head = f"POST /invocations HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nContent-Type: {JSON}\r\n"
        self._connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body[:-1])
        self._last = body[-1:]

    def end(self) -> bytes:
        """Sends the last byte, and returns the answer with its head."""
        self._connection.sendall(self._last)
        received = b""
        while b'"class_names"' not in received:
            part = self._connection.recv(2**16)
            assert part, received
            received += part
        self._connection.close()
        return received


def test_beyond_the_queue_it_says_to_come_again(
    digits_store: Path, images: np.ndarray, poll: Callable[..., Any]
) -> None:
    with serving(digits_store, "first", "--queue", "2") as server:
        slow = [Slow(server, as_json(images[:1])) for _ in range(2)]
        answers: list[requests.Response] = []

        def is_full() -> bool:  # the server has begun to read both
            answers.append(
                requests.post(f"{server.url}/invocations", as_json(images), headers={"Content-Type": JSON}, timeout=60)
            )
            return answers[-1].status_code == 503

        poll(is_full)
        assert int(answers[-1].headers["retry-after"]) >= 1
        assert "ask again later" in answers[-1].json()["message"]
        assert requests.get(f"{server.url}/ping", timeout=60).status_code == 200
        for each in slow:
            assert each.end().startswith(b"HTTP/1.1 200")
        assert server.post(as_json(images[:1]))[0] == 200


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_once_what_was_asked_is_answered(
    digits_store: Path, images: np.ndarray, poll: Callable[..., Any], number: signal.Signals
) -> None:
    with serving(digits_store, "first", "--queue", "1") as server:
        slow = Slow(server, as_json(images[:1]))
        poll(lambda: server.post(as_json(images[:1]))[0] == 503)  # the only place is taken
        server.process.send_signal(number)
        poll(lambda: not accepts(server.port))
        answer = slow.end()
        assert answer.startswith(b"HTTP/1.1 200")
        assert server.process.wait(60) == 0


def accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except ConnectionRefusedError:
        return False
    return True


def test_sigterm_under_load_leaves_no_request_without_an_answer(
    digits_store: Path, images: np.ndarray, poll: Callable[..., Any]
) -> None:
    with serving(digits_store, "first") as server:
        answered = [0] * 16
        lost: list[Exception] = []

        def ask_on(client: int) -> None:
            with requests.Session() as session:
                while ask(session):
                    answered[client] += 1

        def ask(session: requests.Session) -> bool:
            try:
                answer = session.post(
                    f"{server.url}/invocations", as_json(images[:1]), headers={"Content-Type": JSON}, timeout=60
                )
            except requests.ConnectionError as error:
                if "Connection refused" not in str(error):  # then it was not even taken
                    lost.append(error)
                return False
            assert answer.status_code == 200
            return True

        threads = [threading.Thread(target=ask_on, args=(client,)) for client in range(16)]
        for thread in threads:
            thread.start()
        poll(lambda: min(answered) >= 3)
        server.process.send_signal(signal.SIGTERM)
        for thread in threads:
            thread.join()
        assert lost == []
        assert server.process.wait(60) == 0


def test_a_champion_is_served_by_its_first_seed(tmp_path: Path) -> None:
    overrides = {"budget.trials": 1, "trainer.max_epochs": 1, "finalists": {"top": 1, "seeds": 2}}
    result = sweeps.run(load_sweep("digits", overrides), store=Store.open(tmp_path / "store")).as_dict()
    first, _ = result["champion"]["run_ids"]
    with serving(tmp_path / "store", "digits:champion") as server:
        assert server.document["run_id"] == first
        server.process.terminate()
        assert (
            f"digits:champion has 2 seeds; the first one's model is used: {server.document['name']}"
            in (server.process.communicate()[1])
        )


def test_all_of_fashion_mnist(real_data: Path, tmp_path: Path) -> None:
    """The labels of predictions.npz: for batches and single images, as arrays and as PNG."""
    httpx = pytest.importorskip("httpx", reason="needs the extra `dev`")
    few = {"trainer.max_epochs": 1, "trainer.limit_train_batches": 200, "trainer.threads": 1}
    config = load_config("fashion_mnist", {"data.root": str(real_data)} | few)
    result = run(config, name="clothes", store=Store.open(tmp_path / "store"))
    data = ImageDataModule(config.data)
    data.setup()
    test = data.splits["test"]
    images = test.images[test.indices][..., 0]
    expected = said(Path(result.artifact_uri.removeprefix("file://"))).tolist()
    assert len(images) == len(expected) == 10_000
    batches = [images[start : start + 500] for start in range(0, len(images), 500)]
    with serving(tmp_path / "store", "clothes") as server:
        client = ScoringServerClient("127.0.0.1", server.port)
        found = {
            "MLflow's client": [
                label for batch in batches for label in client.invoke(batch)["predictions"]["label_index"]
            ],
            "batches by httpx": [
                label
                for batch in batches
                for label in httpx.post(f"{server.url}/invocations", json={"instances": batch.tolist()}).json()[
                    "predictions"
                ]["label_index"]
            ],
            "single pictures by httpx": asyncio.run(by_httpx(server.url, [as_picture(image) for image in images])),
            "single arrays": indices(ask_many(server.url, [as_json(image[np.newaxis]) for image in images])),
            "single pictures": indices(ask_many(server.url, [as_picture(image) for image in images], "image/png")),
            "pictures in batches": indices(
                ask_many(
                    server.url,
                    [json.dumps({"instances": [in_base64(image) for image in batch]}).encode() for batch in batches],
                    clients=4,
                )
            ),
        }
    assert {name: labels == expected for name, labels in found.items()} == dict.fromkeys(found, True)


async def by_httpx(url: str, pictures: list[bytes]) -> list[int]:
    """The place of each picture's label, asked for by 32 clients."""
    httpx = pytest.importorskip("httpx", reason="needs the extra `dev`")
    found: dict[int, int] = {}
    numbers = iter(range(len(pictures)))

    async def client() -> None:
        async with httpx.AsyncClient(timeout=60) as asking:
            for number in numbers:
                headers = {"Content-Type": "image/png"}
                answer = await asking.post(f"{url}/invocations", content=pictures[number], headers=headers)
                (found[number],) = answer.json()["predictions"]["label_index"]

    await asyncio.gather(*(client() for _ in range(32)))
    return [found[number] for number in range(len(pictures))]


def indices(replies: list[Any]) -> list[int]:
    return [index for _, document in replies for index in document["predictions"]["label_index"]]
