"""Sets what a process needs before it trains, tracks or sweeps. Importing a module sets nothing."""

import logging
import os
import sys
import warnings

from experiments.process.redaction import without_credentials
from lightning_modules.log import LOG
from lightning_modules.showable import PROSE, showable

_VARIABLES = {
    # MLflow: no telemetry, no notices, no progress bars.
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    # MLflow's own retries take minutes, log nothing, and would block training. Store.persist retries instead.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    # Ray: nobody joins without the token, Ray sends no usage statistics, and a cluster started here listens only on
    # 127.0.0.1 (the last variable is named after the systems on which this is the default).
    "RAY_AUTH_MODE": "token",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
}
_IGNORED = (
    "The number of training batches .* is smaller than the logging interval",  # Lightning; we log once per epoch
    "It is recommended to use `self.log\\(.*sync_dist",  # Lightning; scores are those of all devices already
    "`isinstance\\(treespec, LeafSpec\\)` is deprecated",  # Lightning's use of torch
    # Optuna: a trial that exceeds a limit is pruned. CMA-ES learns only from complete trials, so nothing is lost.
    "Constraints have been set, but CmaEsSampler will not use them",
)
_QUIET = ("pytorch_lightning", "mlflow", "optuna")  # these loggers print hints and advertisements
_SILENT = ("mlflow.store.db.utils",)  # prints the tracebacks of errors that it also raises


def prepare_process() -> None:
    """Call this when a process begins its work: in the command line, a worker, `experiments.run`, `sweeps.run`.

    Calling it again is cheap and restores what an import has reset. Variables that the user has set keep their values.
    """
    for name, value in _VARIABLES.items():
        os.environ.setdefault(name, value)
    for message in _IGNORED:
        warnings.filterwarnings("ignore", message)
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    for name in _SILENT:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    if "mlflow.telemetry" in sys.modules and os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true":
        from mlflow.telemetry import set_telemetry_client

        set_telemetry_client()  # turns telemetry off if mlflow was imported before its variable was set
    if not LOG.handlers:
        LOG.addHandler(_StandardError())
        LOG.setLevel(logging.INFO)
        LOG.propagate = False


class _StandardError(logging.Handler):
    """Prints each message in one line, without credentials, to the current `sys.stderr`: a bar may have replaced it."""

    def emit(self, record: logging.LogRecord) -> None:
        print(showable(without_credentials(record.getMessage()), PROSE), file=sys.stderr)
