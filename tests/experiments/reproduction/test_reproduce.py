"""Past runs again, in new processes: verdicts, where results part and why, what cannot run, and what is left behind."""

import hashlib
import json
import os
import shutil
import subprocess
import zipfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import yaml
from mlflow.entities import Metric, Param, RunTag
from sklearn.datasets import load_digits

import workbench as command_line
from experiments import Store, load_config, run
from experiments.artifact_names import CONFIG
from experiments.config import flatten
from experiments.errors import Interrupted
from experiments.process.owner import Owner
from experiments.provenance.packages import installed
from experiments.reproduction import again
from experiments.reproduction.reproduce import Reproduction, Settings, reproduce
from experiments.tracking.lifecycle import create_run
from experiments.tracking.runs import resolve
from experiments.tracking.tracked_run import IN_EPOCHS, as_param
from experiments.training.trace import Difference
from lightning_modules import InputError
from lightning_modules.metrics import METRICS
from sweeps import load_sweep
from sweeps import run as run_sweep
from tests.projects import answer, begin_again, copy_project, copy_sources, edit, git, start, work_in
from tests.warm_python import start_warm

NOISY = """
import torch
from torch import nn

class Noisy(nn.Sequential):
    unseeded = torch.Generator()
    unseeded.seed()

    def __init__(self, image_shape, num_classes):
        super().__init__(nn.Flatten(), nn.Linear(64, num_classes))

    def forward(self, images):
        return super().forward(images + torch.rand(images.shape, generator=self.unseeded))
"""
PACKAGED = """
import wb_layers
from torch import nn

class Packaged(nn.Sequential):
    def __init__(self, image_shape, num_classes):
        super().__init__(nn.Flatten(), nn.Linear(64, num_classes))

    def forward(self, images):
        return super().forward(wb_layers.scale(images))
"""
OWN = """
from torch import nn

class Own(nn.Sequential):
    def __init__(self, image_shape, num_classes):
        super().__init__(nn.Flatten(), nn.Linear(64, num_classes))
"""
SWEEP = """
recipe: digits
space: {optimizer.lr: [3.0e-3, 1.0e-6]}
budget: {trials: 3}
sampler: {kind: random}
pruner: {kind: median, startup_trials: 1}
finalists: {top: 1, seeds: 1}
"""
CNN = "lightning_modules/networks/baseline_cnn.py"


def install_layers(site: Path, version: str, factor: float) -> None:
    """The distribution wb-layers, in this version, with code that multiplies by `factor`."""
    shutil.rmtree(site, ignore_errors=True)
    info = site / f"wb_layers-{version}.dist-info"
    info.mkdir(parents=True)
    code = f"def scale(images):\n    return {factor} * images\n"
    (site / "wb_layers.py").write_text(code)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: wb-layers\nVersion: {version}\n")
    digest = hashlib.sha256(code.encode()).hexdigest()
    (info / "RECORD").write_text(f"wb_layers.py,sha256={digest},{len(code)}\n{info.name}/RECORD,,\n")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("reproduce")


@pytest.fixture(scope="module")
def store(folder: Path) -> Store:
    return Store.open(folder / "store")


@pytest.fixture(scope="module")
def project(folder: Path) -> Iterator[Path]:
    """A copy of the project that runs are recorded from; networks of the user's in `nets`, a package in `site`."""
    (folder / "project").mkdir()
    (folder / "nets").mkdir()
    for name, code in (("noisy", NOISY), ("packaged", PACKAGED), ("own", OWN)):
        (folder / "nets" / f"wb_{name}.py").write_text(code)
    site = folder / "site-packages"
    install_layers(site, "1.0", 1.0)
    with pytest.MonkeyPatch.context() as patch:
        copy = copy_project(folder / "project")
        (copy / "research").mkdir()
        (copy / "research" / "wb_research.py").write_text(OWN)
        git(copy, "add", "--all")
        git(copy, "commit", "--quiet", "--message", "a network of its own")
        work_in(copy, patch)
        patch.setattr(again, "subprocess", SimpleNamespace(Popen=start_warm, PIPE=subprocess.PIPE))
        patch.setenv("PYTHONPATH", f"{site}{os.pathsep}{folder / 'nets'}")
        for path in (site, folder / "nets", copy / "research"):
            patch.syspath_prepend(path)
        installed.cache_clear()
        yield copy
    installed.cache_clear()
    begin_again()


