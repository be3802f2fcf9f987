"""`workbench export`: every file works where this project cannot be imported, and gives the original's answers."""

import json
import re
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import workbench
from experiments import RunResult, Store, load_config, run
from experiments.export.export import export
from experiments.serving.loaded import LoadedModel

FORMATS = {
    "model.safetensors": "safetensors",
    "program.pt2": "torch_export",
    "model.onnx": "onnx",
    "mlflow_model": "file",
    "int8.pt2": "int8",
}
OTHERS = {"predict.py", "config.json", "network", "README.md", "Dockerfile", "requirements.txt"}

# Each reads a file as its own library documents it, without predict.py; `images` are raw, (N, H, W, C).
READERS = {
    "model.safetensors": """
        import json, torch
        from pathlib import Path
        from safetensors.torch import load_file
        folder = Path(sys.argv[1])
        facts, tensors = json.loads((folder / "config.json").read_text()), load_file(folder / "model.safetensors")
        sys.path.insert(0, str(folder / "network"))
        from baseline_cnn import BaselineCNN
        scale, offset = tensors.pop("normalization.scale"), tensors.pop("normalization.offset")
        assert facts["network"]["path"] == "baseline_cnn.BaselineCNN"
        network = BaselineCNN(**facts["network"]["arguments"])
        network.load_state_dict(tensors)
        answers = network(torch.from_numpy(images).permute(0, 3, 1, 2) * scale + offset).softmax(1).detach().numpy()
    """,
    "program.pt2": """
        import torch
        program = torch.export.load(sys.argv[1] + "/program.pt2").module()
        answers = program(torch.from_numpy(images)).detach().numpy()
    """,
    "int8.pt2": """
        import torch
        import torch.ao.quantization.fx._decomposed
        sys.modules["torchao"] = None  # only needed to write the file
        program = torch.export.load(sys.argv[1] + "/int8.pt2")
        kinds = {str(value.dtype) for value in program.state_dict.values()}
        kinds |= {str(value.dtype) for value in program.constants.values() if isinstance(value, torch.Tensor)}
        assert "torch.int8" in kinds, kinds
        answers = program.module()(torch.from_numpy(images)).detach().numpy()
    """,
    "model.onnx": """
        import onnxruntime
        session = onnxruntime.InferenceSession(sys.argv[1] + "/model.onnx")
        assert [each.name for each in session.get_inputs()] == ["images"]
        (answers,) = session.run(["probabilities"], {"images": images})
    """,
    "mlflow_model": """
        import mlflow
        answers = mlflow.pyfunc.load_model(sys.argv[1] + "/mlflow_model").predict(images[..., 0])["probabilities"]
    """,
}
READ = "import numpy as np\nimages = np.load(sys.argv[2])\n"
PRINT = "import json\nprint(json.dumps(answers.tolist()))\n"

# The source of a network, as a user may write it.
TRACED = """
from torch import nn

from wb_exported_part import head

class Own(nn.Module):
    def __init__(self, shape, classes, *, width=8):
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(shape[0] * shape[1] * shape[2], width), nn.ReLU())
        self.head = head(width, classes)

    def forward(self, images):
        return self.head(self.body(images))
"""
PART = "from torch import nn\n\ndef head(width, classes):\n    return nn.Linear(width, classes)\n"
# `len` cannot be traced by torch.export; the two layers share their weights.
UNTRACED = """
from torch import nn

class Untraced(nn.Module):
    def __init__(self, shape, classes):
        super().__init__()
        assert isinstance(shape, tuple)
        self.first = nn.Linear(30, 30)
        self.second = nn.Linear(30, 30)
        self.second.weight = self.first.weight
        self.output = nn.Linear(30, classes)

    def forward(self, images):
        return self.output(self.second(self.first(images.reshape(len(images), -1)).relu()))
"""
# It answers differently where a variable is set.
FICKLE = """
import os
from torch import nn

class Fickle(nn.Module):
    def __init__(self, shape, classes):
        super().__init__()
        self.output = nn.Linear(shape[0] * shape[1] * shape[2], classes)
        self.sign = float(os.environ.get("WB_TEST_SIGN", "1"))

    def forward(self, images):
        return self.sign * self.output(images.flatten(1))
"""


def reader(name: str) -> str:
    return READ + textwrap.dedent(READERS[name]) + PRINT


# Digits, in every format.


