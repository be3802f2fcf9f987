"""Records that lie: what was edited after a run is named, and code that is edited while it runs is recorded as it ran.

Every lie is told to a real run in a real store. At the end, honest runs: nobody is accused.
"""

import json
import os
import py_compile
import shutil
import sqlite3
import subprocess
import zlib
from collections.abc import Callable
from contextlib import closing
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from experiments import Store, load_config, run
from experiments.provenance.signature import sign_run
from experiments.reproduction.reproduce import Settings, reproduce
from tests.projects import answer, call, copy_project, edit, git, start
from tests.stores import copy_store_folder

Lie = Callable[["Victim"], None]

TRAIN = ("train", "digits", "--trainer.threads", "1")


class Victim:
    """A finished run that can be tampered with, and is put back."""

    def __init__(self, store: Store, run_id: str, other: str) -> None:
        self.store, self.run_id = store, run_id
        self.folder, self.other = self._folder(run_id), self._folder(other)

    def _folder(self, run_id: str) -> Path:
        return Path(self.store.client.get_run(run_id).info.artifact_uri.removeprefix("file://"))

    def sql(self, statement: str, *values: object) -> None:
        with closing(sqlite3.connect(self.store.folder / "mlflow.db", timeout=60)) as connection, connection:
            assert connection.execute(statement, values).rowcount > 0

    def rewrite(self, name: str, change: Callable[[str], str]) -> None:
        path = self.folder / name
        text = path.read_text()
        path.write_text(change(text))
        assert path.read_text() != text

    def problems(self) -> list[str]:
        result = reproduce(self.store, self.run_id, Settings(epochs=1))
        assert result.reproduction_run_id is None
        assert (result.verdict, result.record.state) == ("record_altered", "altered")
        return list(result.record.problems)


def metric(table: str, name: str = "val/accuracy", where: str = "") -> Lie:
    def lie(victim: Victim) -> None:
        victim.sql(f"UPDATE {table} SET value = 0.999 WHERE run_uuid = ? AND key = ? {where}", victim.run_id, name)

    return lie


def change_param(victim: Victim) -> None:
    victim.sql("UPDATE params SET value = '0.5' WHERE run_uuid = ? AND key = 'optimizer.lr'", victim.run_id)


def change_param_and_config(victim: Victim) -> None:
    change_param(victim)
    victim.rewrite("config.yaml", lambda text: text.replace("lr: 0.003", "lr: 0.5"))


def change_tag(victim: Victim) -> None:
    statement = "UPDATE tags SET value = ? WHERE run_uuid = ? AND key = 'workbench.data_sha256'"
    victim.sql(statement, "0" * 64, victim.run_id)


def remove_tag(victim: Victim) -> None:
    victim.sql("DELETE FROM tags WHERE run_uuid = ? AND key = 'workbench.outcome'", victim.run_id)


def change_status(victim: Victim) -> None:
    victim.sql("UPDATE runs SET status = 'KILLED' WHERE run_uuid = ?", victim.run_id)


def change_checkpoint(victim: Victim) -> None:
    path = victim.folder / "checkpoints" / "last.ckpt"
    held = torch.load(path, weights_only=True)
    held["state_dict"]["network.output.bias"][0] += 1e-6
    torch.save(held, path)


def change_optimizer(victim: Victim) -> None:
    path = victim.folder / "checkpoints" / "last.ckpt"
    held = torch.load(path, weights_only=True)
    held["optimizer_states"][0]["param_groups"][0]["lr"] = 0.5
    torch.save(held, path)