Record = Callable[..., str]


@pytest.fixture(scope="module")
def record(store: Store, project: Path) -> Record:
    """Trains a short run on digits, one thread, and gives its id."""

    def train(name: str, read_test: bool = False, **overrides: Any) -> str:
        fields = {path.replace("__", "."): value for path, value in overrides.items()}
        source = "arrays" if "data.path" in fields else "digits"
        config = load_config(source, {"trainer.threads": 1, "trainer.max_epochs": 1, **fields})
        return run(config, name=name, store=store, read_test=read_test).run_id

    return train


@pytest.fixture(scope="module")
def plain(record: Record) -> str:
    return record("plain", trainer__max_epochs=3)


@pytest.fixture(scope="module")
def images(folder: Path) -> dict[str, Any]:
    digits = load_digits()
    return {"x": digits.images[:300].astype(np.uint8), "y": digits.target[:300]}


@pytest.fixture(scope="module")
def sweep(folder: Path, store: Store, project: Path) -> str:
    """A sweep of three trials, one of them pruned, with a champion: its name."""
    (folder / "few.yaml").write_text(SWEEP)
    run_sweep(load_sweep(str(folder / "few.yaml"), {"trainer.max_epochs": 3}), store=store)
    return "few"


def copy_run(
    store: Store,
    run_id: str,
    name: str,
    *,
    status: str = "FINISHED",
    owner: str = "",
    fields: Mapping[str, Any] = MappingProxyType({}),
) -> tuple[str, Path]:
    """A run of an earlier version that left the same, but for `fields`, to be tampered with: its id, its artifacts."""
    original = store.client.get_run(run_id)
    copy = create_run(store, experiment="digits", name=name, kind="train", tags=IN_EPOCHS)
    uri = store.client.get_run(copy).info.artifact_uri
    artifacts = Path(uri.removeprefix("file://"))
    shutil.copytree(original.info.artifact_uri.removeprefix("file://"), artifacts)
    (artifacts / "record.json").unlink()
    plant_config(artifacts, fields)
    config = {
        name: as_param(value) for name, value in flatten(yaml.safe_load((artifacts / CONFIG).read_text())).items()
    }
    params = [Param(name, value) for name, value in config.items()]
    metrics = [
        Metric(name, point.value, point.timestamp, point.step)
        for name in original.data.metrics
        for point in store.client.get_metric_history(run_id, name)
    ]
    store.client.log_batch(
        copy, metrics=metrics, params=params, tags=[RunTag("workbench.owner", owner)] if owner else []
    )
    store.client.set_terminated(copy, status)
    return copy, artifacts


def plant_config(artifacts: Path, fields: Mapping[str, Any]) -> None:
    path = artifacts / "config.yaml"
    tree = yaml.safe_load(path.read_text())
    for name, value in fields.items():
        section, _, field = name.partition(".")
        tree[section][field] = value
    path.write_text(yaml.safe_dump(tree))


# Re-runs in new processes, all made by the fixture `results`, two at a time.


