"""Exact mode: the numbers do not depend on the number of threads."""

from multiprocessing.context import ForkServerContext
from pathlib import Path

import pytest
import torch

from experiments import Store, load_config, run
from experiments.training.exact import set_exact
from lightning_modules import InputError


def train_exactly(store: Store, threads: int) -> None:
    """One exact run in this process."""
    overrides = {"trainer.exact": True, "trainer.threads": threads, "trainer.max_epochs": 2}
    run(load_config("digits", overrides), name=f"{threads} threads", store=store, read_test=False)


def test_one_thread_and_two_leave_the_same_trace(scratch_store: Store, forks: ForkServerContext) -> None:
    store = Store(scratch_store.folder, scratch_store.tracking_uri)  # one without an open connection
    processes = [forks.Process(target=train_exactly, args=(store, threads)) for threads in (1, 2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    experiment = scratch_store.client.get_experiment_by_name("digits")
    traces = []
    for threads in (1, 2):
        named = f"attributes.run_name = '{threads} threads'"
        (found,) = scratch_store.client.search_runs([experiment.experiment_id], named)
        assert found.data.params["trainer.threads"] == str(threads)
        assert found.info.status == "FINISHED"
        traces.append((Path(found.info.artifact_uri.removeprefix("file://")) / "trace.jsonl").read_bytes())
    assert traces[0] == traces[1]


def test_exact_is_refused_in_a_process_that_trained_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MKL_CBWR", raising=False)
    set_exact(False)
    with pytest.raises(InputError, match="this process has already trained without it"):
        set_exact(True)
    assert not torch.are_deterministic_algorithms_enabled()


def test_exact_is_chosen_and_left_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MKL_CBWR", "AVX2,STRICT")
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    set_exact(True)
    assert torch.are_deterministic_algorithms_enabled()
    assert not torch.backends.mkldnn.enabled
    set_exact(False)
    assert not torch.are_deterministic_algorithms_enabled()
    assert torch.backends.mkldnn.enabled
