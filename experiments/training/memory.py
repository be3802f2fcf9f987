"""Turns out-of-memory errors into a message that says which settings to change."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from experiments.config import ExperimentConfig
from experiments.errors import OutOfMemoryError


@contextmanager
def explain_out_of_memory(config: ExperimentConfig) -> Iterator[None]:
    """Raises OutOfMemoryError, which names the batch size, if an allocation inside the block is refused.

    It cannot help if the system grants the memory and later kills the process.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        if torch.cuda.is_available():
            torch.cuda.empty_cache()  # the next runs in this process need the memory
        remedy = "lower data.batch_size, or choose a smaller network"
        batches = f" with data.batch_size {config.data.batch_size}"
        if config.data.module is not None:
            remedy, batches = "serve smaller batches in data.module, or choose a smaller network", ""
        message = f"out of memory{batches}: {str(error).splitlines()[0]}"
        raise OutOfMemoryError(message, remedy) from error


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an allocation was refused. PyTorch has an error class only for its GPU allocators."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error)
