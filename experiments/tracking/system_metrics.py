"""CPU, memory, disk, network and GPU use of a run: MLflow's own measurements, on the way that the run's metrics take.

MLflow's own thread gives up for good at the first request that fails.
"""

import threading
from collections.abc import Callable, Mapping

from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

Log = Callable[[Mapping[str, float], int], None]  # takes values and step


class SystemMetrics:
    """Measures in a thread, and gives what it measured to `log` every ten seconds, as `system/…`, until the finish.

    The steps of a run that is gone on with go on from its last one.
    """

    def __init__(self, run_id: str, tracking_uri: str, log: Log) -> None:
        self._monitor = SystemMetricsMonitor(run_id, resume_logging=True, tracking_uri=tracking_uri)
        self._monitor.mlflow_logger = _Way(log)
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._measure, name="system-metrics", daemon=True)
        self._thread.start()

    def finish(self) -> None:
        """Gives what was measured since, too: a run may be shorter than an interval."""
        self._ending.set()
        self._thread.join()
        self._publish()

    def _measure(self) -> None:
        while True:
            for _ in range(self._monitor.samples_before_logging):
                self._monitor.collect_metrics()
                if self._ending.wait(self._monitor.sampling_interval):
                    return
            self._publish()

    def _publish(self) -> None:
        self._monitor.publish_metrics(self._monitor.aggregate_metrics())


class _Way:
    """What MLflow's monitor wants for a logger."""

    def __init__(self, log: Log) -> None:
        self.record_metrics = log
