"""Makes a run's model the champion under a registered name, if it is not worse than the champion that there is.

The test is that of `compare`: on the same test images, with the exact McNemar test and a paired 95 % interval of the
difference in accuracy. A candidate that is not better must be shown not to be worse by more than a margin (Piaggio et
al. 2012, Reporting of noninferiority trials, JAMA 308(24)): the lower end of the interval decides.
"""

from dataclasses import dataclass
from typing import Any

from mlflow.exceptions import MlflowException

from experiments.artifact_names import MODEL
from experiments.comparison.comparable import same_images, what_differs
from experiments.comparison.differences import read_provenances
from experiments.comparison.objective import Objective
from experiments.comparison.significance import accuracy_test, read_predictions
from experiments.dashboard.links import model_url, run_url, within
from experiments.results.artifacts import Artifacts
from experiments.results.listed_model import how_to_call, read_about
from experiments.tracking.registry import aliased_version, as_registered_name, register_model, registered_model
from experiments.tracking.runs import RunSummary
from experiments.tracking.store import Store
from lightning_modules import InputError
from lightning_modules.metrics import METRICS
from lightning_modules.showable import in_markdown

_ON_TEST = Objective(METRICS["accuracy"], "test")

Document = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Place:
    """The alias of a registered name, such as `champion`."""

    name: str
    alias: str


@dataclass(frozen=True, kw_only=True)
class _Decision:
    """Whether to promote, and why. `test`: the difference, its interval and its p-value, if there was a test."""

    promoted: bool
    reason: str
    test: Document | None = None


def default_name(store: Store, run: RunSummary) -> str:
    """Returns the registered name of a run: that of its sweep, or else its experiment's."""
    parent = store.client.get_run(run.run_id).data.tags.get("mlflow.parentRunId")
    if parent is not None and (above := RunSummary.of(store.client.get_run(parent))).kind == "sweep":
        return as_registered_name(above.name)
    return as_registered_name(store.client.get_experiment(run.experiment_id).name)


def promote(artifacts: Artifacts, run: RunSummary, place: Place, *, margin: float, is_forced: bool) -> Document:
    """Registers the run's model as a version, and points the alias at it, if it may be promoted. Returns

    - `promoted` and `reason`, which becomes the version's description; `version`: the run's, null if not promoted;
    - `name`, `alias`, `margin`, `run_id`; `champion`: {run_id, version} before, null if there was none;
    - `test`: {difference, ci95, p_value, images} of test accuracy, the run's minus the champion's; null without a test;
    - `dashboard_url`: the page of the version, or else of the run.

    Raises InputError if the run has no model or no predictions on test, or if, without `is_forced`, the test images of
    the two differ.
    """
    store = artifacts.store
    if not store.client.list_artifacts(run.run_id, MODEL):
        remedy = "name a run of `workbench train`, or of a sweep's champion"
        raise InputError("RUN", run.name, f"this {run.kind} kept no model", remedy)
    with store.lock("promotion"):
        champion = aliased_version(store, place.name, place.alias)
        decision = _decide(artifacts, run, champion and champion.run_id, place, margin, is_forced)
        version = None
        if champion is not None and champion.run_id == run.run_id:
            version = str(champion.version)
        elif decision.promoted:
            version = _register(store, run, place, decision)
    url = model_url(store, place.name, version) if version else run_url(store, run.experiment_id, run.run_id)
    return {
        "promoted": decision.promoted,
        "reason": decision.reason,
        "version": version,
        "name": place.name,
        "alias": place.alias,
        "margin": margin,
        "run_id": run.run_id,
        "champion": champion and {"run_id": champion.run_id, "version": str(champion.version)},
        "test": decision.test,
        "dashboard_url": url,
    }


