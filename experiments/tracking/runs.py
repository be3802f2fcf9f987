"""Lists the runs of a store, and finds the run that a user names."""

import contextlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from experiments.notebook import Shown, table
from experiments.tracking.store import Store
from lightning_modules import InputError
from lightning_modules.log import LOG
from lightning_modules.metrics import monitors, sign_of
from lightning_modules.showable import is_text

_PAGE = 1000
_SHOWN = ("val/accuracy", "test/accuracy")  # metrics in a table of runs
_NAMED = 20  # runs that a message names
_NEWEST = 50  # runs among which `latest` is looked for first
_ABOUT_OTHERS = {"reproduction", "evaluation"}  # kinds of runs that `latest` is not


@dataclass(frozen=True)
class RunSummary:
    """The facts about a run that lists and comparisons show."""

    run_id: str
    experiment_id: str
    name: str
    kind: str
    status: str
    outcome: str
    start_time: int  # milliseconds since 1970
    artifact_uri: str
    metrics: dict[str, float]
    params: dict[str, str]
    sweep: str = ""  # the name of the sweep or of the repeats that it belongs to
    parent_run_id: str = ""  # the run of these

    @property
    def is_own_task(self) -> bool:
        """Whether a LightningModule of the user's own was trained: only its code knows what the metrics mean."""
        return self.params.get("model.module", "null") != "null"

    @classmethod
    def of(cls, run: Run) -> "RunSummary":
        tags = run.data.tags
        metrics = {name: value for name, value in run.data.metrics.items() if not name.startswith("system/")}
        return cls(
            run_id=run.info.run_id,
            experiment_id=run.info.experiment_id,
            name=run.info.run_name,
            kind=tags.get("workbench.kind", ""),
            status=run.info.status,
            outcome=tags.get("workbench.outcome", ""),
            start_time=run.info.start_time,
            artifact_uri=run.info.artifact_uri,
            metrics=metrics,
            params=dict(run.data.params),
            sweep=tags.get("workbench.sweep", ""),
            parent_run_id=tags.get("mlflow.parentRunId", ""),
        )

    @property
    def started(self) -> datetime:
        """In local time."""
        return datetime.fromtimestamp(self.start_time / 1000)

    def as_dict(self) -> dict[str, Any]:
        return dict(vars(self))


