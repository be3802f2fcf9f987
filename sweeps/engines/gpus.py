"""Which GPUs of this machine each worker sees."""

import os

import torch

from lightning_modules import InputError

VISIBLE = "CUDA_VISIBLE_DEVICES"


def visible_gpus() -> list[str]:
    """Returns the GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    named = os.environ.get(VISIBLE)
    if named is None:
        return [str(gpu) for gpu in range(torch.cuda.device_count())]
    return [gpu.strip() for gpu in named.split(",") if gpu.strip() not in ("", "-1")]


def shares_of_gpus(each: float, workers: int | None, cores: int) -> list[str | None]:
    """Returns what each worker sees, as CUDA_VISIBLE_DEVICES: `each` GPUs, in turn; None: what this process sees.

    `workers`: how many; None: as many as there are cores and GPUs for. Raises InputError if there are too few GPUs.
    """
    if each == 0:
        return [None] * (workers or cores)
    gpus = visible_gpus()
    room = int(len(gpus) / each) if each >= 1 else len(gpus) * int(1 / each)
    if room < (workers or 1):
        message = f"this machine has {len(gpus)} GPUs, enough for {room} workers"
        remedy = f"write --workers {room}, or ask for less" if room else "write 0: trials then use what there is"
        raise InputError("resources.gpus", each, message, remedy)
    count = workers or min(cores, room)
    if each < 1:
        return [gpus[worker % len(gpus)] for worker in range(count)]
    size = int(each)
    return [",".join(gpus[worker * size : (worker + 1) * size]) for worker in range(count)]
