"""Several devices train one run together: one process on each. The process of rank 0 owns the run.

The others train their part of each batch, and write nothing: see `experiments/distributed`.
"""

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

import pytorch_lightning as pl
import torch
import torch.distributed as dist
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
from pytorch_lightning.strategies import DDPStrategy
from torch.distributed.distributed_c10d import _set_pg_timeout

from experiments.config import ExperimentConfig, Strategy, TrainerConfig
from lightning_modules import ImageDataModule, InputError
from lightning_modules.log import LOG
from lightning_modules.pipeline.share import Share

Launcher = Literal["workbench", "torchrun", "slurm"]

_MEETING = timedelta(minutes=2)  # for processes that are ready to train
_SILENCE = timedelta(minutes=30)  # the longest that one process waits for another, as in Lightning
_LOOPBACK = "lo" if sys.platform == "linux" else "lo0"
_SLURM = ("SLURM_STEP_NUM_TASKS", "SLURM_STEP_NUM_NODES", "SLURM_PROCID", "SLURM_LOCALID")


@dataclass(frozen=True, kw_only=True)
class Place:
    """This process among those that train one run."""

    rank: int = 0  # among all of them; 0 owns the run
    local_rank: int = 0  # among those of this machine
    devices: int = 1  # of each machine
    nodes: int = 1
    launcher: Launcher = "workbench"  # who has started the processes

    @property
    def processes(self) -> int:
        return self.devices * self.nodes

    @property
    def share(self) -> Share:
        return Share(self.rank, self.processes)


def launched(variables: Mapping[str, str] = os.environ) -> Place | None:
    """Returns this process's place, if torchrun or Slurm's srun has started it as one of several; else None.

    Raises InputError if their machines have different numbers of processes.
    """
    launcher: Launcher
    if "TORCHELASTIC_RUN_ID" in variables:
        names = ("WORLD_SIZE", "LOCAL_WORLD_SIZE", "RANK", "LOCAL_RANK")
        count, devices, rank, local_rank = (int(variables[name]) for name in names)
        nodes, launcher = count // devices, "torchrun"
    elif all(name in variables for name in _SLURM):
        count, nodes, rank, local_rank = (int(variables[name]) for name in _SLURM)
        devices, launcher = count // nodes, "slurm"
    else:
        return None
    if devices * nodes != count:
        remedy = "start equally many on each machine"
        raise InputError("trainer.devices", None, f"{nodes} machines have {count} processes", remedy)
    if count == 1:
        return None
    return Place(rank=rank, local_rank=local_rank, devices=devices, nodes=nodes, launcher=launcher)


def with_place(config: ExperimentConfig, place: Place) -> ExperimentConfig:
    """Returns the configuration with the number of devices that were started. Raises InputError if it has another."""
    for name, started in (("devices", place.devices), ("num_nodes", place.nodes)):
        given = getattr(config.trainer, name)
        if given not in (1, started):
            message = f"{place.launcher} has started {place.devices} processes on each of {place.nodes} machines"
            raise InputError(f"trainer.{name}", given, message, f"write {started}, or leave it out")
    return replace(config, trainer=replace(config.trainer, devices=place.devices, num_nodes=place.nodes))


def place_of(config: TrainerConfig) -> Place:
    """Returns the place of a process that nothing has started as one of several: it starts the others itself."""
    if config.num_nodes > 1:
        remedy = "start this command on each machine, by torchrun or srun (docs/at_scale.md)"
        raise InputError("trainer.num_nodes", config.num_nodes, "this process is alone", remedy)
    return Place(devices=config.devices)


