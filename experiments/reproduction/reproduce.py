"""Runs a past run again and reports whether the result is the same; if not, where it first differs, and why."""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from scipy import stats

from experiments.artifact_names import REPRODUCTION, REQUIREMENTS
from experiments.code.kept import State
from experiments.code.recorded import Unpacked
from experiments.code.scratch import remove_leftovers, scratch_folder
from experiments.errors import Altered, CannotRun
from experiments.notebook import Shown, paragraph, table
from experiments.process.interrupts import interruptible
from experiments.provenance.checks import check
from experiments.provenance.record import Record, read_record
from experiments.reproduction.again import Rerunner
from experiments.reproduction.causes import Cause, Origins, causes
from experiments.reproduction.environments import other_files, recorded_python
from experiments.tracking.lifecycle import close_dead_runs
from experiments.tracking.store import Store
from experiments.training.trace import Difference, first_difference
from lightning_modules import InputError
from lightning_modules.log import LOG, say_once
from lightning_modules.metrics import find_metric

Verdict = Literal["bitwise", "within_tolerance", "different", "cannot_run", "record_altered"]
Metrics = Sequence[Mapping[str, Any]]  # name, recorded, reproduced

_RESTORE = "restore it from a backup, or start a new run"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How to run again: by default with the recorded code in today's environment.

    `rtol` is the relative tolerance of losses, `atol` the absolute tolerance of the other metrics that the workbench
    knows; one that it does not know may differ by either. Another order of summation (1 and 2 threads) moved losses by
    up to 0.036 and accuracies by up to 0.005 (docs/reproduce.md); 0.01 is also more than one image of the smallest val
    split, the 144 images of digits.
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
class RecordState:
    """Whether a run's record can be trusted: `complete`, `incomplete`, `altered`, or that is `unknown`.

    `problems` names it. `signed_by` is the key that signed the record.
    """

    state: State | Literal["altered"] = "unknown"
    problems: Sequence[str] = ()
    signed_by: str | None = None


@dataclass(frozen=True, kw_only=True)
class Reproduction(Shown):
    """The verdict on one run."""

    run_id: str
    reproduction_run_id: str | None
    verdict: Verdict
    first_difference: Difference | None = None
    causes: Sequence[Cause] = ()
    metrics: Metrics = ()  # at the last epoch compared, and on test
    explanations: Sequence[Mapping[str, Any]] = ()  # {suspect, restores: whether it alone makes the result equal}
    record: RecordState = RecordState()
    reason: str = ""  # why it cannot be run again, or is not run
    remedy: str = ""

    def as_dict(self) -> dict[str, Any]:
        document = asdict(self) | {"causes": [cause.as_dict() for cause in self.causes]}
        if self.verdict in ("cannot_run", "record_altered"):
            document["causes"] = [{"kind": self.verdict, "detail": self.reason}, *document["causes"]]
        return document

    def html_parts(self) -> list[str]:
        first = self.first_difference
        where = first and f"first difference: {' '.join(str(each) for each in (first.stage, first.epoch) if each)}"
        causes = [f"{cause.kind}: {cause.detail}" for cause in self.causes]
        texts = [f"{self.run_id[:8]}: {self.verdict}", self.reason, self.remedy, where or "", *causes]
        columns = ("metric", "recorded", "reproduced")
        numbers = [tuple(row[name] for name in ("name", *columns[1:])) for row in self.metrics]
        return [*(paragraph(text) for text in texts if text), *([table(columns, numbers)] if numbers else [])]

    def rows(self) -> Metrics:
        """Returns a row for each metric: its name, recorded and reproduced."""
        return self.metrics


def reproduce(store: Store, run_id: str, settings: Settings | None = None) -> Reproduction:
    """Runs `run_id` again in a scratch folder, as a run of kind `reproduction`; tags link the two both ways.

    A record that disagrees with itself is not run: its verdict is `record_altered`. Raises InputError if an override is
    wrong.
    """
    close_dead_runs(store)
    remove_leftovers(store.folder / "scratch")
    with interruptible(), scratch_folder(store.folder / "scratch") as scratch:
        state = RecordState()
        try:
            record = read_record(store, run_id, scratch / "recorded")
            state = _state(store, record)
            if state.state == "altered":
                return not_run(run_id, "; ".join(state.problems), _RESTORE, "record_altered", state)
            result = replace(_reproduce(store, record, settings or Settings(), scratch), record=state)
            _link(store, result)
            return result
        except (Altered, CannotRun) as error:
            close_dead_runs(store)  # closes a re-run that the system killed
            if isinstance(error, Altered):
                state = RecordState(state="altered", problems=[error.message])
                return not_run(run_id, error.message, _RESTORE, "record_altered", state)
            return not_run(run_id, error.message, error.remedy, "cannot_run", state)


