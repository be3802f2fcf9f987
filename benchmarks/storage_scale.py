"""What one PostgreSQL server can carry as a sweep's storage: many workers, many trials, and no training."""

import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import sqlalchemy

from benchmarks.postgres import Postgres
from experiments import Store
from experiments.databases.postgres import checked_url
from sweeps import load_sweep
from sweeps.study.search import Search
from sweeps.study.stage import settle

WORKERS = (1, 2, 4, 8, 16)
TRIALS = (1_000, 10_000, 100_000)  # in one study
_DRAWN = 100  # trials that a sampler draws; the others of a large study are copies of them
_ASKED = 20  # trials whose median time is reported


def measure(workers: Sequence[int] = WORKERS, trials: Sequence[int] = TRIALS, seconds: float = 20) -> dict[str, Any]:
    """Trials per minute for each number of workers; milliseconds to take the next trial for each number of trials.

    Server and workers share this machine. A trial does what sweeps.study does in a real one: it takes a slot under the
    sweep's lock, draws parameters at random, reports three values, and settles the trial.
    """
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as scratch:
        server = Postgres(Path(folder))
        try:
            rates = {str(count): _rate(server.create(f"workers{count}"), scratch, count, seconds) for count in workers}
            asking = {
                kind: {str(n): _asking(server.create(f"{kind}{n}"), scratch, kind, n) for n in trials}
                for kind in ("random", "tpe")
            }
        finally:
            server.stop()
    return {"name": "PostgreSQL on loopback", "trials_a_minute": rates, "asking": asking, "seconds": seconds}


def _rate(url: str, scratch: str, workers: int, seconds: float) -> float:
    """Trials per minute, of all workers together."""
    processes = multiprocessing.get_context("spawn")
    start, counted = processes.Barrier(workers), processes.Queue()
    arguments = (url, scratch, start, seconds, counted)
    started = [processes.Process(target=_worker, args=arguments) for _ in range(workers)]
    for process in started:
        process.start()
    done = sum(counted.get() for _ in started)
    for process in started:
        process.join()
    rate = 60 * done / seconds
    print(f"{workers} workers: {rate:,.0f} trials a minute", flush=True)
    return rate


def _worker(url: str, scratch: str, start: Any, seconds: float, counted: Any) -> None:
    with _open(url, scratch, "random") as search:
        _trial(search)  # the first trial of a process takes longer
        start.wait()
        end, done = time.monotonic() + seconds, 0
        while time.monotonic() < end:
            _trial(search)
            done += 1
    counted.put(done)


def _asking(url: str, scratch: str, sampler: str, trials: int) -> dict[str, float]:
    """Milliseconds to take a trial: `first` of a process, which reads all trials; `next`, the median of later ones."""
    with _open(url, scratch, sampler) as search:
        for _ in range(_DRAWN):
            _trial(search)
    _multiply(url, trials)
    with _open(url, scratch, sampler) as search:
        first, *later = (_trial(search) for _ in range(1 + _ASKED))
    told = {"first": 1000 * first, "next": 1000 * statistics.median(later)}
    print(f"{sampler}, {trials:,} trials: first {told['first']:,.0f} ms, next {told['next']:,.1f} ms", flush=True)
    return told


def _open(url: str, scratch: str, sampler: str) -> AbstractContextManager[Search]:
    overrides = {"sampler.kind": sampler, "pruner.kind": "none", "budget.trials": 10_000_000, "storage": url}
    return Search.open(Store.open(scratch), load_sweep("digits", overrides), "data")


def _trial(search: Search) -> float:
    """Runs one trial, and returns the seconds that it took to get it."""
    start = time.perf_counter()
    claim = search.claim()
    taken = time.perf_counter() - start
    assert claim is not None
    for epoch in range(1, 4):
        claim.trial.report(claim.seed / 2**32, step=epoch)
    settle(search.study, claim.trial, "finished", value=claim.seed / 2**32)
    return taken


def _multiply(url: str, trials: int) -> None:
    """Fills the study with copies of its trials until it has `trials` of them; each copy has a slot of its own."""
    columns = {
        "trial_params": "param_name, param_value, distribution_json",
        "trial_values": "objective, value, value_type",
        "trial_intermediate_values": "step, intermediate_value, intermediate_value_type",
        "trial_user_attributes": "key, value_json",
    }
    engine = sqlalchemy.create_engine(checked_url(url, "storage"))
    with engine.begin() as connection:
        connection.exec_driver_sql(
            "INSERT INTO trials (number, study_id, state, datetime_start, datetime_complete) "
            "SELECT n, t.study_id, t.state, t.datetime_start, t.datetime_complete "
            f"FROM generate_series({_DRAWN}, {trials - 1}) n JOIN trials t ON t.number = mod(n, {_DRAWN}) ORDER BY n"
        )
        connection.exec_driver_sql("ANALYZE")  # without it the joins may take hours
        for table, names in columns.items():
            connection.exec_driver_sql(
                f"INSERT INTO {table} (trial_id, {names}) SELECT new.trial_id, {names} FROM trials new "
                f"JOIN trials old ON old.number = mod(new.number, {_DRAWN}) AND old.number < {_DRAWN} "
                f"JOIN {table} copied ON copied.trial_id = old.trial_id WHERE new.number >= {_DRAWN}"
            )
        connection.exec_driver_sql(
            "UPDATE trial_user_attributes a SET value_json = t.number FROM trials t "
            f"WHERE a.trial_id = t.trial_id AND a.key = 'slot' AND t.number >= {_DRAWN}"
        )
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("VACUUM ANALYZE")
    engine.dispose()
