"""Runs a past run again and reports whether the result is the same; if not, where it first differs, and why."""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from scipy import stats

from experiments.artifact_names import REPRODUCTION, REQUIREMENTS
from experiments.errors import CannotRun
from experiments.process.interrupts import interruptible
from experiments.provenance.record import Record, read_record
from experiments.provenance.worktree import remove_leftovers, scratch_folder
from experiments.reproduction.again import Code, Rerunner
from experiments.reproduction.causes import HARMLESS_KINDS, Cause, Origins, causes
from experiments.reproduction.environments import recorded_python
from experiments.tracking.lifecycle import close_dead_runs
from experiments.tracking.store import Store
from experiments.training.trace import Difference, first_difference
from lightning_modules import InputError
from lightning_modules.metrics import find_metric

Verdict = Literal["bitwise", "within_tolerance", "different", "cannot_run"]
Metrics = Sequence[Mapping[str, Any]]  # name, recorded, reproduced


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How to run again: by default with the recorded code in today's environment.

    `rtol` is the relative tolerance of losses, `atol` the absolute tolerance of all other metrics. Another order of
    summation (1 and 2 threads) moved losses by up to 0.036 and accuracies by up to 0.005 (docs/reproduce.md); 0.01 is
    also more than one image of the smallest val split, the 144 images of digits.
    """

    code: Literal["recorded", "today"] = "recorded"
    env: Literal["recorded", "today"] = "today"
    overrides: Mapping[str, Any] = field(default_factory=dict)  # {dotted config field: value}, to see its effect
    epochs: int | None = None  # how many to run; None: all
    rtol: float = 0.05
    atol: float = 0.01
    seeds: int = 0  # how many fresh seeds give the spread that a difference is compared with
    explain: bool = False  # whether to test suspects one at a time

    def __post_init__(self) -> None:
        if self.seeds == 1:
            raise InputError("--seeds", self.seeds, "one seed has no spread", "give 2 or more")


@dataclass(frozen=True, kw_only=True)
class Reproduction:
    """The verdict on one run."""

    run_id: str
    reproduction_run_id: str | None
    verdict: Verdict
    first_difference: Difference | None = None
    causes: Sequence[Cause] = ()
    metrics: Metrics = ()  # at the last epoch compared, and on test
    explanations: Sequence[Mapping[str, Any]] = ()  # {suspect, restores: whether it alone makes the result equal}
    reason: str = ""  # why it cannot be run again
    remedy: str = ""

    def as_dict(self) -> dict[str, Any]:
        document = asdict(self)
        if self.verdict == "cannot_run":
            document["causes"] = [{"kind": "cannot_run", "detail": self.reason}]
        return document


def reproduce(store: Store, run_id: str, settings: Settings) -> Reproduction:
    """Runs `run_id` again in a scratch checkout, as a run of kind `reproduction`; tags link the two both ways.

    Raises InputError if an override is wrong.
    """
    close_dead_runs(store)
    remove_leftovers(store.folder / "scratch")
    with interruptible(), scratch_folder(store.folder / "scratch") as scratch:
        try:
            result = _reproduce(store, read_record(store, run_id, scratch / "recorded"), settings, scratch)
        except CannotRun as error:
            close_dead_runs(store)  # closes a re-run that the system killed
            return Reproduction(
                run_id=run_id,
                reproduction_run_id=None,
                verdict="cannot_run",
                reason=error.message,
                remedy=error.remedy,
            )
        _link(store, result)
        return result


def _reproduce(store: Store, record: Record, settings: Settings, scratch: Path) -> Reproduction:
    if record.epochs == 0:
        raise CannotRun("it ended before its first epoch was complete", "start a new run")
    epochs = min(record.epochs, settings.epochs or record.epochs)
    python = _python(store, record, settings)
    rerunner = Rerunner(store=store, record=record, epochs=epochs, python=python, scratch=scratch)
    with rerunner.recorded_code() as recorded:
        if settings.code == "recorded":
            return _Comparison(rerunner, recorded, recorded, settings).result()
        with rerunner.todays_code() as today:
            return _Comparison(rerunner, recorded, today, settings).result()


def _python(store: Store, record: Record, settings: Settings) -> str:
    if settings.env == "today":
        return sys.executable
    requirements = (record.folder / REQUIREMENTS).read_text(encoding="utf-8")
    version = record.provenance["machine"]["python"]
    return str(recorded_python(store.folder / "environments", version, requirements))


def _link(store: Store, result: Reproduction) -> None:
    assert result.reproduction_run_id is not None
    document = json.loads(json.dumps(result.as_dict()), parse_constant=lambda _: None)  # JSON has no NaN
    store.client.set_tag(result.reproduction_run_id, "workbench.verdict", result.verdict)
    store.client.log_dict(result.reproduction_run_id, document, REPRODUCTION)
    store.client.set_tag(result.run_id, "workbench.reproduced_by", result.reproduction_run_id)


@dataclass(frozen=True)
class _Comparison:
    """Compares a record with its re-runs."""

    rerunner: Rerunner
    recorded_code: Code
    code: Code  # the code to run
    settings: Settings

    def result(self) -> Reproduction:
        settings = self.settings
        now = self.rerunner.run(self.code, settings.overrides)
        difference = self._difference(now)
        metrics = self._metrics(now)
        verdict: Verdict = "bitwise"
        if difference is not None:
            is_near = _is_near(metrics, rtol=settings.rtol, atol=settings.atol) or self._is_in_spread(metrics)
            verdict = "within_tolerance" if is_near else "different"
        return Reproduction(
            run_id=self.rerunner.record.run.info.run_id,
            reproduction_run_id=now.run.info.run_id,
            verdict=verdict,
            first_difference=difference,
            causes=self._causes(now) if difference else (),
            metrics=metrics,
            explanations=self._explanations() if difference and settings.explain else (),
        )

    def _difference(self, now: Record) -> Difference | None:
        return first_difference(self.rerunner.record.until(self.rerunner.epochs), now.trace)

    def _metrics(self, now: Record) -> Metrics:
        before, after = self.rerunner.record.scores(self.rerunner.epochs), now.scores(self.rerunner.epochs)
        return [{"name": name, "recorded": before[name], "reproduced": after.get(name)} for name in sorted(before)]

    def _causes(self, now: Record) -> list[Cause]:
        """Returns what differs; if all of it may be harmless, also tests whether two re-runs differ from each other."""
        before, after = (
            Origins(record.run.data.params, record.provenance, code.folder, record.edited)
            for record, code in ((self.rerunner.record, self.recorded_code), (now, self.code))
        )
        found = causes(before, after)
        if any(cause.kind not in HARMLESS_KINDS for cause in found):
            return found
        between = first_difference(now.trace, self.rerunner.run(self.code, self.settings.overrides).trace)
        if between is not None:
            where = f"epoch {between.epoch}" if between.epoch else between.stage
            detail = f"an operation is not deterministic: two re-runs first differ at {where}"
            return [Cause("nondeterminism", detail), *found]
        detail = "nothing that was recorded differs, and two re-runs agree with each other"
        return found or [Cause("environment", detail)]

    def _explanations(self) -> list[dict[str, Any]]:
        """Tests suspects one at a time, until one makes the result equal to the record."""
        given, recorded = self.settings.overrides, self.rerunner.record.run.data.params
        tests: list[tuple[str, Code, dict[str, Any]]] = []
        for name in given:
            others = {other: value for other, value in given.items() if other != name}
            tests.append((f"{name} as recorded ({recorded.get(name)})", self.code, {"overrides": others}))
        if self.code is not self.recorded_code:
            tests.append(("code as recorded", self.recorded_code, {"overrides": given}))
        mkl = {"MKL_CBWR": "AVX2,STRICT"}
        tests.append(("deterministic algorithms", self.code, {"overrides": given, "deterministic": True}))
        tests.append(("MKL_CBWR=AVX2,STRICT", self.code, {"overrides": given, "variables": mkl}))
        explanations: list[dict[str, Any]] = []
        for suspect, code, options in tests:
            restores = self._difference(self.rerunner.run(code, **options)) is None
            explanations.append({"suspect": suspect, "restores": restores})
            if restores:
                break
        return explanations

    def _is_in_spread(self, metrics: Metrics) -> bool:
        """Returns whether the recorded val scores could come from one more seed: Student's 95 % prediction interval.

        Hahn, G. J. (1969), Factors for calculating two-sided prediction intervals for samples from a normal
        distribution, JASA 64.
        """
        count = self.settings.seeds
        if count == 0:
            return False
        seed = int(self.rerunner.record.tree["seed"])
        fresh = [self.rerunner.run(self.code, {**self.settings.overrides, "seed": seed + 1 + i}) for i in range(count)]
        for line in metrics:
            if line["name"].startswith("val/"):
                scores = [now.scores(self.rerunner.epochs)[line["name"]] for now in fresh]
                reach = stats.t.ppf(0.975, count - 1) * np.std(scores, ddof=1) * np.sqrt(1 + 1 / count)
                if not abs(line["recorded"] - np.mean(scores)) <= reach:
                    return False
        return True


def _is_near(metrics: Metrics, *, rtol: float, atol: float) -> bool:
    """Returns whether every metric is near its recorded value: a loss within `rtol`, any other metric within `atol`."""
    for line in metrics:
        metric = find_metric(line["name"])
        is_relative = metric is not None and metric.is_relative
        reach = {"rtol": rtol, "atol": 0.0} if is_relative else {"rtol": 0.0, "atol": atol}
        if line["reproduced"] is None or not np.isclose(line["reproduced"], line["recorded"], equal_nan=True, **reach):
            return False
    return True
