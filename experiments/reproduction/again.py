"""Runs a recorded run again: its code in a scratch folder, in a new process with the recorded settings."""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.code.recorded import RecordedCode, Unpacked
from experiments.config import with_located_files
from experiments.errors import CannotRun
from experiments.provenance.machine import PLACE, changes_numbers, is_harmless
from experiments.provenance.record import Record, read_record
from experiments.recipe import with_overrides
from experiments.tracking.store import Store
from lightning_modules import InputError

# As in workbench/__init__.py: without garbage collection during its imports, a re-run starts in half the time.
_START = (
    "import atexit, gc, sys; gc.set_threshold(100_000); atexit.register(gc.freeze); "
    "from experiments.rerun import main; sys.exit(main())"
)


@dataclass(frozen=True, kw_only=True)
class Rerunner:
    """Runs a record again, as often as needed."""

    store: Store
    record: Record
    epochs: int  # how many to run
    python: str  # the interpreter, which also determines the packages
    scratch: Path  # for the artifacts of re-runs

    @property
    def code(self) -> RecordedCode:
        return RecordedCode(self.store.folder, self.record.provenance, self.record.folder)

    def run(
        self,
        code: Unpacked,
        overrides: Mapping[str, Any],
        *,
        variables: Mapping[str, str] = {},
        deterministic: bool = False,
    ) -> Record:
        """Returns the record of one re-run. Raises InputError for a wrong override, CannotRun for other failures."""
        record = self.record
        job = {
            "config": with_located_files(with_overrides(record.tree, overrides), [code.folder], is_recorded=True),
            "store": str(self.store.folder),
            "name": f"reproduction of {record.run.info.run_name}",
            "reproduces": record.run.info.run_id,
            "epochs": self.epochs,
            "read_test": record.reads_test and self.epochs == record.epochs,
            **({"deterministic": True} if deterministic else {}),
        }
        answer = _call(self.python, code.folder, {**self._environment(code), **variables}, job)
        if "run_id" in answer:
            return read_record(self.store, answer["run_id"], Path(tempfile.mkdtemp(dir=self.scratch)) / "again")
        message, remedy = answer["error"], answer.get("remedy", "see what the re-run printed")
        if "field" not in answer:
            raise CannotRun(message, remedy)
        if answer["field"] in overrides:
            raise InputError(answer["field"], answer["value"], message, remedy)
        if str(answer["field"]).startswith("data."):
            remedy += (
                ", if the data have changed or were moved since: restore them, or say where they are (--data.path)"
            )
        raise CannotRun(f"{answer['field']}: {message} (got {answer['value']!r})", remedy)

    def _environment(self, code: Unpacked) -> dict[str, str]:
        """Returns today's environment variables, but those that change numbers as recorded, if they are harmless."""
        kept = {k: v for k, v in os.environ.items() if k == PLACE or not (changes_numbers(k) or k.startswith("GIT_"))}
        recorded = self.record.provenance["variables"].items()
        kept |= {name: value for name, value in recorded if value is not None and is_harmless(name)}
        imports = list(map(str, code.imports))
        if self.python == sys.executable:  # another interpreter has its own packages
            imports += [str(Path(entry).absolute()) for entry in kept.get("PYTHONPATH", "").split(os.pathsep) if entry]
        above = {"GIT_CEILING_DIRECTORIES": str(self.store.folder)}  # git finds no repository above sources
        return kept | above | {"PYTHONPATH": os.pathsep.join(imports), "PYTHONDONTWRITEBYTECODE": "1"}


def _call(python: str, folder: Path, environment: Mapping[str, str], job: Mapping[str, Any]) -> dict[str, Any]:
    """Runs experiments/rerun.py of the code in `folder`; returns its answer. The child ends when this process does."""
    command = [python, "-c", _START]
    with subprocess.Popen(
        command, cwd=folder, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        try:
            with contextlib.suppress(BrokenPipeError):  # it ended at once, without an answer
                child.stdin.write(json.dumps(job) + "\n")
                child.stdin.flush()
            output = child.stdout.read()
            with contextlib.suppress(BrokenPipeError):
                child.stdin.close()
        except BaseException:
            child.terminate()
            raise
    lines = output.splitlines()
    if not lines:
        remedy = "see what it printed above; if packages are missing, add --env recorded"
        raise CannotRun(f"its code cannot be run (exit code {child.returncode})", remedy)
    answer: dict[str, Any] = json.loads(lines[-1])
    return answer