def not_run(
    run_id: str, reason: str, remedy: str, verdict: Verdict = "cannot_run", state: RecordState = RecordState()
) -> Reproduction:
    """Returns the result for a run that was not run again."""
    return Reproduction(
        run_id=run_id, reproduction_run_id=None, verdict=verdict, record=state, reason=reason, remedy=remedy
    )


def _state(store: Store, record: Record) -> RecordState:
    """Holds the record against itself. Says once that runs of earlier versions have no seal."""
    checked = check(store, record)
    if not checked.is_sealed:
        say_once("some of these runs have no record.json: whether their artifacts were changed is not known")
    if checked.problems:
        return RecordState(state="altered", problems=checked.problems, signed_by=checked.signed_by)
    told = record.provenance.get("record", {"state": "unknown", "problems": []})
    return RecordState(state=told["state"], problems=told["problems"], signed_by=checked.signed_by)


def _reproduce(store: Store, record: Record, settings: Settings, scratch: Path) -> Reproduction:
    if record.epochs == 0:
        raise CannotRun("it ended before its first epoch was complete", "start a new run")
    epochs = min(record.epochs, settings.epochs or record.epochs)
    python = _python(store, record, settings)
    rerunner = Rerunner(store=store, record=record, epochs=epochs, python=python, scratch=scratch)
    with rerunner.code.unpacked() as recorded:
        if settings.code == "recorded":
            result = _Comparison(rerunner, recorded, recorded, settings).result()
        else:
            with rerunner.code.todays() as today:
                result = _Comparison(rerunner, recorded, today, settings).result()
    told = record.provenance.get("record", {})
    if told.get("state") == "incomplete" and result.verdict != "bitwise":
        reason = f"its record is incomplete: {'; '.join(told['problems'])}"
        return replace(result, verdict="cannot_run", reason=reason, remedy="start a new run")
    return result


def _python(store: Store, record: Record, settings: Settings) -> str:
    if settings.env == "today":
        return sys.executable
    requirements = (record.folder / REQUIREMENTS).read_text(encoding="utf-8")
    version = record.provenance["machine"]["python"]
    python = recorded_python(store.folder / "environments", version, requirements)
    if other := other_files(python, record.provenance["packages"]):
        LOG.warning(f"the package index gave other files than the record has: {', '.join(other)}")
    return str(python)


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
    recorded_code: Unpacked
    code: Unpacked  # the code to run
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
            Origins(record.run.data.params, record.provenance, code.root)
            for record, code in ((self.rerunner.record, self.recorded_code), (now, self.code))
        )
        found = causes(before, after)
        if not all(cause.is_harmless for cause in found):
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
        tests: list[tuple[str, Unpacked, dict[str, Any]]] = []
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
        """Returns whether the recorded val scores could come from one more seed: Student's 95 % prediction intervals.

        They hold together for all scores: each has the level 1 - 0.05 / their number (Bonferroni's correction). Hahn,
        G. J. (1969), Factors for calculating two-sided prediction intervals for samples from a normal
        distribution, JASA 64.
        """
        count = self.settings.seeds
        if count == 0:
            return False
        seed = int(self.rerunner.record.tree["seed"])
        fresh = [self.rerunner.run(self.code, {**self.settings.overrides, "seed": seed + 1 + i}) for i in range(count)]
        on_val = [line for line in metrics if line["name"].startswith("val/")]
        for line in on_val:
            scores = [now.scores(self.rerunner.epochs)[line["name"]] for now in fresh]
            quantile = stats.t.ppf(1 - 0.05 / (2 * len(on_val)), count - 1)
            reach = quantile * np.std(scores, ddof=1) * np.sqrt(1 + 1 / count)
            if not abs(line["recorded"] - np.mean(scores)) <= reach:
                return False
        return True


def _is_near(metrics: Metrics, *, rtol: float, atol: float) -> bool:
    """Returns whether every metric is near its recorded value: see `Settings`."""
    for line in metrics:
        metric = find_metric(line["name"])
        reach = {"rtol": rtol, "atol": atol}
        if metric is not None:
            reach["atol" if metric.is_relative else "rtol"] = 0.0
        if line["reproduced"] is None or not np.isclose(line["reproduced"], line["recorded"], equal_nan=True, **reach):
            return False
    return True
