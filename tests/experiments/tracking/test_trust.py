"""Stores of others: nothing of them runs before the user says so, whatever they hold. An audit hook looks on."""

import json
import os
import shutil
import sqlite3
import subprocess
import zipfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import yaml

from experiments import Store, load_config, run
from experiments.code.code_store import CodeStore
from experiments.code.snapshot import PROJECT, File
from experiments.tracking.trust import is_trusted, own
from tests.stores import copy_store_folder
from tests.warm_python import WarmPython

Plant = Callable[["Foreign"], None]


class Foreign:
    """A store with one run that another user made, to plant things in. What runs touches `ran`."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.ran = folder, folder.parent / "ran"
        (self.artifacts,) = (path.parent for path in (folder / "artifacts").glob("*/artifacts/model"))
        self.touch = f"open({str(self.ran)!r}, 'w').close()\n"

    @property
    def provenance(self) -> dict[str, Any]:
        told: dict[str, Any] = json.loads((self.artifacts / "provenance.json").read_text())
        return told

    def tell(self, **fields: Any) -> None:
        (self.artifacts / "provenance.json").write_text(json.dumps(self.provenance | fields))
        (self.artifacts / "record.json").unlink(missing_ok=True)

    def configure(self, **fields: Any) -> None:
        path = self.artifacts / "config.yaml"
        tree = yaml.safe_load(path.read_text())
        for name, value in fields.items():
            section, _, field = name.partition("__")
            tree[section][field] = value
            with closing(sqlite3.connect(self.folder / "mlflow.db")) as connection, connection:
                where = (str(value), f"{section}.{field}")
                connection.execute("UPDATE params SET value = ? WHERE key = ?", where)
        path.write_text(yaml.safe_dump(tree))
        (self.artifacts / "record.json").unlink(missing_ok=True)

    def add_code(self, **files: str) -> None:
        """Adds files to the recorded code, by name with `__` for a dot."""
        added = {name.replace("__", "."): File(text.encode()) for name, text in files.items()}
        store, code = CodeStore(self.folder), self.provenance["code"]
        commit = store.keep(added, "planted", code["commit"])
        tree = store.tree(commit)
        self.tell(code=code | {"commit": commit, "sha256": tree.sha256, "files": len(tree.files)})


def as_earlier(foreign: Foreign, **more: Any) -> None:
    told = foreign.provenance
    for name in ("code", "record", "inputs"):
        told.pop(name)
    told |= {"format": 3, "project": "/nowhere", "working_directory": "/nowhere", "own_folders": [], "sources": None}
    (foreign.artifacts / "provenance.json").write_text(json.dumps(told | more))
    (foreign.artifacts / "record.json").unlink()


def plant_sources(foreign: Foreign) -> None:
    with zipfile.ZipFile(foreign.artifacts / "sources.zip", "w") as archive:
        for name in ("sitecustomize.py", "experiments/rerun.py", "experiments/__init__.py"):
            archive.writestr(name, foreign.touch)
    as_earlier(foreign, git=None, sources={"files": {}, "left_out": []})


def plant_settings(foreign: Foreign) -> None:
    repository = foreign.folder / "code.git"
    hook = repository / "hooks" / "reference-transaction"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f"#!/bin/sh\ntouch {foreign.ran}\n")
    hook.chmod(0o755)
    with (repository / "config").open("a") as config:
        config.write(f"[core]\n\tsshCommand = touch {foreign.ran};\n\thooksPath = {hook.parent}\n")
        config.write(f"\tfsmonitor = touch {foreign.ran}\n[extensions]\n\tpartialClone = origin\n")
        config.write('[remote "origin"]\n\turl = ssh://host/x\n\tpromisor = true\n')
    shutil.rmtree(repository / "objects" / "pack")  # each object would have to be fetched


def plant_model(foreign: Foreign) -> None:
    (foreign.artifacts / "model" / "served_classifier.py").write_text(foreign.touch)


PLANTED: dict[str, Plant] = {
    "sitecustomize.py": lambda store: store.add_code(sitecustomize__py=store.touch),
    "usercustomize.py": lambda store: store.add_code(usercustomize__py=store.touch),
    "the re-run itself": lambda store: store.add_code(**{"experiments/rerun__py": store.touch}),
    "a network": lambda store: (store.add_code(evil__py=store.touch), store.configure(model__network="evil.Net"))[1],
    "a metric": lambda store: store.configure(trainer__metrics=["pip.__main__.X"]),
    "a callback": lambda store: store.configure(trainer__callbacks=["os.system"]),
    "a source of data": lambda store: store.configure(data__source="pip.__main__.main"),
    "a network that is a package's main": lambda store: store.configure(model__network="pip.__main__.X"),
    "a library to load": lambda store: store.tell(variables={"LD_PRELOAD": "/x.so", "OMP_TOOL_LIBRARIES": "/x.so"}),
    "a log to write": lambda store: store.tell(variables={"TORCH_LOGS": "+all", "TORCH_LOGS_OUT": str(store.ran)}),
    "a start-up file": lambda store: store.tell(variables={"PYTHONSTARTUP": "/x.py", "PYTHONPATH": "/x"}),
    "requirements": lambda store: (
        (store.artifacts / "requirements.txt").write_text(
            f"-e file://{store.folder}\n--index-url http://127.0.0.1:1/\n"
        )
        and None
    ),
    "sources of an earlier version": plant_sources,
    "an earlier version's commit": lambda store: as_earlier(store, git={"commit": "--upload-pack=x", "dirty": False}),
    "settings of code.git": plant_settings,
    "a model": plant_model,
    "a folder to import from": lambda store: store.tell(
        code=store.provenance["code"] | {"prefix": "../../", "own_folders": [{"name": "../..", "path": "/tmp"}]}
    ),
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = Store.open(tmp_path_factory.mktemp("foreign") / "made")
    fields = {"trainer.threads": 1, "trainer.max_epochs": 1}
    run(load_config("digits", fields | {"seed": 1}), store=store, name="another of theirs", read_test=False)
    run(load_config("digits", fields), store=store, name="theirs")
    return store.folder.rename(store.folder.with_name("moved"))


@pytest.fixture
def foreign(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Foreign:
    """The store as another user finds it."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    Store.open(copy_store_folder(made, tmp_path / "store"))
    return Foreign(tmp_path / "store")