def change_trace(victim: Victim) -> None:
    lines = [json.loads(line) for line in (victim.folder / "trace.jsonl").read_text().splitlines()]
    lines[-1]["metrics"]["val/accuracy"] = (0.999).hex()
    (victim.folder / "trace.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def change_hash_in_trace(victim: Victim) -> None:
    victim.rewrite("trace.jsonl", lambda text: text.replace('"weights": "', '"weights": "0'))


def change_predictions(victim: Victim) -> None:
    with np.load(victim.folder / "predictions.npz") as archive:
        held = dict(archive)
    held["test_label"] = held["test_target"]
    held["test_probabilities"] = np.eye(10, dtype=np.float32)[held["test_target"]]
    np.savez(victim.folder / "predictions.npz", **held)


def change_probabilities(victim: Victim) -> None:
    with np.load(victim.folder / "predictions.npz") as archive:
        held = dict(archive)
    held["val_probabilities"] = np.roll(held["val_probabilities"], 1, axis=1)
    np.savez(victim.folder / "predictions.npz", **held)


def change_data_digest(victim: Victim) -> None:
    told = json.loads((victim.folder / "provenance.json").read_text())
    told["data_sha256"] = "0" * 64
    (victim.folder / "provenance.json").write_text(json.dumps(told))


def change_commit(victim: Victim) -> None:
    told = json.loads((victim.folder / "provenance.json").read_text())
    told["code"]["sha256"] = "0" * 64
    (victim.folder / "provenance.json").write_text(json.dumps(told))


def append(name: str) -> Lie:
    def lie(victim: Victim) -> None:
        with (victim.folder / name).open("ab") as file:
            file.write(b"\n")

    return lie


def remove(name: str) -> Lie:
    return lambda victim: (victim.folder / name).unlink()


def swap_artifacts(victim: Victim) -> None:
    between = victim.folder.with_name("between")
    victim.folder.rename(between)
    victim.other.rename(victim.folder)
    between.rename(victim.other)


def swap_predictions(victim: Victim) -> None:
    shutil.copyfile(victim.other / "predictions.npz", victim.folder / "predictions.npz")


def change_code(victim: Victim) -> None:
    """Replaces a file's content in code.git by another of the same length."""
    commit = json.loads((victim.folder / "provenance.json").read_text())["code"]["commit"]
    store = victim.store.folder / "code.git"
    listed = git(store, "--git-dir=.", "ls-tree", "-r", commit, "experiments/rerun.py")
    blob = listed.split()[2]
    content = git(store, "--git-dir=.", "cat-file", "blob", blob).replace("epochs: int", "epochs: INT")
    for pack in (store / "objects" / "pack").glob("*"):  # unpack all, or git reads the packed one
        shutil.move(pack, store / pack.name)
    for pack in store.glob("*.pack"):
        with pack.open("rb") as file:
            command = ["git", "-C", str(store), "--git-dir=.", "unpack-objects", "-q"]
            subprocess.run(command, stdin=file, check=True)
    loose = store / "objects" / blob[:2] / blob[2:]
    loose.chmod(0o644)
    loose.write_bytes(zlib.compress(b"blob %d\0%s" % (len(content.encode()), content.encode())))


FIRST = "AND step = (SELECT min(step) FROM metrics WHERE key = 'val/accuracy')"
LIES: dict[str, tuple[Lie, str]] = {
    "a param": (change_param, "optimizer.lr: config.yaml and the run's param differ"),
    "a param and the config": (change_param_and_config, "config.yaml: changed after the run was closed"),
    "a metric's history": (metric("metrics", where=FIRST), "metric val/accuracy in epoch 1"),
    "a metric's last value": (metric("latest_metrics"), "metric val/accuracy: 0.999 is not the last value"),
    "a metric that no trace has": (metric("latest_metrics", "value"), "metric value: 0."),
    "a score on test": (metric("latest_metrics", "test/accuracy"), "predictions.npz: 0."),
    "a tag": (change_tag, "the data's SHA-256: provenance.json and the tag differ"),
    "a tag that is gone": (remove_tag, "tag workbench.outcome: removed"),
    "the status": (change_status, "status: FINISHED when the run was closed, now KILLED"),
    "the weights of a checkpoint": (change_checkpoint, "checkpoints/last.ckpt: weights: not what epoch 2 has"),
    "the optimizer of a checkpoint": (change_optimizer, "checkpoints/last.ckpt: optimizer: not what epoch 2 has"),
    "a checkpoint that is damaged": (
        lambda victim: (victim.folder / "checkpoints" / "last.ckpt").write_bytes(b"x"),
        "checkpoints/last.ckpt: cannot be read",
    ),
    "a score in the trace": (change_trace, "metric val/accuracy in epoch 2: 0.999 in trace.jsonl"),
    "a hash in the trace": (change_hash_in_trace, "checkpoints/last.ckpt: weights: not what epoch 2 has"),
    "all labels on test": (change_predictions, "predictions.npz: 1.000000 of the labels of test are right"),
    "probabilities": (change_probabilities, "predictions.npz: labels and probabilities of val differ"),
    "the data's digest": (change_data_digest, "the data's SHA-256: provenance.json and trace.jsonl differ"),
    "the code's digest": (change_commit, "provenance.json and code.git disagree on the code"),
    "a file in code.git": (change_code, "experiments/rerun.py in code.git was changed after the run"),
    "the patch": (append("uncommitted.patch"), "uncommitted.patch: changed after the run was closed"),
    "a requirement": (append("requirements.txt"), "requirements.txt: changed after the run was closed"),
    "the model": (append("model/MLmodel"), "model/MLmodel: changed after the run was closed"),
    "a plot": (append("plots/curves.png"), "plots/curves.png: changed after the run was closed"),
    "a table that is gone": (remove("class_scores.json"), "class_scores.json: removed after the run was closed"),
    "the record itself": (
        lambda victim: victim.rewrite("record.json", lambda text: text.replace('"val/loss": "0x1', '"val/loss": "0x2')),
        "metric val/loss: ",
    ),
    "the record's form": (
        lambda victim: (victim.folder / "record.json").write_text("{}"),
        "record.json: is not what the workbench writes",
    ),
    "the artifacts of another run": (swap_artifacts, "record.json belongs to run "),
    "the predictions of another run": (swap_predictions, "predictions.npz: changed after the run was closed"),
}  # fmt: skip
# These are found in runs of earlier versions, too, which have no record.json.
SEEN_WITHOUT_A_SEAL = {
    "a param",
    "a metric's history",
    "a metric's last value",
    "a score on test",
    "a tag",
    "the weights of a checkpoint",
    "a score in the trace",
    "all labels on test",
    "probabilities",
    "the data's digest",
}


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    """A store with two finished runs of two epochs, which was moved since, and their ids."""
    store = Store.open(tmp_path_factory.mktemp("honest") / "store")
    fields = {"trainer.threads": 1, "trainer.max_epochs": 2}
    runs = [run(load_config("digits", fields | {"seed": seed}), store=store).run_id for seed in (0, 1)]
    moved = store.folder.rename(store.folder.with_name("moved"))
    return moved, runs[0], runs[1]


@pytest.fixture
def victim(honest: tuple[Path, str, str], tmp_path: Path) -> Victim:
    """One of the runs, in a copy of the store."""
    folder, run_id, other = honest
    return Victim(Store.open(copy_store_folder(folder, tmp_path / "store")), run_id, other)


def test_the_honest_run_is_complete_and_sealed(victim: Victim, rerun_in_process: None) -> None:
    result = reproduce(victim.store, victim.run_id, Settings(epochs=1))
    assert (result.verdict, result.record.state, result.record.problems) == ("bitwise", "complete", [])


@pytest.mark.parametrize("name", LIES)
def test_a_lie_is_named(victim: Victim, name: str) -> None:
    lie, told = LIES[name]
    lie(victim)
    problems = victim.problems()
    assert [problem for problem in problems if problem.startswith(told)], problems


@pytest.mark.parametrize("name", sorted(SEEN_WITHOUT_A_SEAL))
def test_a_lie_in_a_record_without_a_seal_is_named(victim: Victim, name: str) -> None:
    (victim.folder / "record.json").unlink()
    lie, told = LIES[name]
    lie(victim)
    problems = victim.problems()
    assert [problem for problem in problems if problem.startswith(told)], problems


def test_later_additions_and_a_new_name_are_no_lie(victim: Victim, rerun_in_process: None) -> None:
    (victim.folder / "notes.txt").write_text("mine\n")
    victim.store.client.set_tag(victim.run_id, "my.tag", "good")
    victim.store.client.set_tag(victim.run_id, "mlflow.note.content", "my notes")
    victim.store.client.update_run(victim.run_id, name="renamed")
    assert reproduce(victim.store, victim.run_id, Settings(epochs=1)).verdict == "bitwise"


def test_a_run_that_was_killed_between_two_writes_is_no_lie(victim: Victim, rerun_in_process: None) -> None:
    """Before its params were written, and after the last line of its trace."""
    (victim.folder / "record.json").unlink()
    victim.sql("DELETE FROM params WHERE run_uuid = ?", victim.run_id)
    victim.sql("DELETE FROM metrics WHERE run_uuid = ? AND key = 'train/loss'", victim.run_id)
    victim.sql("DELETE FROM latest_metrics WHERE run_uuid = ? AND key = 'train/loss'", victim.run_id)
    victim.sql("UPDATE runs SET status = 'FAILED' WHERE run_uuid = ?", victim.run_id)
    assert reproduce(victim.store, victim.run_id, Settings(epochs=1)).verdict == "bitwise"


# Signatures.


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ssh") / "id_ed25519"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)
    return path


def test_a_signature_is_told_and_holds_against_a_forger(victim: Victim, key: Path, rerun_in_process: None) -> None:
    signed = sign_run(victim.store, victim.run_id, key)
    assert signed["signed_by"].startswith("SHA256:")
    result = reproduce(victim.store, victim.run_id, Settings(epochs=1))
    assert (result.verdict, result.record.signed_by) == ("bitwise", signed["signed_by"])

    digest = sha256((victim.folder / "requirements.txt").read_bytes() + b"\n").hexdigest()
    before = json.loads((victim.folder / "record.json").read_text())["artifacts"]["requirements.txt"]
    append("requirements.txt")(victim)
    victim.rewrite("record.json", lambda text: text.replace(before, digest))
    assert victim.problems() == ["record.json.sig: the signature is not of this record.json"]


def test_a_signer_that_the_user_knows_is_told_by_name(
    victim: Victim, key: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rerun_in_process: None
) -> None:
    home = tmp_path / "home"
    (home / ".ssh").mkdir(parents=True)
    (home / ".ssh" / "allowed_signers").write_text(f"ada@example.org {key.with_suffix('.pub').read_text()}")
    monkeypatch.setenv("HOME", str(home))
    assert sign_run(victim.store, victim.run_id, key)["signed_by"].startswith("ada@example.org (SHA256:")


# Code that is edited while it is in use. `net.py` waits for the test at the places that matter.

NET = """
import os
import time
from pathlib import Path

from torch import nn

import wb_helper

class Net(nn.Sequential):
    def __init__(self, image_shape, num_classes):
        super().__init__(nn.Flatten(), nn.Linear(64, num_classes))
        self.calls = 0

    def forward(self, images):
        self.calls += 1
        if self.calls == 60 and "WAIT" in os.environ:  # in the second epoch
            wait(Path(os.environ["WAIT"]))
        if self.calls > 60:
            import wb_lazy
            images = wb_lazy.scale(images)
        return super().forward(wb_helper.scale(images))

def wait(folder):
    (folder / "here").touch()
    while not (folder / "go").exists():
        time.sleep(0.01)
"""
SCALE = "def scale(images):\n    return 1.0 * images\n"
TWO_EPOCHS = ("--model.network", "wb_net.Net", "--trainer.max_epochs", "2", *TRAIN[2:])


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project of the user's with a network of three untracked files."""
    (tmp_path / "project").mkdir()
    project = copy_project(tmp_path / "project")
    (project / "wb_net.py").write_text(NET)
    for name in ("wb_helper.py", "wb_lazy.py"):
        (project / name).write_text(SCALE)
    return project


def state_of(project: Path, run_id: str) -> dict[str, Any]:
    (found,) = (project / "mlruns" / "artifacts").glob(f"{run_id}/artifacts/provenance.json")
    state: dict[str, Any] = json.loads(found.read_text())["record"]
    return state


def while_it_waits(project: Path, tmp_path: Path, change: Callable[[], None]) -> "tuple[str, str]":
    """Trains, makes the change in the middle of the second epoch; the run's id and what was said."""
    process = start(project, "train", "digits", *TWO_EPOCHS, "--json", WAIT=str(tmp_path))
    while not (tmp_path / "here").exists():
        assert process.poll() is None
    change()
    (tmp_path / "go").touch()
    printed, said = process.communicate()
    assert process.returncode == 0, said
    return json.loads(printed)["run_id"], said


def verdict(project: Path, run_id: str, *words: str) -> dict[str, Any]:
    (result,) = answer(project, "reproduce", run_id, *words)["results"]
    found: dict[str, Any] = result
    return found


def test_what_is_edited_after_it_was_loaded_is_recorded_as_it_ran(project: Path, tmp_path: Path) -> None:
    def change() -> None:
        for name in ("wb_net.py", "wb_helper.py", "experiments/runner.py", "lightning_modules/classifier.py"):
            (project / name).write_text("raise ImportError('edited')\n")

    before = {
        name: (project / name).read_text() for name in ("experiments/runner.py", "lightning_modules/classifier.py")
    }
    run_id, said = while_it_waits(project, tmp_path, change)
    assert (state_of(project, run_id), "incomplete" in said) == ({"state": "complete", "problems": []}, False)
    for name, text in before.items():
        (project / name).write_text(text)
    assert verdict(project, run_id)["verdict"] == "bitwise"


def test_a_lazy_import_that_was_edited_is_named_everywhere(project: Path, tmp_path: Path) -> None:
    run_id, said = while_it_waits(project, tmp_path, lambda: edit(project / "wb_lazy.py", "1.0", "0.5"))
    problem = "wb_lazy.py: edited after the code was recorded, and then loaded"
    assert state_of(project, run_id) == {"state": "incomplete", "problems": [problem]}
    assert f"is incomplete: {problem}" in said
    tags = Store.open(project / "mlruns").client.get_run(run_id).data.tags
    assert (tags["workbench.record"], tags["workbench.record_problems"]) == ("incomplete", problem)
    assert problem in tags["mlflow.note.content"]

    result = verdict(project, run_id)
    assert (result["verdict"], result["record"]["state"]) == ("cannot_run", "incomplete")
    assert "wb_lazy.py" in result["reason"]
    assert verdict(project, run_id, "--epochs", "1")["verdict"] == "bitwise"


def test_what_changes_between_the_beginning_of_a_process_and_its_import_is_named(project: Path) -> None:
    """A network whose first line edits the second module that it imports."""
    rewrite = "from pathlib import Path\nhelper = Path(__file__).with_name('wb_helper.py')\n"
    rewrite += "helper.write_text(helper.read_text().replace('1.0', '0.5'))\n"
    (project / "wb_net.py").write_text(rewrite + NET)
    run_id = answer(project, "train", "digits", *TWO_EPOCHS)["run_id"]
    problem = "wb_helper.py: edited after the code was recorded, and then loaded"
    assert state_of(project, run_id) == {"state": "incomplete", "problems": [problem]}


@pytest.mark.parametrize("is_other", [True, False])
def test_byte_code_that_is_not_of_the_file_is_named(project: Path, is_other: bool) -> None:
    """Python takes it if the file has the same size and time, in whole seconds."""
    helper = project / "wb_helper.py"
    py_compile.compile(str(helper))
    before = helper.stat()
    helper.write_text(SCALE.replace("1.0", "0.5" if is_other else "1.0"))
    os.utime(helper, ns=(before.st_atime_ns, before.st_mtime_ns))
    run_id = answer(project, "train", "digits", *TWO_EPOCHS)["run_id"]
    problem = "wb_helper.py: Python ran byte code that was not made from this file"
    assert state_of(project, run_id)["problems"] == ([problem] if is_other else [])


def test_a_file_that_was_read_before_it_was_edited_is_named(project: Path) -> None:
    read = "from pathlib import Path\nlist_of_words = Path(__file__).with_name('words.txt')\n"
    read += "FIRST = list_of_words.read_text()\nlist_of_words.write_text('edited')\n"
    (project / "words.txt").write_text("one two")
    (project / "wb_net.py").write_text(read + NET)
    run_id = answer(project, "train", "digits", *TWO_EPOCHS)["run_id"]
    assert state_of(project, run_id)["problems"] == ["words.txt: edited between its record and its use"]


def test_ignored_files_and_links_are_recorded_and_helpers_elsewhere_are_named(project: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "wb_far.py").write_text("import os\nFACTOR = float(os.environ.get('FAR_FACTOR', '1'))\n")
    (outside / "linked.py").write_text("FACTOR = 1.0\n")
    (project / "wb_linked.py").symlink_to(outside / "linked.py")
    with (project / ".gitignore").open("a") as ignored:
        ignored.write("wb_helper.py\n*.npy\n")
    np.save(project / "offset.npy", np.zeros(64, np.float32))
    imports = "import os\nimport numpy as np\nimport wb_far\nimport wb_linked\nfrom pathlib import Path\n"
    imports += "OFFSET = np.load(Path(__file__).with_name('offset.npy'))\nWIDTH = os.environ.get('WB_WIDTH')\n"
    (project / "wb_net.py").write_text(imports + NET)
    path = f"{project}{os.pathsep}{outside}"
    words = ("train", "digits", *TWO_EPOCHS, "--model.network", "wb_net.Net")
    run_id = answer(project, *words, PYTHONPATH=path, WB_WIDTH="9")["run_id"]
    (found,) = (project / "mlruns" / "artifacts").glob(f"{run_id}/artifacts/provenance.json")
    told = json.loads(found.read_text())
    assert told["record"]["state"] == "complete"
    assert told["inputs"]["variables"]["WB_WIDTH"] == "9"
    used = [file["path"] for file in told["inputs"]["files"]]
    assert [path for path in used if not path.endswith("warm_python.py")] == ["../outside/wb_far.py"]
    kept = git(project / "mlruns" / "code.git", "--git-dir=.", "ls-tree", "-r", "--name-only", told["code"]["commit"])
    assert {"wb_helper.py", "offset.npy", "wb_linked.py", "wb_lazy.py"} <= set(kept.splitlines())

    for name in ("wb_helper.py", "offset.npy", "wb_linked.py"):
        (project / name).unlink()
    result = answer(project, "reproduce", run_id, PYTHONPATH=path, WB_WIDTH="9")["results"][0]
    assert result["verdict"] == "bitwise"
    (outside / "wb_far.py").write_text("raise ImportError('gone')\n")
    (result,) = answer(project, "reproduce", run_id, PYTHONPATH=path, WB_WIDTH="9")["results"]
    assert result["verdict"] == "cannot_run"


@pytest.fixture
def cut(project: Path, tmp_path: Path) -> Path:
    """The project, with a run `cut` that was killed in its second epoch, and a helper edited since."""
    process = start(project, "train", "digits", *TWO_EPOCHS, "--name", "cut", WAIT=str(tmp_path))
    while not (tmp_path / "here").exists():
        assert process.poll() is None
    process.kill()
    process.communicate()
    edit(project / "wb_helper.py", "1.0", "0.5")
    return project


RESUME = ("train", "digits", *TWO_EPOCHS, "--resume", "cut")


def test_a_run_goes_on_with_the_code_that_it_began_with(cut: Path) -> None:
    refused = call(cut, *RESUME)
    assert refused.returncode == 2
    assert "wb_helper.py changed since the run began at " in refused.stderr
    assert "add --code today" in refused.stderr
    (cut / "docs.txt").write_text("no code\n")  # what it does not load may change
    edit(cut / "wb_helper.py", "0.5", "1.0")
    assert answer(cut, *RESUME)["status"] == "FINISHED"
    assert verdict(cut, "cut")["verdict"] == "bitwise"


def test_a_run_that_went_on_with_other_code_says_so(cut: Path) -> None:
    run_id = answer(cut, *RESUME, "--code", "today")["run_id"]
    assert state_of(cut, run_id)["problems"] == ["wb_helper.py: edited since the run began"]
    result = verdict(cut, run_id)
    assert (result["verdict"], result["record"]["state"]) == ("cannot_run", "incomplete")