def test_every_format_is_written_and_listed(digits_export: tuple[Path, dict[str, Any]]) -> None:
    folder, document = digits_export
    files = {file["path"]: file for file in document["files"]}
    assert {path: files[path]["format"] for path in FORMATS} == FORMATS
    assert files.keys() - FORMATS.keys() == OTHERS == {path.name for path in folder.iterdir()} - FORMATS.keys()
    for path, file in files.items():
        assert file["labels_equal"] is (True if path in FORMATS.keys() - {"int8.pt2"} else file["labels_equal"])
        assert (file["max_difference"] is None) == (path in OTHERS)
        assert file["bytes"] > 0
    assert max(files[path]["max_difference"] for path in FORMATS.keys() - {"int8.pt2"}) < 1e-5
    assert document["compared"] == "256 images of test"
    assert document["left_out"] == []
    assert sorted(path.name for path in folder.parent.iterdir()) == ["digits"]  # nothing is left beside it


@pytest.mark.parametrize("name", READERS)
def test_a_file_works_with_its_own_library_alone(
    name: str,
    digits_export: tuple[Path, dict[str, Any]],
    original: LoadedModel,
    digits_of_test: tuple[np.ndarray, np.ndarray],
    run_clean: Callable[..., Any],
    tmp_path: Path,
) -> None:
    images, labels = digits_of_test
    np.save(tmp_path / "images.npy", images)
    answers = np.array(run_clean(reader(name), digits_export[0], tmp_path / "images.npy"))
    expected = original.answer(images[..., 0])["probabilities"]
    if name == "int8.pt2":
        before, after = ((each.argmax(1) == labels).mean() for each in (expected, answers))
        assert before - after <= 0.005
        assert 0 < np.abs(answers - expected).max() < 0.3
    else:
        assert np.abs(answers - expected).max() < 1e-5
        assert (answers.argmax(1) == expected.argmax(1)).all()


def test_int8_is_smaller_and_its_accuracy_is_told(
    digits_export: tuple[Path, dict[str, Any]], digits_of_test: tuple[np.ndarray, np.ndarray], original: LoadedModel
) -> None:
    cost, (images, labels) = digits_export[1]["int8"], digits_of_test
    assert cost["images"] == len(labels)
    assert cost["accuracy_before"] == (original.answer(images[..., 0])["label_index"] == labels).mean()
    assert cost["accuracy_before"] - cost["accuracy_after"] <= 0.005
    assert cost["bytes_after"] < cost["bytes_before"]


@pytest.mark.parametrize("name", [name for name in FORMATS if name != "mlflow_model"])
def test_predict_labels_arrays_and_pictures(
    name: str,
    digits_export: tuple[Path, dict[str, Any]],
    original: LoadedModel,
    digits_of_test: tuple[np.ndarray, np.ndarray],
    run_clean: Callable[..., Any],
    tmp_path: Path,
) -> None:
    images = digits_of_test[0][:3]
    np.save(tmp_path / "images.npy", images[..., 0])
    Image.fromarray(images[0, ..., 0]).save(tmp_path / "one.png")
    code = f"""
        import contextlib, io, json, runpy
        sys.argv[1:] = ["images.npy", "one.png", "--model", "{name}"]
        lines = io.StringIO()
        with contextlib.redirect_stdout(lines):
            runpy.run_path("{digits_export[0]}/predict.py", run_name="__main__")
        print(json.dumps([json.loads(line) for line in lines.getvalue().splitlines()]))
    """
    answers = run_clean(code)
    assert [answer["input"] for answer in answers] == ["images.npy"] * 3 + ["one.png"]
    expected = original.answer(images[..., 0])
    assert [answer["label"] for answer in answers[:3]] == expected["label"].tolist()
    assert answers[3]["probabilities"] == pytest.approx(answers[0]["probabilities"], abs=1e-6)
    assert list(answers[0]["probabilities"]) == original.class_names


# Imports the predict.py of an export, without byte code in its folder, and calls `read` for each file.
READ_FILES = """
import json
from pathlib import Path
sys.dont_write_bytecode = True
sys.path.insert(0, sys.argv[1])
import predict
found = []
for name in sys.argv[2:]:
    try:
        found.append(predict.read(Path(name)).tolist())
    except ValueError as error:
        found.append(str(error))
print(json.dumps(found))
"""


def test_predict_reads_pictures_as_the_original_does(
    digits_export: tuple[Path, dict[str, Any]], original: LoadedModel, run_clean: Callable[..., Any], tmp_path: Path
) -> None:
    draw = np.random.default_rng(0)
    rgba = Image.fromarray(draw.integers(0, 256, (20, 30, 4), np.uint8))
    pictures = {
        "rgba.png": rgba,
        "wide.png": Image.fromarray(draw.integers(0, 65_536, (20, 30), np.uint16)),
        "rgb.png": rgba.convert("RGB"),
        "small.png": Image.fromarray(draw.integers(0, 256, (8, 8), np.uint8)),
    }
    for name, picture in pictures.items():
        picture.save(tmp_path / name)
    found = run_clean(READ_FILES, digits_export[0], *pictures)
    for name, images in zip(pictures, found, strict=True):
        assert np.array_equal(np.array(images)[0, ..., 0], original.decode(tmp_path / name)), name


