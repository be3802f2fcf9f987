"""Running out of memory, told as what a user can change."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from experiments.config import ExperimentConfig
from experiments.errors import OutOfMemoryError


@contextmanager
def naming_batch_size(config: ExperimentConfig) -> Iterator[None]:
    """Within it, a refused allocation is raised as an OutOfMemoryError that names the batch size.

    One that the system grants and then kills the process for cannot be caught.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not _is_refused_allocation(error):
            raise
        if torch.cuda.is_available():
            torch.cuda.empty_cache()  # for the runs that follow in this process
        remedy = "lower data.batch_size, or choose a smaller network"
        message = f"out of memory with data.batch_size {config.data.batch_size}: {str(error).splitlines()[0]}"
        raise OutOfMemoryError(message, remedy) from error


def _is_refused_allocation(error: BaseException) -> bool:
    """PyTorch has a class for its GPU allocators alone."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error)