SPY = """
import sys
told, folder = open(sys.argv[1], "a"), sys.argv[2]
def spy(event, args):
    if event in ("subprocess.Popen", "os.exec", "os.posix_spawn", "os.system"):
        print(args[0], file=told, flush=True)
    elif event == "exec" and folder in args[0].co_filename:
        print(args[0].co_filename, file=told, flush=True)
sys.addaudithook(spy)
sys.argv = ["workbench", *sys.argv[3:]]
from workbench import main
sys.exit(main())
"""


def spied(foreign: Foreign, *words: str) -> tuple[int, str, list[str]]:
    """Runs a command; its exit code, what it printed, and the programs but git, and files of the store, that it ran."""
    told = foreign.folder.parent / "told"
    spy = ["-c", SPY, str(told), str(foreign.folder.parent), *words, "--store", str(foreign.folder)]
    pipe = subprocess.PIPE
    process = WarmPython(spy, cwd=PROJECT, env=os.environ | {"PYTHONPATH": str(PROJECT)}, stdout=pipe, stderr=pipe)
    printed, said = process.communicate()
    ran = told.read_text().splitlines() if told.exists() else []
    return process.returncode, printed + said, [each for each in ran if each not in ("git", "fc-list")]


@pytest.mark.parametrize("name", PLANTED)
def test_nothing_of_a_store_of_others_runs_before_it_is_trusted(foreign: Foreign, name: str) -> None:
    PLANTED[name](foreign)
    words = ["predict", "theirs", "x.png"] if name == "a model" else ["reproduce", "theirs", "--env", "recorded"]
    code, said, ran = spied(foreign, *words)
    assert (code, ran) == (2, []), said
    assert "add --trust to run it" in said
    assert not foreign.ran.exists()
    assert not (foreign.folder / "environments").exists()


def test_the_user_is_told_what_would_run(foreign: Foreign) -> None:
    for name in ("sitecustomize.py", "a network", "a callback", "a log to write"):
        PLANTED[name](foreign)
    code, said, _ = spied(foreign, "reproduce", "theirs", "--env", "recorded")
    assert code == 2
    assert "evil.Net in evil.py" in said
    assert "sitecustomize.py, at the start of Python" in said
    assert "pip install of its requirements.txt" in said
    assert "os.system of the installed package os" in said
    assert "TORCH_LOGS_OUT" not in said


def test_lists_and_comparisons_of_a_store_of_others_run_nothing(foreign: Foreign) -> None:
    PLANTED["a network"](foreign)
    PLANTED["a source of data"](foreign)
    page = str(foreign.folder.parent / "page.html")
    for words in (["runs"], ["compare", "theirs", "another of theirs", "--html", page]):
        code, said, ran = spied(foreign, *words)
        assert (code, ran) == (0, []), said
    assert not foreign.ran.exists()


def test_trust_is_asked_for_once_and_kept(foreign: Foreign) -> None:
    store = Store.open(foreign.folder)
    assert not is_trusted(store)
    own(foreign.folder)
    assert is_trusted(store)
    assert is_trusted(Store.open(foreign.folder.rename(foreign.folder.with_name("moved"))))


def test_a_store_without_a_key_gets_one_when_it_is_trusted(foreign: Foreign) -> None:
    (foreign.folder / "key").unlink()
    assert not is_trusted(Store.open(foreign.folder))
    own(foreign.folder)
    assert is_trusted(Store.open(foreign.folder))
    assert (foreign.folder / "key").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("key", ["", "x" * 10, None])
def test_a_key_that_anybody_could_have_guessed_is_none(foreign: Foreign, key: str | None) -> None:
    if key is not None:
        (foreign.folder / "key").write_text(key)
    folder = Path(os.environ["XDG_CONFIG_HOME"]) / "lightning-workbench" / "stores"
    folder.mkdir(parents=True)
    (folder / "None").touch()
    assert not is_trusted(Store.open(foreign.folder))


def test_requirements_of_a_trusted_store_still_go_to_pip_as_pins_alone(foreign: Foreign) -> None:
    own(foreign.folder)
    (foreign.artifacts / "record.json").unlink()
    (foreign.artifacts / "requirements.txt").write_text(f"numpy==2.0\n-e file://{foreign.folder}\n")
    code, said, ran = spied(foreign, "reproduce", "theirs", "--env", "recorded")
    assert (code, ran) == (1, []), said
    assert "NAME==VERSION: '-e file://" in said
