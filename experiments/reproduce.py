"""Runs a past run again, as it was, and tells whether the result is the same; if not, where it parts and why."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from scipy import stats

from experiments.causes import Cause, Origins, causes
from experiments.config import flatten
from experiments.environments import CannotInstall, recorded_python
from experiments.interrupts import interruptible
from experiments.machine import variables
from experiments.provenance import PROJECT
from experiments.recipe import read_recipe, with_overrides
from experiments.source import find_checkout
from experiments.store import Store
from experiments.trace import Difference, Line, first_difference, read_trace
from experiments.tracking import close_dead_runs
from experiments.worktree import CannotCheckOut, checkout, remove_leftovers, unpack

Verdict = Literal["bitwise", "within_tolerance", "different", "cannot_run"]
_ARTIFACTS = ("config.yaml", "provenance.json", "uncommitted.patch", "requirements.txt", "sources.zip", "trace.jsonl")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How to run again: with the recorded code in today's environment, unless told otherwise.

    `rtol` is how far losses may be apart, relative; `atol` how far accuracies may, absolute. Both defaults are what
    another order of summation does to the recipes here (docs/reproduce.md), and the latter is about the standard error
    of an accuracy of 0.9 on 3,600 images, sqrt(0.9 * 0.1 / 3600).
    """

    code: Literal["recorded", "today"] = "recorded"
    env: Literal["recorded", "today"] = "today"
    overrides: Mapping[str, Any] = field(default_factory=dict)  # dotted config fields, to see what they change
    epochs: int | None = None  # only the first so many
    rtol: float = 0.05
    atol: float = 0.005
    seeds: int = 0  # fresh seeds whose spread a difference is held against
    explain: bool = False  # test suspects one at a time


@dataclass(frozen=True, kw_only=True)
class Reproduction:
    """The verdict on one run."""

    run_id: str
    reproduction_run_id: str | None
    verdict: Verdict
    first_difference: Difference | None = None
    causes: Sequence[Cause] = ()
    metrics: Sequence[Mapping[str, Any]] = ()  # name, recorded, reproduced; of the last epoch compared, and of test
    explanations: Sequence[Mapping[str, Any]] = ()  # suspect, restores: whether it alone makes the result equal
    reason: str = ""  # why it cannot run
    remedy: str = ""

    def as_dict(self) -> dict[str, Any]:
        document = asdict(self)
        if self.verdict == "cannot_run":
            document["causes"] = [{"kind": "cannot_run", "detail": self.reason}]
        return document


class CannotRun(Exception):
    """The recorded run cannot be run again; the message says why, `remedy` what to do."""

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(f"{message}; {remedy}")
        self.message, self.remedy = message, remedy


@dataclass(frozen=True, kw_only=True)
class _Record:
    """What a run left of itself."""

    run: Run
    folder: Path  # of its artifacts, as far as they are needed here
    tree: Mapping[str, Any]  # the fields of its configuration
    provenance: Mapping[str, Any]
    trace: Sequence[Line]

    @property
    def epochs(self) -> int:
        return sum(line["stage"] == "epoch" for line in self.trace)

    def metrics(self, epochs: int) -> dict[str, float]:
        """Scores of the last of so many epochs, and of test where it was read after that one."""
        line = [line for line in self.trace if line.get("epoch", 0) <= epochs][-1]
        scores = {name: float.fromhex(value) for name, value in line.get("metrics", {}).items()}
        test = {name: value for name, value in self.run.data.metrics.items() if name.startswith("test/")}
        return scores | (test if epochs == self.epochs else {})


def reproduce(store: Store, run_id: str, settings: Settings) -> Reproduction:
    """Runs `run_id` again in a scratch checkout, as a run of kind `reproduction` that is linked with it both ways."""
    with tempfile.TemporaryDirectory() as scratch, interruptible():
        close_dead_runs(store)
        remove_leftovers(store.folder / "scratch")
        try:
            record = _read(store, run_id, Path(scratch) / "recorded")
            return _Again(store, record, settings, Path(scratch)).verdict()
        except (CannotRun, CannotCheckOut, CannotInstall) as error:
            return Reproduction(
                run_id=run_id,
                reproduction_run_id=None,
                verdict="cannot_run",
                reason=error.message,
                remedy=error.remedy,
            )


