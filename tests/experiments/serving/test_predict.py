"""`workbench predict`: the labels of the user's own data, for pictures, folders and arrays."""

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlflow.pyfunc.scoring_server import predictions_to_json
from PIL import Image

import workbench
from experiments import RunResult, Store, load_config, run

LABELS = {"text": ["cat", "dog", "eel"], "numbers": [3, 7, 9]}
# `len` cannot be traced by torch.export: the model then has the weights and this file.
NETWORK = """
from torch import nn

class Own(nn.Module):
    def __init__(self, shape, classes):
        super().__init__()
        assert isinstance(shape, tuple)
        self.output = nn.Linear(shape[0] * shape[1] * shape[2], classes)

    def forward(self, images):
        return self.output(images.reshape(len(images), -1))
"""


def images_of(labels: np.ndarray) -> np.ndarray:
    """uint8 (N, 6, 5): bright columns tell the class apart."""
    images = np.random.default_rng(0).integers(0, 40, (len(labels), 6, 5), np.uint8)
    for row, label in enumerate(labels):
        images[row, :, 2 * label] = 250
    return images


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("predict")


@pytest.fixture(scope="module")
def trained(folder: Path, store: Store) -> dict[str, RunResult]:
    """A run on images with labels of each kind; the second one's network cannot be traced."""
    (folder / "wb_own_network.py").write_text(NETWORK)
    index = np.arange(120) % 3
    made = {}
    for kind, names in LABELS.items():
        np.savez(folder / f"{kind}.npz", x=images_of(index), y=np.array(names)[index])
        (folder / f"{kind}.yaml").write_text(
            "experiment: predict\n"
            f"data: {{source: arrays, path: {kind}.npz, normalization: per_channel}}\n"
            + ("model: {network: wb_own_network.Own}\n" if kind == "numbers" else "")
            + "optimizer: {lr: 0.01}\ntrainer: {max_epochs: 5, threads: 1}\n"
        )
        made[kind] = run(load_config(str(folder / f"{kind}.yaml")), name=kind, store=store)
        assert made[kind].metrics["test/accuracy"] == 1
    return made