@pytest.fixture(scope="module")
def results(store: Store, folder: Path, record: Record, plain: str, sweep: str) -> dict[str, "Future[Reproduction]"]:
    augmented = record(
        "augmented",
        trainer__max_epochs=2,
        trainer__threads=2,
        optimizer__kind="sgd",
        data__augmentation__shift=1,
        data__augmentation__horizontal_flip=True,
        data__augmentation__rotation=10.0,
        data__augmentation__erasing=0.5,
        data__augmentation__noise=1.0,
        model__class_weights="balanced",
    )
    one_cycle = record(
        "one_cycle",
        read_test=True,
        trainer__max_epochs=3,
        trainer__weights="best",
        optimizer__kind="adamw",
        optimizer__schedule__kind="one_cycle",
        model__network="wb_own.Own",
    )
    research = record("research", model__network="wb_research.Own")
    with pytest.MonkeyPatch.context() as patch:
        work_in(copy_sources(folder / "no_checkout"), patch)
        without_git = record("without git")
    begin_again()
    pruned = [trial for trial in resolve(store, f"{sweep}:all") if trial.outcome == "pruned"]
    champion = resolve(store, f"{sweep}:champion")

    noisy = record("noisy", model__network="wb_noisy.Noisy")
    packaged = record("packaged", model__network="wb_packaged.Packaged")
    install_layers(folder / "site-packages", "1.1", 0.5)

    marker = folder / "executed"
    touch = {"args": ["touch", str(marker)]}
    planted = {
        "os.system": {"model.network": "os.system", "model.network_args": {"command": f"touch {marker}"}},
        "class_path": {"model.network_args": {"filters": {"class_path": "subprocess.Popen", "init_args": touch}}},
    }
    malicious = {}
    for name, fields in planted.items():
        malicious[name], _ = copy_run(store, plain, name, fields=fields)

    one = Settings(epochs=1)
    jobs = {
        "augmented": (augmented, Settings()),
        "one_cycle": (one_cycle, Settings()),
        "research": (research, Settings()),
        "without git": (without_git, Settings()),
        "pruned": (pruned[0].run_id, Settings()),
        "champion": (champion[0].run_id, Settings()),
        "threads": (augmented, Settings(overrides={"trainer.threads": 1}, epochs=1, explain=True)),
        "noisy": (noisy, one),
        "packaged": (packaged, one),
        **{name: (run_id, one) for name, run_id in malicious.items()},
    }
    own = (folder / "nets" / "wb_own.py", folder / "project" / "research" / "wb_research.py")
    for path in own:
        path.write_text("raise ImportError('edited since')\n")
    with ThreadPoolExecutor(2) as pool:
        made = {name: pool.submit(reproduce, store, *job) for name, job in jobs.items()}
    for path in own:
        path.write_text(OWN)
    return made


Results = dict[str, "Future[Reproduction]"]


@pytest.mark.parametrize("name", ["augmented", "one_cycle", "research", "without git", "pruned", "champion"])
def test_a_run_is_bitwise_the_same_in_a_new_process(results: Results, name: str) -> None:
    result = results[name].result()
    assert (result.verdict, result.first_difference, result.causes) == ("bitwise", None, ())
    assert all(line["recorded"] == line["reproduced"] for line in result.metrics)


def test_test_is_read_again_where_it_was_read(results: Results) -> None:
    names = {name: {line["name"] for line in results[name].result().metrics} for name in ("one_cycle", "pruned")}
    assert names["pruned"] == {"train/loss", "train/accuracy"} | {f"val/{name}" for name in METRICS}
    assert names["one_cycle"] == names["pruned"] | {f"test/{name}" for name in METRICS}


@pytest.mark.parametrize(
    ("name", "kind", "detail"),
    [
        ("threads", "threads", "trainer.threads: 2, now 1"),
        ("packaged", "package", "wb-layers 1.0, now 1.1"),
        ("noisy", "nondeterminism", "an operation is not deterministic: two re-runs first differ at epoch 1"),
    ],
)
def test_what_only_another_process_shows_is_named_as_the_first_cause(
    results: Results, name: str, kind: str, detail: str
) -> None:
    assert_named(results[name].result(), "epoch", kind, detail)


def assert_named(result: Reproduction, stage: str, kind: str, detail: str) -> None:
    assert result.verdict in {"within_tolerance", "different"}
    assert result.first_difference is not None
    assert (result.first_difference.stage, result.first_difference.epoch) == (stage, 1 if stage == "epoch" else None)
    assert result.causes[0].kind == kind
    assert result.causes[0].detail.startswith(detail)


def test_explain_says_which_suspect_restores_equality(results: Results) -> None:
    told = [{"suspect": "trainer.threads as recorded (2)", "restores": True}]
    assert results["threads"].result().explanations == told
    assert results["packaged"].result().explanations == ()


def test_run_and_re_run_are_linked_both_ways(store: Store, results: Results) -> None:
    result = results["champion"].result()
    assert result.reproduction_run_id is not None
    recorded, now = (store.client.get_run(run_id) for run_id in (result.run_id, result.reproduction_run_id))
    assert recorded.data.tags["workbench.reproduced_by"] == result.reproduction_run_id
    tags = [now.data.tags[f"workbench.{name}"] for name in ("kind", "reproduces", "verdict")]
    assert tags == ["reproduction", result.run_id, "bitwise"]
    document = Path(now.info.artifact_uri.removeprefix("file://")) / "reproduction.json"
    assert json.loads(document.read_text()) == json.loads(json.dumps(result.as_dict()))


