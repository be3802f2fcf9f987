"""Records what is needed to run a run again: before training begins, and once more when the run ends."""

import json
import shlex
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mlflow.entities import DatasetInput

from experiments.artifact_names import CODE_BUNDLE, CONFIG, PATCH, PROVENANCE, REQUIREMENTS, SOURCES
from experiments.code.code_store import CodeStore
from experiments.code.kept import Code, State, keep_code, to_zip
from experiments.code.loading import watch
from experiments.code.own import own_folders
from experiments.code.portable import portable
from experiments.config import ExperimentConfig, flatten
from experiments.process.interrupts import uninterrupted
from experiments.process.redaction import without_credentials
from experiments.provenance.inputs import inputs, merged
from experiments.provenance.machine import machine, torch_state, variables
from experiments.provenance.packages import installed, requirements
from experiments.tracking.store import Store
from experiments.tracking.tracked_run import TrackedRun
from experiments.training.trace import Digests
from lightning_modules.log import LOG

FORMAT = 4
_STATES: list[State] = ["complete", "unknown", "incomplete"]  # from the best
_SHOWN = 5  # problems of a record on the terminal


def code_for(config: ExperimentConfig, store: Store) -> Code:
    """Puts the code of runs of this configuration into the store, unless it is there already."""
    return keep_code(store.folder, config.data_paths(), tuple(own_folders(config.tree())))


def record(
    run: TrackedRun,
    config: ExperimentConfig,
    digests: Digests,
    data: Sequence[DatasetInput],
    code: Code,
    callbacks: Sequence[str] = (),
) -> None:
    """Writes the run's params, data inputs and tags, and the artifacts on its code, packages and machine.

    `config.yaml` is the complete recipe. The code is a commit in the store's `code.git`; if artifacts are kept on a
    server it is also `code.bundle`, and without git it is `sources.zip`. `uncommitted.patch`, for people to read, leads
    to it from the user's own commit. `requirements.txt` lists the packages for pip. `provenance.json` holds no
    credentials, and no absolute path where `portable` can avoid it:

    - `format`: FORMAT; a record without it has format 1.
    - `command`: the command line.
    - `seed`, `split_seed`; `data_sha256`: of the data as read; `split_sha256`: {split: of its images in their order}.
    - `git`: the user's checkout: `commit`, `branch`, `remote`, `prefix`, and `dirty`; null without git.
    - `code`: `Code.as_dict`, and `loaded`, the names of the files that the run imported.
    - `record`: {`state`, `problems`}: whether the code is what ran; see `Code.state`.
    - `inputs`: see `inputs`.
    - `packages`: {name: `Package.as_dict`}. The project itself is left out.
    - `machine`, `torch`, `variables`: see machine.py.
    - `callbacks_not_recorded`: `callbacks`, the classes of those that were given as objects: a re-run lacks them.

    `finished` completes `code`, `record` and `inputs` when the run ends.
    """
    provenance = {
        "format": FORMAT,
        "command": shlex.join(without_credentials(_portable_word(word)) for word in sys.argv),
        "seed": config.seed,
        "split_seed": config.data.split_seed,
        "data_sha256": digests.data,
        "split_sha256": dict(digests.splits),
        "git": code.git,
        "packages": {package.name: package.as_dict() for package in installed()},
        "machine": machine(),
        "torch": torch_state(),
        "variables": variables(),
        "callbacks_not_recorded": list(callbacks),
    }
    run.path(CONFIG).write_text(config.to_yaml(), encoding="utf-8")
    run.path(PATCH).write_bytes(code.patch)
    run.path(REQUIREMENTS).write_text(requirements(), encoding="utf-8")
    _write(run, provenance, code.with_loaded(run.store.folder))
    run.log_params(flatten(config.as_recorded()))
    run.log_inputs(data)
    commit = {} if code.git is None else {"mlflow.source.git.commit": str(code.git["commit"])}
    unrecorded = {"workbench.unrecorded": f"callbacks: {', '.join(callbacks)}"} if callbacks else {}
    run.set_tags({"workbench.data_sha256": digests.data, **commit, **unrecorded})


@contextmanager
def finished(run: TrackedRun, code: Code) -> Iterator[None]:
    """Completes the record at the end of the block: what the process has loaded, and whether that is what is kept.

    Tells an incomplete record on the terminal and in the tags `workbench.record` and `workbench.record_problems`. The
    tag `workbench.code_changed` names the files that have changed since the sweep or the run began.
    """
    try:
        yield
    finally:
        with uninterrupted():
            _finish(run, code)


def _finish(run: TrackedRun, code: Code) -> None:
    watch().run_ended = time.perf_counter()
    provenance = json.loads(run.path(PROVENANCE).read_text(encoding="utf-8"))
    if "code" not in provenance:
        return  # an earlier version has recorded the run, in another way
    state, problems = _write(run, provenance, code.with_loaded(run.store.folder))
    if state != "complete":
        more = [f"{len(problems) - _SHOWN} more"] if len(problems) > _SHOWN else []
        why = "; ".join([*problems[:_SHOWN], *more]) or "files were edited, and it is not known which version ran"
        LOG.warning(f"the record of {run.name} is {state}: {why}")
    changed = code.edited_since(code.began) if code.began else []
    told = {"workbench.record_problems": "; ".join(problems), "workbench.code_changed": ", ".join(changed)}
    run.set_tags({"workbench.record": state} | {name: text for name, text in told.items() if text})


def _write(run: TrackedRun, provenance: dict[str, Any], code: Code) -> tuple[str, list[str]]:
    """Writes provenance.json with what is known of the code; returns the state of the record, and its problems.

    The file is complete or not there, even if the process is killed meanwhile.
    """
    before = provenance.get("record", {"state": "complete", "problems": []})  # of an earlier process of this run
    problems = list(dict.fromkeys([*before["problems"], *code.known_problems, *code.disagreements()]))
    state = max(before["state"], code.state(problems), key=_STATES.index)
    loaded = {*provenance.get("code", {}).get("loaded", ()), *code.loaded()}
    provenance["code"] = code.as_dict() | {"loaded": sorted(loaded)}
    provenance["record"] = {"state": state, "problems": problems}
    provenance["inputs"] = merged(provenance.get("inputs"), inputs(code))
    new = run.path(PROVENANCE).with_suffix(".new")
    new.write_text(json.dumps(provenance, indent=2), encoding="utf-8")
    new.replace(run.path(PROVENANCE))
    if code.commit is None:
        run.path(SOURCES).write_bytes(to_zip(code.files))
    keep_bundle(run, code)
    return state, problems


def keep_bundle(run: TrackedRun, code: Code) -> None:
    """Adds the code to the artifacts of a run, if these are kept on a server."""
    if code.commit is not None and not run.store.is_local:
        CodeStore(run.store.folder).bundle(code.commit, run.path(CODE_BUNDLE))


def _portable_word(word: str) -> str:
    """Returns a word of the command line without the folder of the program, of the project or of the user."""
    option, equals, path = word.rpartition("=") if word.startswith("--") else ("", "", word)
    return f"{option}{equals}{portable(path)}" if Path(path).is_absolute() else word
