"""Copies of the project, each a git repository of the user's, and this process as one that works in such a copy."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from experiments.code import kept, loading, own, portable, recorded, snapshot
from experiments.code.snapshot import PROJECT
from tests.warm_python import WarmPython


def git(folder: Path, *words: str) -> str:
    command = ["git", "-C", str(folder), "-c", "user.name=A Tester", "-c", "user.email=tester@example.com", *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def copy_sources(folder: Path) -> Path:
    for name in ("lightning_modules", "experiments", "sweeps", "workbench"):
        shutil.copytree(PROJECT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "constraints.txt", ".gitignore"):
        shutil.copy(PROJECT / name, folder)
    return folder


def copy_project(folder: Path) -> Path:
    """The project as a git repository of one commit."""
    copy_sources(folder)
    git(folder, "init", "--quiet")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "first")
    return folder


def work_in(folder: Path, patch: pytest.MonkeyPatch) -> None:
    """Makes this process one whose project is in `folder`, and which has begun just now and loaded nothing of it."""
    for module in (kept, own, portable, recorded, snapshot):
        patch.setattr(module, "PROJECT", folder)
    patch.setattr(loading, "_watched", loading.Watched())
    begin_again()


def begin_again() -> None:
    """Makes the next run read the project's files again."""
    snapshot.first_snapshot.cache_clear()
    kept.keep_first.cache_clear()


def start(project: Path, *words: str | Path, **variables: str) -> WarmPython:
    """Starts the command line of the project in a copy."""
    env = os.environ | {"PYTHONPATH": str(project)} | variables
    pipe = subprocess.PIPE
    return WarmPython(["-m", "workbench", *map(str, words)], cwd=project, env=env, stdout=pipe, stderr=pipe)


def call(project: Path, *words: str | Path, **variables: str) -> "subprocess.CompletedProcess[str]":
    """Runs the command line of the project in a copy to its end."""
    process = start(project, *words, **variables)
    stdout, stderr = process.communicate()
    return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)


def answer(project: Path, *words: str | Path, **variables: str) -> Any:
    """Returns the document of a command that ends with 0 or 1."""
    done = call(project, *words, "--json", **variables)
    assert done.returncode in (0, 1), done.stderr
    return json.loads(done.stdout)


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))