@pytest.mark.parametrize(
    ("name", "reason"),
    [("os.system", "Python's own library"), ("class_path", "cannot be made")],
)
def test_a_planted_config_executes_nothing(results: Results, folder: Path, name: str, reason: str) -> None:
    result = results[name].result()
    assert (result.verdict, result.reproduction_run_id) == ("cannot_run", None)
    assert result.reason.startswith("model.network")
    assert reason in result.reason
    assert not (folder / "executed").exists()


def test_nothing_stays_in_the_scratch_folder(store: Store, results: Results) -> None:
    assert list((store.folder / "scratch").iterdir()) == []


# Re-runs of unchanged code. A process of its own, tested above, adds nothing here but seconds.


def test_another_learning_rate_is_named(store: Store, plain: str, rerun_in_process: None) -> None:
    result = reproduce(store, plain, Settings(overrides={"optimizer.lr": 0.01}, epochs=1))
    assert_named(result, "epoch", "config", "optimizer.lr: 0.003, now 0.01")
    assert result.verdict == "different"


def test_another_seed_is_named(store: Store, plain: str, rerun_in_process: None) -> None:
    result = reproduce(store, plain, Settings(overrides={"seed": 1}, epochs=1))
    assert_named(result, "initial_weights", "seed", "seed: 0, now 1")


@pytest.mark.parametrize(("array", "index"), [("x", (7, 3, 3)), ("y", (7,))], ids=["pixel", "label"])
def test_one_changed_value_of_the_data_is_named(
    store: Store, record: Record, images: dict[str, Any], tmp_path: Path, rerun_in_process: None, array: str, index: Any
) -> None:
    np.savez(tmp_path / "own.npz", **images)
    run_id = record(f"changed {array}", data__path=str(tmp_path / "own.npz"))
    values = images[array].copy()
    values[index] = (values[index] + 1) % 10
    np.savez(tmp_path / "own.npz", **images | {array: values})
    assert_named(reproduce(store, run_id, Settings()), "data", "data", "data bytes: SHA-256 ")


def test_data_that_are_gone_are_named(
    store: Store, record: Record, images: dict[str, Any], tmp_path: Path, rerun_in_process: None
) -> None:
    np.savez(tmp_path / "own.npz", **images)
    run_id = record("gone", data__path=str(tmp_path / "own.npz"))
    (tmp_path / "own.npz").unlink()
    result = cannot_run(store, run_id)
    assert result.reason == f"data.path: no such file (got '{tmp_path}/own.npz')"
    assert result.remedy.startswith("check the path, if the data have changed or were moved since: restore them")


def test_other_scores_on_test_are_a_difference(store: Store, plain: str, rerun_in_process: None) -> None:
    run_id, _ = copy_run(store, plain, "tested")
    result = reproduce(store, run_id, Settings(epochs=1))
    assert result.verdict == "bitwise"
    store.client.log_metric(run_id, "test/accuracy", 0.5)
    result = reproduce(store, run_id, Settings())
    assert result.first_difference == Difference("test", None, ("metrics test/accuracy",))
    assert result.verdict == "different"


def test_only_the_first_epochs_are_run_and_compared(store: Store, plain: str, rerun_in_process: None) -> None:
    result = reproduce(store, plain, Settings(epochs=2))
    assert result.verdict == "bitwise"
    assert result.reproduction_run_id is not None
    artifacts = store.client.get_run(result.reproduction_run_id).info.artifact_uri.removeprefix("file://")
    lines = [json.loads(line) for line in (Path(artifacts) / "trace.jsonl").read_text().splitlines()]
    assert [line.get("epoch") for line in lines] == [None, None, None, 1, 2]
    assert {line["name"]: line["reproduced"] for line in result.metrics} == {
        name: float.fromhex(value) for name, value in lines[-1]["metrics"].items()
    }


@pytest.mark.parametrize(("lr", "verdict"), [(0.003, "within_tolerance"), (1e-5, "different")])
def test_fresh_seeds_tell_whether_a_difference_is_one_of_seeds(
    store: Store, plain: str, rerun_in_process: None, lr: float, verdict: str
) -> None:
    overrides = {"seed": 7, "optimizer.lr": lr}
    strict = {"rtol": 0.0, "atol": 0.0, "epochs": 1}
    assert reproduce(store, plain, Settings(overrides=overrides, seeds=3, **strict)).verdict == verdict