def _decide(
    artifacts: Artifacts, run: RunSummary, champion_id: str | None, place: Place, margin: float, is_forced: bool
) -> _Decision:
    if champion_id is None:
        reason = f"{_called(run)} is the first {place.alias} of {place.name}: there was none to compare it with"
        return _Decision(promoted=True, reason=reason)
    if champion_id == run.run_id:
        return _Decision(promoted=True, reason=f"{_called(run)} is the {place.alias} of {place.name} already")
    try:
        test, reason, is_fit = _compared(artifacts, run, _read(artifacts.store, champion_id, place), margin)
    except InputError as error:
        if not is_forced:
            raise
        reason = f"promoted by --force, without a test: {_called(run)} {error.message}"
        return _Decision(promoted=True, reason=reason)
    if is_fit or not is_forced:
        return _Decision(promoted=is_fit, reason=reason, test=test)
    return _Decision(promoted=True, reason=f"promoted by --force, although {reason}", test=test)


def _called(run: RunSummary) -> str:
    return f"{run.name} ({run.run_id[:8]})"


def _read(store: Store, run_id: str, place: Place) -> RunSummary:
    try:
        return RunSummary.of(store.client.get_run(run_id))
    except MlflowException as error:
        message = f"the run {run_id[:8]} of the {place.alias} of {place.name} cannot be read"
        raise InputError("--alias", place.alias, message, "add --force to replace it without a test") from error


def _compared(artifacts: Artifacts, run: RunSummary, champion: RunSummary, margin: float) -> tuple[Document, str, bool]:
    """Returns the test, what it says, and whether the run is better, or not worse by more than the margin."""
    parts = same_images(read_provenances(artifacts, [run, champion]), "test")
    if len(parts) != 1 or len(parts[0]) != 2:
        differ = what_differs(parts, "test") if len(parts) > 1 else "not both have a provenance.json"
        message = f"cannot be compared with the champion {_called(champion)} on the same test images: {differ}"
        remedy = "train it on the champion's data, or add --force to promote it without a test"
        raise InputError("RUN", run.name, message, remedy)
    first, second = (read_predictions(artifacts, each, "test") for each in (run, champion))
    if first is None or second is None:
        lacks = _called(run if first is None else champion)
        message = f"cannot be compared with the champion: {lacks} has no predictions on test images"
        raise InputError("RUN", run.name, message, "add --force to promote it without a test")
    tested = accuracy_test((run.run_id, champion.run_id), first, second, _ON_TEST)
    found = tested.found
    (low, high), images = found.ci95, len(first.target)
    is_better = found.is_distinguishable(found.p_value) and found.difference > 0
    is_fit = is_better or low > -margin
    one, other = _called(run), f"the champion {_called(champion)}"
    if is_better:
        verdict = f"{one} is better than {other}"
    elif is_fit:
        verdict = f"{one} is not worse than {other} by more than {margin:g}"
    elif found.is_distinguishable(found.p_value):
        verdict = f"{one} is worse than {other}"
    else:
        verdict = f"{one} may be worse than {other} by more than {margin:g}"
    reason = (
        f"{verdict}: test accuracy differs by {found.difference:+.4f} [{low:+.4f}, {high:+.4f}] on "
        f"{images:,} images, p = {found.p_value:.2g} ({tested.name})"
    )
    test = {"difference": found.difference, "ci95": [low, high], "p_value": found.p_value, "images": images}
    return test, reason, is_fit


def _register(store: Store, run: RunSummary, place: Place, decision: _Decision) -> str:
    """Registers the version; what the name is about stays as it is if it has been said."""
    uri = f"models:/{place.name}@{place.alias}"
    to_call = how_to_call(uri, read_about(store, run.run_id))
    known = registered_model(store, place.name)
    about = f"Models that `workbench promote` has compared with the {in_markdown(place.alias)} before them."
    page = within(run_url(store, run.experiment_id, run.run_id))
    return register_model(
        store,
        run.run_id,
        name=place.name,
        alias=place.alias,
        about=(known.description if known else "") or f"{about}\n\n{to_call}",
        description="\n\n".join([in_markdown(decision.reason), to_call, f"[The run that trained it]({page})"]),
        tags={"workbench.promoted": "by --force" if "--force" in decision.reason else "by test"},
    )