def test_predict_refuses_values_that_are_no_pixels_of_training(
    digits_export: tuple[Path, dict[str, Any]], run_clean: Callable[..., Any], tmp_path: Path
) -> None:
    said = {
        "scaled.npy": "has the value 0.5; pixels are whole numbers",
        "bright.npy": "has the value 300; pixels are from 0 to 255",
        "negative.npy": "has the value -1; pixels are from 0 to 255",
        "nan.npy": "has the value nan; pixels are from 0 to 255",
        "deep.tiff": "has 32 bits per pixel of unknown range; store it with 8 or 16 bits",
    }
    for name, value in {"scaled": 0.5, "bright": 300, "negative": -1, "nan": np.nan, "whole": 7.0}.items():
        np.save(tmp_path / f"{name}.npy", np.full((2, 8, 8), value))
    Image.fromarray(np.zeros((8, 8), np.int32)).save(tmp_path / "deep.tiff")
    *refused, whole = run_clean(READ_FILES, digits_export[0], *said, "whole.npy")
    assert refused == [f"{name} {message}" for name, message in said.items()]
    assert whole == np.full((2, 8, 8, 1), 7).tolist()


def test_the_python_of_the_readme_runs(
    digits_export: tuple[Path, dict[str, Any]], run_clean: Callable[..., Any]
) -> None:
    text = (digits_export[0] / "README.md").read_text()
    (code,) = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    code = code.replace("print(", "import json\nprint(json.dumps(").replace(".shape)", ".shape))")
    assert run_clean(f"sys.path.insert(0, {str(digits_export[0])!r})\n{code}") == [2, 10]
    for name in FORMATS:
        assert f"| `{name}` |" in text


def test_nothing_of_the_project_is_named_in_the_code(digits_export: tuple[Path, dict[str, Any]]) -> None:
    for path in digits_export[0].rglob("*.py"):
        assert not re.search(r"^\s*(from|import) (lightning_modules|experiments|workbench)", path.read_text(), re.M)


# The command.


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    def main(*words: str | Path) -> tuple[int, str, str]:
        code = workbench.main(["export", *map(str, words)])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return main


def test_the_command_prints_differences_sizes_and_accuracies(
    workbench: Callable[..., Any], digits_store: Path, tmp_path: Path
) -> None:
    done = workbench("export", "first", tmp_path / "made", "--quantize", "int8", "--store", digits_store)
    assert done.returncode == 0, done.stderr
    for name in FORMATS:
        assert re.search(rf"^ *{name} .*\d\.\de[-+]\d\d.* [\d,]+ *$", done.stdout, re.MULTILINE), done.stdout
    assert re.search(r"int8: accuracy 0\.\d{4} → 0\.\d{4} on 360 images of test, [\d,]+ → [\d,]+ bytes", done.stdout)
    assert "without this project, on 256 images of test" in done.stdout


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_a_folder_that_holds_something_is_refused(
    kind: str, digits_store: Path, tmp_path: Path, call: Callable[..., tuple[int, str, str]]
) -> None:
    target = tmp_path / "there"
    if kind == "folder":
        target.mkdir()
        (target / "mine.txt").write_text("mine")
    else:
        target.write_text("mine")
    code, printed, said = call("first", target, "--store", digits_store)
    assert (code, printed) == (2, "")
    assert said.startswith(f"error: DIR: is not {'empty' if kind == 'folder' else 'a folder'} (got {str(target)!r})")
    assert [path.name for path in tmp_path.rglob("*")] == (["there", "mine.txt"] if kind == "folder" else ["there"])


def test_an_empty_folder_is_used(digits_store: Path, tmp_path: Path) -> None:
    export(Store.open(digits_store), "first", tmp_path)
    assert (tmp_path / "predict.py").exists()