# What the command prints.


def test_several_at_once_give_one_result_a_run(
    store: Store, sweep: str, plain: str, rerun_in_process: None, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [f"{sweep}:best", plain, "--epochs", "1", "--json", "--store", str(store.folder)]
    assert command_line.main(["reproduce", *words]) == 0
    document = json.loads(capsys.readouterr().out)
    (best,) = resolve(store, f"{sweep}:best")
    assert [(result["run_id"], result["verdict"]) for result in document["results"]] == [
        (best.run_id, "bitwise"),
        (plain, "bitwise"),
    ]
    keys = {"run_id", "reproduction_run_id", "verdict", "first_difference", "causes", "metrics"}
    for result in document["results"]:
        assert keys <= set(result)
        assert {"name", "recorded", "reproduced"} == set(result["metrics"][0])


def test_all_runs_of_a_sweep_are_meant_by_its_name(
    store: Store, sweep: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def same(store: Store, run_id: str, settings: Settings) -> Reproduction:
        assert settings.epochs == 1
        return Reproduction(run_id=run_id, reproduction_run_id="r", verdict="bitwise")

    monkeypatch.setattr("experiments.reproduction.reproduce.reproduce", same)
    words = ["reproduce", f"{sweep}:all", "--epochs", "1", "--json", "--store", str(store.folder)]
    assert command_line.main(words) == 0
    told = {result["run_id"] for result in json.loads(capsys.readouterr().out)["results"]}
    assert told == {run.run_id for run in resolve(store, f"{sweep}:all")}
    assert len(told) == 4


def test_what_one_run_cannot_do_costs_the_others_nothing(
    store: Store, record: Record, plain: str, rerun_in_process: None, capsys: pytest.CaptureFixture[str]
) -> None:
    """An override that does not fit, a deleted run, a record that lacks what every version wrote, a broken one."""
    with_sgd = record("with sgd", optimizer__kind="sgd")
    deleted, _ = copy_run(store, plain, "deleted")
    store.client.delete_run(deleted)
    keyless, artifacts = copy_run(store, plain, "without git in its record")
    told = json.loads((artifacts / "provenance.json").read_text())
    (artifacts / "provenance.json").write_text(json.dumps({"packages": told["packages"], "data_sha256": "0"}))
    broken, artifacts = copy_run(store, plain, "broken")
    (artifacts / "trace.jsonl").write_text("{}\n")
    words = [plain, deleted, keyless, broken, with_sgd, "--optimizer.momentum", "0.5", "--epochs", "1"]
    assert command_line.main(["reproduce", *words, "--json", "--store", str(store.folder)]) == 1
    results = json.loads(capsys.readouterr().out)["results"]
    assert [result["run_id"] for result in results] == [plain, deleted, keyless, broken, with_sgd]
    assert [result["verdict"] for result in results][:2] == ["cannot_run", "cannot_run"]
    assert results[0]["reason"].startswith("optimizer.momentum: ")
    assert results[1]["reason"] == "it was deleted in MLflow"
    assert {result["verdict"] for result in results[2:4]} <= {"cannot_run", "record_altered"}
    assert results[4]["verdict"] in {"different", "within_tolerance"}


def test_an_interrupt_keeps_the_verdicts_so_far(
    store: Store, sweep: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[str] = []

    def interrupted(store: Store, run_id: str, settings: Settings) -> Reproduction:
        if seen:
            raise Interrupted("SIGINT")
        seen.append(run_id)
        return Reproduction(run_id=run_id, reproduction_run_id="r", verdict="bitwise")

    monkeypatch.setattr("experiments.reproduction.reproduce.reproduce", interrupted)
    words = ["reproduce", f"{sweep}:all", "--store", str(store.folder)]
    assert command_line.main([*words, "--json"]) == 130
    assert [result["run_id"] for result in json.loads(capsys.readouterr().out)["results"]] == seen
    seen.clear()
    assert command_line.main(words) == 130
    assert capsys.readouterr().out == f"{seen[0]}  bitwise\n  re-run r\n"


def test_latest_is_no_reproduction(store: Store, plain: str, rerun_in_process: None) -> None:
    before = resolve(store, "latest")[0].run_id
    assert reproduce(store, plain, Settings(epochs=1)).verdict == "bitwise"
    assert resolve(store, "latest")[0].run_id == before


def test_what_differs_or_cannot_run_exits_1(store: Store, sweep: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line.main(["reproduce", sweep, "--store", str(store.folder), "--json"]) == 1
    (result,) = json.loads(capsys.readouterr().out)["results"]
    assert (result["verdict"], result["causes"][0]["kind"]) == ("cannot_run", "cannot_run")
    assert result["remedy"] == f"name runs of the sweep, such as {sweep}:champion"


def test_a_wrong_override_is_bad_input(
    store: Store, plain: str, rerun_in_process: None, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["reproduce", plain, "--optimizer.lrr", "1", "--store", str(store.folder)]
    assert command_line.main(words) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("error: optimizer.lrr: no such field")


def test_one_fresh_seed_is_bad_input() -> None:
    with pytest.raises(InputError, match="--seeds"):
        Settings(seeds=1)


def test_a_store_on_a_server_needs_trust_which_is_remembered(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tracking_server: str,
    rerun_in_process: None,
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking_server.replace("//", "//user:hunter2@"))
    store = Store.open(tmp_path / "store")
    config = load_config("digits", {"trainer.threads": 1, "trainer.max_epochs": 1})
    run_id = run(config, name="remote", store=store, read_test=False).run_id
    words = ["reproduce", run_id, "--store", str(store.folder)]
    capsys.readouterr()
    assert command_line.main(words) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert "--trust" in line
    assert tracking_server in line
    assert "hunter2" not in line
    assert command_line.main([*words, "--trust"]) == 0
    assert command_line.main(words) == 0


# Code that has changed since.


@pytest.fixture(scope="module")
def shifted(record: Record) -> str:
    return record("shifted", data__augmentation__shift=1, data__augmentation__horizontal_flip=True)


@pytest.fixture
def clone(project: Path, tmp_path: Path) -> Iterator[Path]:
    """Another checkout of the project, which is today's during the test."""
    git(tmp_path, "clone", "--quiet", str(project), "clone")
    with pytest.MonkeyPatch.context() as patch:
        work_in(tmp_path / "clone", patch)
        yield tmp_path / "clone"
    begin_again()


def test_a_committed_line_of_the_network_is_named(store: Store, shifted: str, clone: Path) -> None:
    edit(clone / CNN, "F.relu(F.max_pool2d(", "F.gelu(F.max_pool2d(")
    git(clone, "commit", "--quiet", "--all", "--message", "another activation")
    assert_named(reproduce(store, shifted, Settings(code="today")), "epoch", "code", f"{CNN}:36: -pooled_NFHW")


def test_an_uncommitted_line_of_the_network_is_named(store: Store, shifted: str, clone: Path) -> None:
    edit(clone / CNN, "kernel_size=3)", "kernel_size=3, bias=False)")
    edit(clone / "experiments" / "recipes" / "digits.yaml", "max_epochs: 15", "max_epochs: 1")
    result = reproduce(store, shifted, Settings(code="today", explain=True))
    assert_named(result, "initial_weights", "code", f"{CNN}:25: -self.conv")
    assert result.explanations == [{"suspect": "code as recorded", "restores": True}]


def test_another_order_of_augmentation_is_named(store: Store, shifted: str, clone: Path) -> None:
    name = "lightning_modules/pipeline/augmentation.py"
    lines = (clone / name).read_text().splitlines(keepends=True)
    start = next(index for index, line in enumerate(lines) if "if self.horizontal_flip:" in line)
    flip = lines[start : start + 3]
    end = next(index for index, line in enumerate(lines) if "return rows_NH, columns_NW" in line)
    (clone / name).write_text("".join([*lines[:start], *lines[start + 3 : end], *flip, *lines[end:]]))
    result = reproduce(store, shifted, Settings(code="today"))
    assert_named(result, "epoch", "code", f"{name}:{start + 1}: -if self.horizontal_flip:")


def test_a_changed_network_elsewhere_is_named(store: Store, folder: Path, record: Record, clone: Path) -> None:
    (folder / "nets" / "wb_mine.py").write_text(OWN)
    run_id = record("mine", model__network="wb_mine.Own")
    edit(folder / "nets" / "wb_mine.py", "nn.Linear(64, num_classes)", "nn.Linear(64, num_classes), nn.Tanh()")
    result = reproduce(store, run_id, Settings(code="today"))
    assert_named(result, "epoch", "code", "_outside/0/wb_mine.py:6: -super()")
    assert [cause.detail for cause in result.causes[1:] if cause.kind == "code"] == []


# What cannot run.


def cannot_run(store: Store, run_id: str, settings: Settings | None = None) -> Reproduction:
    """The result, after a look that nothing was half-made."""
    before = {found.info.run_id for found in store.client.search_runs(["0", "1"])}
    result = reproduce(store, run_id, settings or Settings())
    assert (result.verdict, result.reproduction_run_id) == ("cannot_run", None)
    assert {found.info.run_id for found in store.client.search_runs(["0", "1"])} == before
    assert list((store.folder / "scratch").iterdir()) == []
    assert result.remedy
    return result


def test_a_commit_that_is_gone_is_named(store: Store, plain: str, clone: Path) -> None:
    (clone / "new.py").write_text("new\n")
    git(clone, "add", "--all")
    git(clone, "commit", "--quiet", "--message", "soon gone")
    commit = git(clone, "rev-parse", "HEAD").strip()
    git(clone, "commit", "--quiet", "--amend", "--message", "amended")
    git(clone, "reflog", "expire", "--expire=now", "--all")
    git(clone, "gc", "--quiet", "--prune=now")
    run_id, artifacts = copy_run(store, plain, "commit gone")
    as_earlier(artifacts, clone, commit=commit)
    assert cannot_run(store, run_id).reason == f"commit {commit} is not in this repository"


def test_a_package_that_is_gone_is_named(store: Store, plain: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    run_id, artifacts = copy_run(store, plain, "package gone")
    (artifacts / "requirements.txt").write_text("no-such-package-anywhere==1.0\n")
    result = cannot_run(store, run_id, Settings(env="recorded"))
    assert "no-such-package-anywhere==1.0" in result.reason
    assert [path for path in (store.folder / "environments").iterdir() if path.suffix != ".lock"] == []


def test_a_run_that_still_runs_is_let_be(store: Store, plain: str) -> None:
    run_id, _ = copy_run(store, plain, "running", owner=str(Owner.current()))
    store.client.update_run(run_id, status="RUNNING")
    assert cannot_run(store, run_id).reason == "it is still running"
    assert store.client.get_run(run_id).info.status == "RUNNING"
    store.client.set_terminated(run_id)


def test_a_run_that_died_before_its_first_epoch_ended_is_told(store: Store, plain: str) -> None:
    run_id, artifacts = copy_run(store, plain, "no epoch", status="FAILED")
    shutil.rmtree(artifacts / "checkpoints")
    (artifacts / "trace.jsonl").write_text("".join((artifacts / "trace.jsonl").read_text().splitlines(True)[:3]))
    assert cannot_run(store, run_id).reason == "it ended before its first epoch was complete"


def test_a_run_that_died_before_it_was_recorded_is_told(store: Store) -> None:
    run_id = create_run(store, experiment="digits", name="died early", kind="train")
    store.client.set_terminated(run_id, "FAILED")
    told = "its record is incomplete, without config.yaml, provenance.json, requirements.txt, "
    assert cannot_run(store, run_id).reason == f"{told}uncommitted.patch"


def as_earlier(artifacts: Path, project: Path, **git: str) -> None:
    """Makes a record what versions before `code.git` wrote: the user's own commit has the code."""
    told = json.loads((artifacts / "provenance.json").read_text())
    told = {name: value for name, value in told.items() if name not in ("code", "record", "inputs")}
    told |= {
        "format": 3,
        "project": str(project),
        "working_directory": str(project),
        "own_folders": [],
        "sources": None,
    }
    told["git"] |= {"left_out_of_patch": [], **git}
    (artifacts / "provenance.json").write_text(json.dumps(told))


def new_file(name: str, mode: str = "100644") -> str:
    return f"diff --git a/{name} b/{name}\nnew file mode {mode}\n--- /dev/null\n+++ b/{name}\n@@ -0,0 +1 @@\n+/etc\n"


@pytest.mark.parametrize(
    "patch",
    [new_file("../escaped"), new_file("/tmp/escaped"), new_file(".git/hooks/post-checkout"), new_file("l", "120000")],
    ids=["traversal", "absolute", "hook", "symbolic link"],
)
def test_a_planted_patch_is_refused(store: Store, project: Path, plain: str, patch: str) -> None:
    run_id, artifacts = copy_run(store, plain, "planted patch")
    as_earlier(artifacts, project)
    (artifacts / "uncommitted.patch").write_text(patch)
    assert cannot_run(store, run_id).reason.startswith("the run's patch is refused: ")
    assert not list(store.folder.parent.rglob("escaped"))


def test_planted_sources_do_not_follow_a_link_out_of_the_checkout(store: Store, plain: str, clone: Path) -> None:
    outside = clone.parent / "outside"
    outside.mkdir()
    (clone / "linked").symlink_to(outside)
    git(clone, "add", "--all")
    git(clone, "commit", "--quiet", "--message", "with a link")
    run_id, artifacts = copy_run(store, plain, "planted sources")
    as_earlier(artifacts, clone, commit=git(clone, "rev-parse", "HEAD").strip())
    with zipfile.ZipFile(artifacts / "sources.zip", "w") as archive:
        archive.writestr("linked/planted.py", "planted")
    assert "'linked/planted.py'" in cannot_run(store, run_id).reason
    assert list(outside.iterdir()) == []


# A user's own repository, from the command line: a dirty run yesterday, other code today.


def state(project: Path) -> dict[str, Any]:
    """Everything a user has there but the store: files, git's own files, status and stashes."""
    files = [path for path in project.rglob("*") if path.is_file() and project / "mlruns" not in path.parents]
    code = {str(path): hashlib.sha256(path.read_bytes()).digest() for path in files if "__pycache__" not in path.parts}
    return code | {"status": git(project, "status", "--porcelain"), "stashes": git(project, "stash", "list")}


def test_yesterday_s_dirty_run_comes_back_and_the_working_tree_is_left_alone(
    tmp_path: Path, poll: Callable[..., None]
) -> None:
    (tmp_path / "own").mkdir()
    project = copy_project(tmp_path / "own")
    cnn, helper = project / CNN, project / "lightning_modules" / "networks" / "own_helper.py"
    helper.write_text("def scale(images):\n    return 0.5 * images\n")  # untracked
    edit(cnn, "from torch import Tensor, nn\n", "from torch import Tensor, nn\n\nfrom . import own_helper\n")
    git(project, "add", CNN)
    edit(cnn, "self.conv(images_NCHW)", "self.conv(own_helper.scale(images_NCHW))")  # and this is not staged
    run_id = answer(project, "train", "digits", "--trainer.max_epochs", "2", "--name", "dirty")["run_id"]

    helper.write_text("def scale(images):\n    return 0.25 * images\n")
    told = answer(project, "reproduce", "dirty", "--code", "today", "--epochs", "1")
    cause = {
        "kind": "code",
        "detail": "lightning_modules/networks/own_helper.py:2: -return 0.5 * images +return 0.25 * images",
    }
    assert [each for each in told["results"][0]["causes"] if each["kind"] != "unrecorded"] == [cause]

    git(project, "stash", "--include-untracked")
    edit(cnn, "F.relu(self.hidden(", "F.gelu(self.hidden(")
    edit(project / "experiments" / "recipes" / "digits.yaml", "3.0e-3", "1.0e-1")
    git(project, "commit", "--quiet", "--all", "--message", "today's")
    (project / "notes.txt").write_text("today's notes\n")
    before = state(project)

    store = Store.open(project / "mlruns")
    killed = start(project, "reproduce", run_id)

    def is_running() -> bool:
        return any(found.info.status == "RUNNING" for found in store.client.search_runs(["1"]))

    poll(is_running)
    (left,) = store.client.search_runs(["1"], "attributes.status = 'RUNNING'")
    child = Owner.parse(left.data.tags["workbench.owner"])
    assert child is not None
    killed.kill()
    killed.communicate()
    poll(lambda: child.fate() == "gone")  # an orphan ends itself
    assert state(project) == before
    assert list((store.folder / "scratch").iterdir()) != []

    assert answer(project, "reproduce", run_id)["results"][0]["verdict"] == "bitwise"
    assert state(project) == before
    assert list((store.folder / "scratch").iterdir()) == []
    assert not is_running()
