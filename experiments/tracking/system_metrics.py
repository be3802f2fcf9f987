"""Measures a run's CPU, memory, disk, network and GPU use with MLflow's monitor, and logs it with the run's metrics.

MLflow's own thread is not used because it stops for good when one request fails. The first minute is not measured: a
short run would show little else in MLflow's charts.
"""

import threading
from collections.abc import Callable, Mapping

from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

FROM = 60.0  # seconds after the start of a run

Log = Callable[[Mapping[str, float], int], None]  # takes values and step


class SystemMetrics:
    """Measures in a thread and passes the values to `log` as `system/…` every ten seconds, until `finish` is called.

    Begins `FROM` seconds after it was made. In a resumed run, the steps continue after the last recorded step.
    """

    def __init__(self, run_id: str, tracking_uri: str, log: Log) -> None:
        self._monitor = SystemMetricsMonitor(run_id, resume_logging=True, tracking_uri=tracking_uri)
        self._monitor.mlflow_logger = _MonitorLogger(log)
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._measure, name="system-metrics", daemon=True)
        self._thread.start()

    def finish(self) -> None:
        """Stops measuring and logs the last, incomplete interval, if measuring has begun."""
        self._ending.set()
        self._thread.join()

    def _measure(self) -> None:
        is_ending = self._ending.wait(FROM)
        while not is_ending:
            for _ in range(self._monitor.samples_before_logging):
                self._monitor.collect_metrics()
                if is_ending := self._ending.wait(self._monitor.sampling_interval):
                    break
            self._monitor.publish_metrics(self._monitor.aggregate_metrics())


class _MonitorLogger:
    """The logger interface that MLflow's monitor expects."""

    def __init__(self, log: Log) -> None:
        self.record_metrics = log