def with_threads(config: ExperimentConfig, place: Place, cores: int) -> ExperimentConfig:
    """Returns the configuration with a number of threads: by default, the devices of a machine share its cores."""
    threads = config.trainer.threads or max(1, cores // place.devices)
    return replace(config, trainer=replace(config.trainer, threads=threads))


def check_devices(config: TrainerConfig, place: Place, cores: int) -> None:
    """Raises InputError if this machine lacks what several devices need. Says so if it has too few cores."""
    uses_gpus = trains_on_gpus(config)
    if is_sharded(config.strategy) and not uses_gpus:
        raise InputError("trainer.strategy", config.strategy, "needs GPUs", "write ddp, or leave it out")
    if place.processes == 1:
        return
    if config.accelerator == "mps":
        raise InputError("trainer.devices", config.devices, "a Mac has one GPU", "write 1, or trainer.accelerator: cpu")
    if uses_gpus and (found := torch.cuda.device_count()) < place.devices:
        message = f"this machine has {found} GPU{'s' if found > 1 else ''}"
        remedy = f"write {found}, or trainer.accelerator: cpu"
        raise InputError("trainer.devices", config.devices, message, remedy)
    if not uses_gpus and config.sync_batchnorm:
        remedy = "leave it out: each process then normalizes by its own part of the batch"
        raise InputError("trainer.sync_batchnorm", True, "torch has it for GPUs alone", remedy)
    threads = config.threads or 1
    if not uses_gpus and place.rank == 0 and threads * place.devices > cores:
        LOG.warning(f"{place.devices} devices × {threads} threads are more than the {cores} cores: training is slower")


def is_sharded(strategy: Strategy) -> bool:
    """Whether each device has a part of the network's weights, or of the optimizer's state."""
    return strategy.startswith(("fsdp", "deepspeed"))


def trains_on_gpus(config: TrainerConfig) -> bool:
    return config.accelerator == "cuda" or (config.accelerator == "auto" and torch.cuda.is_available())


def wait_for(device: torch.device) -> None:
    """Waits until a GPU has done what it was told, so that its time is measured and not only the host's."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def own_device(config: TrainerConfig, local_rank: int) -> int | list[int]:
    """Returns Lightning's `devices` for what a process does alone."""
    return [local_rank] if local_rank and trains_on_gpus(config) else 1


class _Environment(LightningEnvironment):
    """Tells Lightning where this process stands. The processes have been started, and have met."""

    def __init__(self, place: Place) -> None:
        super().__init__()
        self._place = place

    @property
    def creates_processes_externally(self) -> bool:
        return True

    def world_size(self) -> int:
        return self._place.processes

    def global_rank(self) -> int:
        return self._place.rank

    def local_rank(self) -> int:
        return self._place.local_rank

    def node_rank(self) -> int:
        return self._place.rank // self._place.devices

    def teardown(self) -> None:
        """Leaves the environment variables of torchrun as they are."""


class _Ddp(DDPStrategy):
    """Lightning's DDP without a launcher: Lightning refuses its own in a notebook, even if it has nothing to launch.

    Buffers are not sent at each step: the running statistics of batch norm are those of rank 0, and no step uses them.
    `send_buffers` sends them before each validation.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(forward_sync_buffers=False, gradient_as_bucket_view=True, **options)

    def _configure_launcher(self) -> None:
        pass


def shared_arguments(config: ExperimentConfig, place: Place, data: ImageDataModule) -> dict[str, Any]:
    """Returns the arguments of the Trainer that trains together with others."""
    strategy: DDPStrategy | str = config.trainer.strategy
    if not is_sharded(config.trainer.strategy):
        strategy = _Ddp(find_unused_parameters=strategy == "ddp_find_unused_parameters_true")
    arguments: dict[str, Any] = {
        "devices": place.devices,
        "num_nodes": place.nodes,
        "strategy": strategy,
        "plugins": [_Environment(place)],
        "sync_batchnorm": config.trainer.sync_batchnorm,
        "use_distributed_sampler": False,
    }
    if (limit := config.trainer.limit_val_batches) is not None:
        arguments["limit_val_batches"] = _own_limit(limit, config.trainer, place, data)
    return arguments


def _own_limit(limit: float, config: TrainerConfig, place: Place, data: ImageDataModule) -> int:
    """Returns how many of the first `limit` val batches are this process's. A number is of batches, a share of all."""
    with shared(data, place.share):
        size = data.evaluation_size("val", "cuda" if trains_on_gpus(config) else "cpu")
    batches = -(-len(data.splits["val"]) // size)
    most = min(limit, batches) if isinstance(limit, int) else int(batches * limit)
    if most < place.processes:
        message = f"these are fewer val batches than the {place.processes} devices that share them"
        raise InputError("trainer.limit_val_batches", limit, message, "allow more")
    return len(range(place.rank, int(most), place.processes))


@contextmanager
def shared(data: ImageDataModule, share: Share) -> Iterator[None]:
    """Lets the data module serve this process's part of each batch."""
    data.share = share
    try:
        yield
    finally:
        data.share = Share()


def quiet_signals(trainer: pl.Trainer) -> None:
    """Takes Lightning's handling of SIGTERM out of a Trainer that trains together with others.

    At each step it tells the other processes whether a signal has come, which takes time. And its handler waits for
    them, while they may wait for this process. Ours ends the processes (experiments/distributed).
    """
    trainer._signal_connector.register_signal_handlers = lambda: None  # type: ignore[method-assign]
    trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor = lambda: None  # type: ignore[method-assign]


@contextmanager
def joined(config: TrainerConfig, place: Place, meeting: Path | None) -> Iterator[None]:
    """Joins the processes that train together, for the block. `meeting`: a file in which those of one machine meet."""
    options: dict[str, Any] = {"backend": "gloo"}
    if trains_on_gpus(config):
        device = torch.device("cuda", place.local_rank)
        torch.cuda.set_device(device)
        options = {"backend": "nccl", "device_id": device}
    if meeting is not None:  # no port is opened for it
        options["store"] = dist.FileStore(str(meeting), place.processes)  # type: ignore[attr-defined]  # of a C++ module
    with _addresses(place):
        dist.init_process_group(rank=place.rank, world_size=place.processes, timeout=_MEETING, **options)
    try:
        _set_pg_timeout(_SILENCE)
        yield
    finally:
        dist.destroy_process_group()


@contextmanager
def _addresses(place: Place) -> Iterator[None]:
    """Sets the variables by which processes find each other. Those of one machine talk on its loopback device alone."""
    wanted: dict[str, str] = {}
    if place.nodes == 1:
        wanted["GLOO_SOCKET_IFNAME"] = _LOOPBACK
    if place.launcher == "slurm":
        slurm = SLURMEnvironment(auto_requeue=False)
        wanted |= {"MASTER_ADDR": slurm.main_address, "MASTER_PORT": str(slurm.main_port)}
    new = {name: value for name, value in wanted.items() if name not in os.environ}
    os.environ.update(new)
    try:
        yield
    finally:
        for name in new:
            del os.environ[name]


def send_buffers(trainer: pl.Trainer, module: torch.nn.Module) -> None:
    """Gives every process the buffers of rank 0, such as the running statistics of batch norm."""
    if trainer.world_size > 1:
        for buffer in module.buffers():
            dist.broadcast(buffer, 0)


def tell(trainer: pl.Trainer, order: Any) -> None:
    """Sends what the other processes do next, at the end of an epoch: ("save", path) or ("end", whether to stop)."""
    if trainer.world_size > 1:
        trainer.strategy.broadcast(order)


def hear(trainer: pl.Trainer) -> Any:
    """Returns what rank 0 tells."""
    return trainer.strategy.broadcast(None)
