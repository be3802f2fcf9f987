"""What the machine does during a run, logged together with the run's metrics."""

import itertools
from collections.abc import Mapping
from queue import Queue

import pytest

from experiments import Store
from experiments.tracking import system_metrics
from experiments.tracking.lifecycle import create_run
from experiments.tracking.system_metrics import SystemMetrics

CPU = "system/cpu_utilization_percentage"


def test_every_interval_and_the_rest_at_the_end_are_given_from_the_step_after_the_run_s_last(
    scratch_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = create_run(scratch_store, experiment="digits", name="measured", kind="train")
    scratch_store.client.log_metric(run_id, CPU, 99.0, step=4)
    monkeypatch.setattr(system_metrics, "FROM", 0.0)
    percents = itertools.count(10.0, 10.0)
    monkeypatch.setattr("psutil.cpu_percent", lambda: next(percents))
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.01")
    given: Queue[tuple[Mapping[str, float], int]] = Queue()
    measuring = SystemMetrics(run_id, scratch_store.tracking_uri, lambda values, step: given.put((values, step)))
    first = [given.get(timeout=60) for _ in range(2)]
    measuring.finish()
    later = [given.get_nowait() for _ in range(given.qsize())]
    assert later  # measured since the last interval
    assert [(values[CPU], step) for values, step in [*first, *later]] == [
        (10.0 * (n + 1), 5 + n) for n in range(2 + len(later))
    ]
    names = {"cpu_utilization_percentage", "system_memory_usage_megabytes", "system_memory_usage_percentage"}
    names |= {"disk_usage_percentage", "disk_usage_megabytes", "disk_available_megabytes"}
    names |= {"network_receive_megabytes", "network_transmit_megabytes"}
    assert first[0][0].keys() >= {f"system/{name}" for name in names}