def test_onnx_is_left_out_where_it_is_not_installed(
    digits_store: Path,
    tmp_path: Path,
    call: Callable[..., tuple[int, str, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("experiments.export.onnx.find_spec", lambda name: None)
    code, printed, _ = call("first", tmp_path / "made", "--store", digits_store)
    assert code == 0
    reason = "onnx is not installed: pip install 'lightning-workbench[onnx]' -c constraints.txt"
    assert f"model.onnx is left out: {reason}" in " ".join(printed.split())
    assert not (tmp_path / "made" / "model.onnx").exists()
    assert "`model.onnx` was left out" in (tmp_path / "made" / "README.md").read_text()


# Networks of the user's own.


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("own")


@pytest.fixture(scope="module")
def own_runs(folder: Path, store: Store) -> dict[str, RunResult]:
    (folder / "wb_exported_traced.py").write_text(TRACED)
    (folder / "wb_exported_part.py").write_text(PART)
    (folder / "wb_exported_untraced.py").write_text(UNTRACED)
    (folder / "wb_exported_fickle.py").write_text(FICKLE)
    index = np.arange(120) % 3
    images = np.random.default_rng(0).integers(0, 40, (120, 6, 5), np.uint8)
    for row, label in enumerate(index):
        images[row, :, 2 * label] = 250
    np.savez(folder / "own.npz", x=images, y=np.array(["cat", "dog", "eel"])[index])
    made = {}
    for kind in ("traced.Own", "untraced.Untraced", "fickle.Fickle"):
        name = kind.partition(".")[0]
        (folder / f"{name}.yaml").write_text(
            "experiment: export\ndata: {source: arrays, path: own.npz, normalization: per_channel}\n"
            f"model: {{network: wb_exported_{kind}}}\n"
            "optimizer: {lr: 0.01}\ntrainer: {max_epochs: 3, threads: 1}\n"
        )
        made[name] = run(load_config(str(folder / f"{name}.yaml")), name=name, store=store)
    return made


def test_the_source_is_what_the_run_recorded(
    own_runs: dict[str, RunResult], folder: Path, store: Store, tmp_path: Path, workbench: Callable[..., Any]
) -> None:
    part = folder / "wb_exported_part.py"
    part.write_text(PART.replace("nn.Linear(width, classes)", "nn.Identity()"))
    try:
        done = workbench("export", "traced", tmp_path / "made", "--json", "--store", store.folder)
    finally:
        part.write_text(PART)
    assert done.returncode == 0, done.stderr
    files = {file["path"]: file for file in json.loads(done.stdout)["files"]}
    assert files["model.safetensors"]["labels_equal"]
    assert (tmp_path / "made/network/wb_exported_part.py").read_text() == PART
    assert (tmp_path / "made/network/wb_exported_traced.py").read_text() == TRACED


def test_a_network_that_cannot_be_traced_has_weights_and_source(
    own_runs: dict[str, RunResult], store: Store, tmp_path: Path, call: Callable[..., tuple[int, str, str]]
) -> None:
    code, printed, _ = call("untraced", tmp_path / "made", "--store", store.folder)
    assert code == 0
    said = " ".join(printed.split())
    assert "program.pt2 is left out: torch.export cannot trace this network" in said
    assert "model.onnx is left out: torch.export cannot trace this network" in said
    assert (tmp_path / "made/network/wb_exported_untraced.py").read_text() == UNTRACED
    assert {path.name for path in (tmp_path / "made").iterdir()} == (
        OTHERS | FORMATS.keys() - {"program.pt2", "model.onnx", "int8.pt2"}
    )
    code, _, said = call("untraced", tmp_path / "other", "--quantize", "int8", "--store", store.folder)
    assert code == 2
    assert said.startswith("error: --quantize: torch.export cannot trace this network (got 'int8')")
    assert not (tmp_path / "other").exists()


def test_a_file_with_another_label_fails_and_leaves_nothing(
    own_runs: dict[str, RunResult],
    store: Store,
    tmp_path: Path,
    call: Callable[..., tuple[int, str, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("WB_TEST_SIGN", "-1")  # only the network that is made again from its source reads it
    code, printed, said = call("fickle", tmp_path / "made", "--store", store.folder)
    assert (code, printed) == (1, "")
    assert "model.safetensors: labels differ from the original's on" in said
    assert "program.pt2" not in said
    assert list(tmp_path.iterdir()) == []


def test_data_that_are_gone_are_replaced_by_random_images(
    own_runs: dict[str, RunResult],
    folder: Path,
    store: Store,
    tmp_path: Path,
    call: Callable[..., tuple[int, str, str]],
) -> None:
    (folder / "own.npz").rename(folder / "away.npz")
    try:
        code, printed, said = call("traced", tmp_path / "made", "--json", "--store", store.folder)
        refused, _, reason = call("traced", tmp_path / "other", "--quantize", "int8", "--store", store.folder)
    finally:
        (folder / "away.npz").rename(folder / "own.npz")
    assert code == 0
    assert json.loads(printed)["compared"] == "256 random images"
    assert "random images are compared instead" in said
    assert refused == 2
    assert reason.startswith("error: --quantize: it needs the run's images, which cannot be read: ")


def test_code_of_somebody_elses_store_asks_for_trust(
    own_runs: dict[str, RunResult],
    store: Store,
    tmp_path: Path,
    call: Callable[..., tuple[int, str, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "nobody"))
    code, _, said = call("traced", tmp_path / "made", "--store", store.folder)
    assert code == 2
    assert said.startswith("error: --trust:")
    assert not (tmp_path / "made").exists()