@pytest.fixture
def predict(store: Store, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    def call(*words: str | Path) -> tuple[int, str, str]:
        code = workbench.main(["predict", *map(str, words), "--store", str(store.folder)])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return call


@pytest.mark.parametrize("kind", LABELS)
def test_arrays_get_the_labels_they_were_trained_with(
    kind: str, trained: dict[str, RunResult], folder: Path, predict: Callable[..., tuple[int, str, str]]
) -> None:
    index = np.array([2, 0, 1, 1])
    np.save(folder / "new.npy", images_of(index))
    code, printed, _ = predict(kind, folder / "new.npy", "--json")
    assert code == 0
    answers = json.loads(printed)["predictions"]
    assert [answer["label"] for answer in answers] == [LABELS[kind][k] for k in index]
    assert [answer["label_index"] for answer in answers] == index.tolist()
    assert [answer["input"] for answer in answers] == [f"{folder / 'new.npy'}[{row}]" for row in range(4)]
    assert list(answers[0]["probabilities"]) == [str(name) for name in LABELS[kind]]
    assert sum(answers[0]["probabilities"].values()) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("kind", LABELS)
def test_stock_mlflow_answers_and_serves_these_labels(
    kind: str, trained: dict[str, RunResult], load_model: Callable[[str], Any]
) -> None:
    answer = load_model(f"{trained[kind].artifact_uri}/model").predict(images_of(np.array([1, 2])))
    assert answer["label"].tolist() == LABELS[kind][1:]
    served = io.StringIO()
    predictions_to_json(answer, served)
    assert json.loads(served.getvalue())["predictions"]["label"] == LABELS[kind][1:]


def test_pictures_of_any_size_and_folders_of_them(
    trained: dict[str, RunResult], folder: Path, predict: Callable[..., tuple[int, str, str]]
) -> None:
    pictures = folder / "pictures"
    (pictures / "below").mkdir(parents=True)
    for row, image in enumerate(images_of(np.array([0, 1]))):
        large = Image.fromarray(image).resize((50, 60), Image.Resampling.NEAREST).convert("RGB")
        large.save(pictures / ("below" if row else ".") / f"{row}.png")
    code, printed, _ = predict("text", pictures, pictures / "0.png", "--csv")
    assert code == 0
    rows = list(csv.DictReader(io.StringIO(printed)))
    assert [(Path(row["input"]).name, row["label"]) for row in rows] == [
        ("0.png", "cat"),
        ("1.png", "dog"),
        ("0.png", "cat"),
    ]
    assert set(rows[0]) == {"input", "label", "label_index", "cat", "dog", "eel"}


def test_arrays_of_another_size_are_scaled_and_it_says_so(
    trained: dict[str, RunResult], folder: Path, predict: Callable[..., tuple[int, str, str]]
) -> None:
    np.savez(folder / "large.npz", x=images_of(np.array([2, 0])).repeat(4, axis=1).repeat(4, axis=2))
    code, printed, said = predict("numbers", folder / "large.npz", "--json")
    assert code == 0
    assert [answer["label"] for answer in json.loads(printed)["predictions"]] == [9, 3]
    assert "large.npz: images of 24×20 are scaled to 6×5, the size of the training images" in said


@pytest.mark.parametrize(
    "as_saved",
    [
        lambda images: images.astype(np.float64),
        lambda images: images[..., np.newaxis].repeat(3, axis=3),
        lambda images: images[:, np.newaxis],
    ],
    ids=["whole floats", "colour", "channels first"],
)
def test_a_gray_model_takes_its_images_in_other_layouts(
    as_saved: Callable[[np.ndarray], np.ndarray],
    trained: dict[str, RunResult],
    folder: Path,
    predict: Callable[..., tuple[int, str, str]],
) -> None:
    np.save(folder / "other.npy", as_saved(images_of(np.array([2, 0, 1]))))
    code, printed, _ = predict("numbers", folder / "other.npy", "--json")
    assert code == 0
    assert [answer["label"] for answer in json.loads(printed)["predictions"]] == [9, 3, 7]


def test_a_run_without_a_model_names_the_command_that_makes_one(
    trained: dict[str, RunResult], folder: Path, store: Store, predict: Callable[..., tuple[int, str, str]]
) -> None:
    config = load_config(str(folder / "text.yaml"), {"trainer.max_epochs": 1})
    run(config, name="without", store=store, read_test=False)
    code, _, said = predict("without", folder / "text.npz")
    assert code == 2
    assert "error: RUN: this train kept no model (got 'without'); train it: workbench train " in said
    assert said.strip().endswith(f"config.yaml --store {store.folder}")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nothing.png", "FILE: no such file"),
        ("empty", "FILE: holds no picture"),
        ("text.yaml", "FILE: is not a PNG"),
        ("labels.npz", "FILE: holds ['y'], not x"),
        ("flat.npy", "FILE: is float64 of shape (4,)"),
        ("none.npy", "FILE: holds no pixel"),
        ("two_channels.npy", "FILE: has images with 2 channels; the model takes 1 or 3 or 4"),
        ("scaled.npy", "FILE: has the value 0.5; pixels are whole numbers"),
        ("bright.npy", "FILE: has the value 300; pixels are from 0 to 255"),
        ("negative.npy", "FILE: has the value -1; pixels are from 0 to 255"),
        ("nan.npy", "FILE: has the value nan; pixels are from 0 to 255"),
    ],
)
def test_what_is_no_image_is_refused(
    trained: dict[str, RunResult], folder: Path, predict: Callable[..., tuple[int, str, str]], name: str, message: str
) -> None:
    (folder / "empty").mkdir(exist_ok=True)
    np.savez(folder / "labels.npz", y=np.zeros(3))
    np.save(folder / "flat.npy", np.zeros(4))
    np.save(folder / "none.npy", np.zeros((0, 6, 5), np.uint8))
    np.save(folder / "two_channels.npy", np.zeros((1, 6, 5, 2), np.uint8))
    for wrong, value in {"scaled": 0.5, "bright": 300, "negative": -1, "nan": np.nan}.items():
        np.save(folder / f"{wrong}.npy", np.full((2, 6, 5), value))
    code, printed, said = predict("text", folder / name, "--csv")
    assert (code, printed) == (2, "")
    assert said.startswith(f"error: {message}")