def _read(store: Store, run_id: str, folder: Path) -> _Record:
    run = store.client.get_run(run_id)
    if run.info.status == "RUNNING":
        raise CannotRun("it still runs", "wait until it has ended")
    folder.mkdir()
    held = {artifact.path for artifact in store.client.list_artifacts(run_id)}
    try:
        for name in held.intersection(_ARTIFACTS):
            store.client.download_artifacts(run_id, name, str(folder))
        tree = read_recipe(folder / "config.yaml")
        provenance = json.loads((folder / "provenance.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, MlflowException) as error:
        kind = run.data.tags.get("workbench.kind", "run")
        remedy = "name a run of its own, such as SWEEP:champion" if kind == "sweep" else "run it anew"
        raise CannotRun(f"this {kind} holds no complete record of itself: {error}", remedy) from error
    if "packages" not in provenance:
        raise CannotRun("it was recorded by an earlier version of the workbench", "run it anew")
    return _Record(run=run, folder=folder, tree=tree, provenance=provenance, trace=read_trace(folder / "trace.jsonl"))


class _Again:
    """One record, run again as often as the settings ask."""

    def __init__(self, store: Store, record: _Record, settings: Settings, scratch: Path) -> None:
        self.store, self.record, self.settings, self.scratch = store, record, settings, scratch
        self.epochs = min(record.epochs, settings.epochs or record.epochs)
        if self.epochs == 0:
            raise CannotRun("it ended before its first epoch did", "run it anew")
        self.trace = [line for line in record.trace if line.get("epoch", 0) <= self.epochs]

    def verdict(self) -> Reproduction:
        record, settings = self.record, self.settings
        with self._recorded_code() as recorded_code, self._code(recorded_code) as code:
            python = self._python()
            again = self._run(code, python, settings.overrides)
            difference = first_difference(self.trace, again.trace)
            found: list[Cause] = []
            explanations: list[dict[str, Any]] = []
            if difference is not None:
                found = self._causes(recorded_code, code, again)
                if not found:
                    found = [self._unexplained(again, self._run(code, python, settings.overrides))]
                if settings.explain:
                    explanations = self._explain(code, python)
            metrics = self._metrics(again)
            verdict: Verdict = "bitwise" if difference is None else "different"
            if difference is not None and (self._is_near(metrics) or self._is_in_spread(code, python, metrics)):
                verdict = "within_tolerance"
        result = Reproduction(
            run_id=record.run.info.run_id,
            reproduction_run_id=again.run.info.run_id,
            verdict=verdict,
            first_difference=difference,
            causes=found,
            metrics=metrics,
            explanations=explanations,
        )
        self._link(result)
        return result

    @contextmanager
    def _recorded_code(self) -> Iterator[Path]:
        """The code as it was, and, where it was elsewhere, the user's own network."""
        folder, git = self.record.folder, self.record.provenance["git"]
        sources = folder / "sources.zip"
        scratch = self.store.folder / "scratch"
        if git is None:
            if not sources.exists():
                raise CannotRun("neither a commit nor a copy of its code was recorded", "run it anew in a git checkout")
            with unpack(scratch, sources) as code:
                yield code
            return
        with checkout(scratch, PROJECT, git["commit"], (folder / "uncommitted.patch").read_bytes()) as code:
            if sources.exists():
                with unpack(scratch, sources) as kept:
                    for path in kept.rglob("*"):
                        if path.is_file():
                            (code / path.relative_to(kept)).parent.mkdir(parents=True, exist_ok=True)
                            (code / path.relative_to(kept)).write_bytes(path.read_bytes())
            yield code

    @contextmanager
    def _code(self, recorded: Path) -> Iterator[Path]:
        """The code to run: the recorded, or a copy of today's."""
        if self.settings.code == "recorded":
            yield recorded
            return
        today = find_checkout(PROJECT, self.store.folder)
        if today is None:
            yield PROJECT
            return
        with checkout(self.store.folder / "scratch", PROJECT, today.commit, today.patch) as code:
            yield code

    def _python(self) -> str:
        if self.settings.env == "today":
            return sys.executable
        requirements = (self.record.folder / "requirements.txt").read_text(encoding="utf-8")
        version = self.record.provenance["machine"]["python"]
        return str(recorded_python(self.store.folder / "environments", version, requirements))

    def _run(
        self,
        code: Path,
        python: str,
        overrides: Mapping[str, Any],
        *,
        variable: Mapping[str, str] = {},
        deterministic: bool = False,
    ) -> _Record:
        """One re-run in a process of its own, as what it left of itself."""
        whole = self.epochs == self.record.epochs
        job = {
            "config": with_overrides(self.record.tree, overrides),
            "store": str(self.store.folder),
            "name": f"reproduction of {self.record.run.info.run_name}",
            "reproduces": self.record.run.info.run_id,
            "epochs": self.epochs,
            "read_test": whole and any(name.startswith("test/") for name in self.record.run.data.metrics),
            **({"deterministic": True} if deterministic else {}),
        }
        answer = _call(python, code, {**self._environment(code), **variable}, job)
        if "run_id" not in answer:
            raise CannotRun(answer["error"], answer.get("remedy") or "see what the re-run printed")
        return _read(self.store, answer["run_id"], Path(tempfile.mkdtemp(dir=self.scratch)) / "again")

    def _environment(self, code: Path) -> dict[str, str]:
        """Today's variables, those that change numbers as they were recorded."""
        recorded = {name: value for name, value in self.record.provenance["variables"].items() if value is not None}
        kept = {k: v for k, v in os.environ.items() if k not in variables() and not k.startswith("GIT_")}
        if self.settings.code == "today" and (folder := self.record.provenance["network_folder"]):
            user = folder
        else:
            user = str(code / "user")
        above = {"GIT_CEILING_DIRECTORIES": str(self.store.folder)}  # a copy of sources is no part of a repository
        path = os.pathsep.join(filter(None, [kept.get("PYTHONPATH"), user]))
        return kept | recorded | {"PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1", **above}

    def _causes(self, recorded_code: Path, code: Path, again: _Record) -> list[Cause]:
        before = Origins(config=flatten(self.record.tree), provenance=self.record.provenance, code=recorded_code)
        return causes(before, Origins(config=flatten(again.tree), provenance=again.provenance, code=code))

    def _unexplained(self, again: _Record, once_more: _Record) -> Cause:
        between = first_difference(again.trace, once_more.trace)
        if between is None:
            return Cause("environment", "nothing that is recorded differs, and two re-runs agree with each other")
        where = f"epoch {between.epoch}" if between.epoch else between.stage
        return Cause("nondeterminism", f"an operation gives other numbers each time: two re-runs part at {where}")

    def _explain(self, code: Path, python: str) -> list[dict[str, Any]]:
        """Suspects one at a time, until one makes the result equal to the record."""
        given = self.settings.overrides
        recorded = flatten(self.record.tree)
        tests: list[tuple[str, dict[str, Any]]] = [
            (f"{name} as recorded ({recorded.get(name)})", {"overrides": {k: v for k, v in given.items() if k != name}})
            for name in given
        ]
        tests += [
            ("deterministic algorithms", {"overrides": given, "deterministic": True}),
            ("MKL_CBWR=AVX2,STRICT", {"overrides": given, "variable": {"MKL_CBWR": "AVX2,STRICT"}}),
        ]
        explanations: list[dict[str, Any]] = []
        for suspect, options in tests:
            again = self._run(code, python, **options)
            restores = first_difference(self.trace, again.trace) is None
            explanations.append({"suspect": suspect, "restores": restores})
            if restores:
                break
        return explanations

    def _metrics(self, again: _Record) -> list[dict[str, Any]]:
        recorded, now = self.record.metrics(self.epochs), again.metrics(self.epochs)
        return [{"name": name, "recorded": recorded[name], "reproduced": now.get(name)} for name in sorted(recorded)]

    def _is_near(self, metrics: Sequence[Mapping[str, Any]]) -> bool:
        """Whether every metric is within the tolerance."""
        return all(
            line["reproduced"] is not None
            and np.isclose(line["reproduced"], line["recorded"], equal_nan=True, **self._tolerance(line["name"]))
            for line in metrics
        )

    def _tolerance(self, metric: str) -> dict[str, float]:
        is_loss = metric.endswith("/loss")
        return {"rtol": self.settings.rtol, "atol": 0.0} if is_loss else {"rtol": 0.0, "atol": self.settings.atol}

    def _is_in_spread(self, code: Path, python: str, metrics: Sequence[Mapping[str, Any]]) -> bool:
        """Whether the recorded validation scores could be those of one more seed: Student's 95 % prediction interval.

        Hahn, G. J. (1969), Factors for calculating two-sided prediction intervals for samples from a normal
        distribution, JASA 64.
        """
        count = self.settings.seeds
        if count < 2:
            return False
        seed = int(self.record.tree["seed"])
        fresh = [self._run(code, python, {**self.settings.overrides, "seed": seed + 1 + i}) for i in range(count)]
        for line in metrics:
            if line["name"].startswith("val/"):
                scores = [again.metrics(self.epochs)[line["name"]] for again in fresh]
                reach = stats.t.ppf(0.975, count - 1) * np.std(scores, ddof=1) * np.sqrt(1 + 1 / count)
                if not abs(line["recorded"] - np.mean(scores)) <= reach:
                    return False
        return True

    def _link(self, result: Reproduction) -> None:
        assert result.reproduction_run_id is not None
        client = self.store.client
        client.set_tag(result.reproduction_run_id, "workbench.verdict", result.verdict)
        client.log_dict(result.reproduction_run_id, result.as_dict(), "reproduction.json")
        client.set_tag(result.run_id, "workbench.reproduced_by", result.reproduction_run_id)


def _call(python: str, code: Path, environment: Mapping[str, str], job: Mapping[str, Any]) -> dict[str, Any]:
    """Runs experiments/rerun.py of the code in `code`; its answer. The child ends when this process does."""
    command = [python, "-m", "experiments.rerun"]
    with subprocess.Popen(
        command, cwd=code, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        try:
            child.stdin.write(json.dumps(job) + "\n")
            child.stdin.flush()
            said = child.stdout.read()
        except BrokenPipeError:
            said = ""
        except BaseException:
            child.terminate()
            raise
        child.stdin.close()
    lines = said.splitlines()
    if not lines:
        raise CannotRun(f"the recorded code cannot be run (exit code {child.returncode})", "see what it printed above")
    answer: dict[str, Any] = json.loads(lines[-1])
    return answer