class Runs(list[RunSummary], Shown):
    """A list of runs, which a notebook shows as a table."""

    def html_parts(self) -> list[str]:
        columns = ("run", "name", "kind", "outcome", "started", *_SHOWN)
        return [table(columns, [self._cells(run) for run in self])]

    def _cells(self, run: RunSummary) -> list[object]:
        scores = [run.metrics.get(name) for name in _SHOWN]
        return [run.run_id[:8], run.name, run.kind, run.outcome or run.status, f"{run.started:%Y-%m-%d %H:%M}", *scores]

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yields a row for each run, with all its params and metrics under their own names."""
        for run in self:
            facts = {"run_id": run.run_id, "name": run.name, "kind": run.kind, "status": run.status}
            yield {**facts, "outcome": run.outcome, "started": run.started, **run.params, **run.metrics}


def list_runs(
    store: Store,
    *,
    sweep: str | None = None,
    kind: str | None = None,
    status: str | None = None,
    since: datetime | None = None,
    filter_string: str = "",
    sort: str | None = None,
    limit: int | None = None,
) -> Runs:
    """Returns runs, newest first. `sort`: a metric; its best value comes first, and runs without it come last.

    `sweep`: only its trials and finalists. `status`: an outcome, or `running`. `filter_string`: a filter expression of
    MLflow. The database filters, sorts and limits, so finding a few runs among very many is fast.
    """
    clauses = [filter_string] if filter_string else []
    if sweep is not None:
        clauses.append(f"tags.`mlflow.parentRunId` = '{find_sweep(store, sweep).info.run_id}'")
    if kind is not None:
        clauses.append(f"tags.`workbench.kind` = {_quoted(kind)}")
    if status is not None:
        clauses.append(
            "attributes.status = 'RUNNING'" if status == "running" else f"tags.`workbench.outcome` = {_quoted(status)}"
        )
    if since is not None:
        clauses.append(f"attributes.start_time >= {int(since.timestamp() * 1000)}")
    try:
        order = [f"metrics.`{sort}` {_best_first(store, sort, clauses)}"] if sort else []
        return Runs(RunSummary.of(run) for run in _search(store, " and ".join(clauses), limit, order))
    except MlflowException as error:
        remedy = "write it as MLflow does: metrics.`val/accuracy` > 0.9 and params.`optimizer.kind` = 'sgd'"
        reason = str(error).splitlines()[0]
        raise InputError("--filter", filter_string, reason, remedy) from error


def _best_first(store: Store, name: str, clauses: Sequence[str]) -> Literal["ASC", "DESC"]:
    """Returns the order that puts a metric's best value first. The meaning of `value` depends on each run's monitor."""
    if name != "value":
        return "ASC" if sign_of(name) < 0 else "DESC"
    signs = {
        sign_of(monitor)
        for monitor in monitors()
        if _search(store, " and ".join([*clauses, f"params.`trainer.monitor` = '{monitor}'"]), 1)
    }
    if len(signs) > 1:
        remedy = "sort by one metric, such as val/accuracy, or narrow the list with --sweep or --filter"
        message = "the highest value is the best for some of these runs, and the lowest for others"
        raise InputError("--sort", name, message, remedy)
    return "ASC" if signs == {-1} else "DESC"


def parse_since(text: str, now: datetime) -> datetime:
    """Reads a time such as `2026-11-24` or `2026-11-24T18:30`, or an age such as `90m`, `12h`, `7d` or `2w`."""
    age = re.fullmatch(r"(\d+)([mhdw])", text)
    units = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
    try:
        return now - timedelta(**{units[age[2]]: int(age[1])}) if age else datetime.fromisoformat(text)
    except (ValueError, OverflowError) as error:
        raise InputError("--since", text, "is neither a time nor an age", "write 2026-11-24, 12h or 7d") from error


def find_sweep(store: Store, name: str) -> Run:
    """Returns the run of the sweep itself, or of the repeats of this name: the newest, but a sweep first.

    Raises InputError if there is neither.
    """
    _check_searchable("--sweep", name)
    for kind in ("sweep", "repeats"):
        found = _search(store, f"tags.`workbench.kind` = '{kind}' and tags.`workbench.sweep` = {_quoted(name)}", 1)
        if found:
            return found[0]
    raise InputError("--sweep", name, "no such sweep in this store", _to_list(store))


def resolve(store: Store, selector: str) -> list[RunSummary]:
    """Returns the runs for a RUN argument: an id, the unique start of one, a name, `latest`, SWEEP:champion|best|all.

    A name selects the newest run of that name; `latest` is no reproduction and no evaluation. Raises InputError if no
    run, or more than one id, matches.
    """
    _check_searchable("RUN", selector)
    sweep, colon, which = selector.rpartition(":")
    if colon and which in {"champion", "best", "all"}:
        if which == "all":
            return with_repeats(store, list_runs(store, sweep=sweep))
        listed = find_sweep(store, sweep).data.tags.get(f"workbench.{which}_run_ids")
        if not listed:
            raise InputError("RUN", selector, f"this sweep has no {which} yet", "wait until the sweep ends")
        return [RunSummary.of(store.client.get_run(run_id)) for run_id in json.loads(listed)]
    if selector == "latest":
        for limit in (_NEWEST, None):
            found = [run for run in map(RunSummary.of, _search(store, "", limit)) if run.kind not in _ABOUT_OTHERS]
            if found:
                return found[:1]
        remedy = f"to start one: {store.command('train', 'digits')}"
        raise InputError("RUN", selector, "the store has no runs", remedy)
    if re.fullmatch("[0-9a-f]{32}", selector):
        with contextlib.suppress(MlflowException):  # no such id: then it may be a name
            return [RunSummary.of(store.client.get_run(selector))]
    named = _search(store, f"attributes.run_name = {_quoted(selector)}", 1)
    if named:
        return [RunSummary.of(named[0])]
    if selector.isalnum():
        with_prefix = _search(store, f"attributes.run_id LIKE '{selector}%'", 2)
        if len(with_prefix) == 1:
            return [RunSummary.of(with_prefix[0])]
        if with_prefix:
            raise InputError("RUN", selector, "is the start of more than one run id", "give more characters of the id")
    raise InputError("RUN", selector, "no such run in this store", _to_list(store))


def _to_list(store: Store) -> str:
    return f"to list the runs: {store.command('runs')}"


def resolve_one(store: Store, selector: str) -> RunSummary:
    """Returns the run for a RUN argument; raises InputError unless it selects exactly one."""
    found = resolve(store, selector)
    if len(found) > 1:
        raise InputError("RUN", selector, f"selects {len(found)} runs", "give the id of one of them")
    return found[0]


def with_repeats(store: Store, runs: Sequence[RunSummary]) -> Runs:
    """Returns the runs; in place of a run of kind `repeats`, those that it stands for.

    An attempt that was interrupted or whose process died was repeated: it is left out.
    """
    found = Runs()
    for run in runs:
        if run.kind == "repeats":
            found += map(RunSummary.of, children(store, run.run_id, {}))
        else:
            found.append(run)
    return Runs(run for run in found if run.kind != "repeat" or run.outcome not in {"interrupted", "died"})


def resolve_trained(store: Store, selector: str) -> list[RunSummary]:
    """Like `resolve`, for what needs a model. Raises InputError for a run of repeats, which only stands for others."""
    found = resolve(store, selector)
    for run in found:
        if run.kind == "repeats":
            named = with_repeats(store, [run])[::-1]
            first = ", ".join(f"{each.run_id[:8]} ({each.name})" for each in named[:_NAMED])
            more = f" and {len(named) - _NAMED} more" if named[_NAMED:] else ""
            remedy = f"name one of them: {first}{more}" if named else "wait until it has some"
            raise InputError("RUN", selector, f"has no model of its own: it stands for {len(named)} runs", remedy)
    return found


def resolve_model(store: Store, selector: str) -> RunSummary:
    """Returns the run whose model a RUN argument names: of a champion the first seed's, which is also registered.

    Choosing the best seed would reward luck. Raises InputError if any other argument selects several runs, or repeats.
    """
    if not selector.endswith(":champion"):
        resolve_trained(store, selector)
        return resolve_one(store, selector)
    first, *others = resolve(store, selector)
    if others:
        LOG.info(f"{selector} has {1 + len(others)} seeds; the first one's model is used: {first.name}, {first.run_id}")
    return first


def children(store: Store, parent: str, tags: Mapping[str, str]) -> list[Run]:
    """Returns the child runs of the run `parent` that have these tags."""
    clauses = {"mlflow.parentRunId": parent, **tags}
    return _search(store, " and ".join(f"tags.`{name}` = '{value}'" for name, value in clauses.items()), None)


def find_runs(store: Store, filter_string: str) -> list[Run]:
    """Returns the runs that fit a filter expression of MLflow, newest first."""
    return _search(store, filter_string, None)


def _check_searchable(field: str, name: str) -> None:
    """Raises InputError for a name that no run can have, or that MLflow's filter language cannot express."""
    if not is_text(name) or {"'", '"'} <= set(name):
        message = "no run can be found by this name: it is not Unicode text, or has both kinds of quotes"
        raise InputError(field, name, message, "give the id")


def _quoted(text: str) -> str:
    """Quotes a string for MLflow's filter language, which has two kinds of quotes and no escapes."""
    return f'"{text}"' if "'" in text else f"'{text}'"


def _search(store: Store, filter_string: str, limit: int | None, order: Sequence[str] = ()) -> list[Run]:
    return store.persist(lambda: _read_pages(store, filter_string, limit, order))


def _read_pages(store: Store, filter_string: str, limit: int | None, order: Sequence[str]) -> list[Run]:
    experiments = [experiment.experiment_id for experiment in store.client.search_experiments()]
    runs: list[Run] = []
    token = None
    while True:
        wanted = _PAGE if limit is None else min(_PAGE, limit - len(runs))
        page = store.client.search_runs(
            experiments, filter_string, max_results=wanted, order_by=list(order), page_token=token
        )
        runs += page
        token = page.token
        if not token or len(runs) == limit:
            return runs
