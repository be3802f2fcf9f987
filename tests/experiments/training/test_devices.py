"""Where a process stands among those that train one run, and what several devices need."""

from typing import Any

import pytest
import torch

from experiments import ExperimentConfig, load_config
from experiments.training.devices import (
    Place,
    check_devices,
    launched,
    own_device,
    place_of,
    shared_arguments,
    with_place,
    with_threads,
)
from experiments.training.trainer import make_trainer
from lightning_modules import ImageDataModule, InputError
from lightning_modules.log import LOG

TORCHRUN = {"TORCHELASTIC_RUN_ID": "none", "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2", "RANK": "3", "LOCAL_RANK": "1"}
SLURM = {"SLURM_STEP_NUM_TASKS": "4", "SLURM_STEP_NUM_NODES": "2", "SLURM_PROCID": "3", "SLURM_LOCALID": "1"}


def digits(**trainer: Any) -> ExperimentConfig:
    fields = {"accelerator": "cpu", "threads": 1, **trainer}
    return load_config("digits", {f"trainer.{name}": value for name, value in fields.items()})


@pytest.mark.parametrize(("variables", "launcher"), [(TORCHRUN, "torchrun"), (SLURM, "slurm")])
def test_a_process_knows_its_place(variables: dict[str, str], launcher: Any) -> None:
    assert launched(variables) == Place(rank=3, local_rank=1, devices=2, nodes=2, launcher=launcher)


@pytest.mark.parametrize(
    "variables",
    [
        {},
        TORCHRUN | {"WORLD_SIZE": "1", "LOCAL_WORLD_SIZE": "1", "RANK": "0", "LOCAL_RANK": "0"},
        SLURM | {"SLURM_STEP_NUM_TASKS": "1", "SLURM_STEP_NUM_NODES": "1", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"},
        {"SLURM_NTASKS": "8", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"},  # a batch script that srun has not started
        {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1"},  # left by another program
    ],
)
def test_a_process_that_is_alone_has_no_place(variables: dict[str, str]) -> None:
    assert launched(variables) is None


def test_machines_with_different_numbers_of_processes_are_refused() -> None:
    with pytest.raises(InputError, match="2 machines have 3 processes"):
        launched(SLURM | {"SLURM_STEP_NUM_TASKS": "3"})


def test_the_config_gets_the_devices_that_were_started() -> None:
    place = Place(rank=1, local_rank=1, devices=2, nodes=3, launcher="torchrun")
    trainer = with_place(digits(), place).trainer
    assert (trainer.devices, trainer.num_nodes, trainer.processes) == (2, 3, 6)
    assert with_place(digits(devices=2, num_nodes=3), place).trainer == trainer
    with pytest.raises(InputError, match="torchrun has started 2 processes on each of 3 machines"):
        with_place(digits(devices=4), place)


def test_the_devices_of_a_machine_share_its_cores() -> None:
    assert with_threads(digits(threads=None), Place(devices=2), 8).trainer.threads == 4
    assert with_threads(digits(threads=None), Place(devices=3), 2).trainer.threads == 1
    assert with_threads(digits(threads=3), Place(devices=2), 8).trainer.threads == 3
    assert with_threads(digits(threads=None), Place(), 8).trainer.threads == 8


@pytest.mark.parametrize(
    ("fields", "gpus", "field", "said"),
    [
        ({"devices": 2, "accelerator": "cuda"}, 1, "trainer.devices", "this machine has 1 GPU"),
        ({"devices": 4, "accelerator": "auto"}, 2, "trainer.devices", "this machine has 2 GPUs"),
        ({"devices": 2, "accelerator": "mps"}, 0, "trainer.devices", "a Mac has one GPU"),
        ({"devices": 2, "sync_batchnorm": True}, 0, "trainer.sync_batchnorm", "torch has it for GPUs alone"),
    ],
)
def test_what_does_not_fit_this_machine_is_said_in_one_line(
    fields: dict[str, Any], gpus: int, field: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    config = digits(**fields).trainer
    with pytest.raises(InputError, match=said) as refused:
        check_devices(config, place_of(config), 2)
    assert refused.value.field == field
    assert "\n" not in str(refused.value)


def test_too_many_threads_are_said_by_the_first_process_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(LOG, "warning", said.append)
    config = digits(devices=2, threads=4).trainer
    check_devices(config, Place(devices=2), 2)
    check_devices(config, Place(devices=2, rank=1), 2)
    check_devices(digits(devices=2).trainer, Place(devices=2), 2)
    assert said == ["2 devices × 4 threads are more than the 2 cores: training is slower"]


def test_a_second_machine_has_to_be_started() -> None:
    with pytest.raises(InputError, match="this process is alone"):
        place_of(digits(num_nodes=2).trainer)


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("trainer.devices", 0, "must be 1 or more"),
        ("trainer.num_nodes", 0, "must be 1 or more"),
        ("trainer.strategy", "ddp_spawn", "no such choice"),
        ("trainer.devices", "auto", "has the wrong type"),
    ],
)
def test_a_wrong_value_is_refused(field: str, value: Any, said: str) -> None:
    with pytest.raises(InputError, match=said) as refused:
        load_config("digits", {field: value})
    assert refused.value.field == field


def test_a_batch_has_an_image_for_each_device() -> None:
    with pytest.raises(InputError, match="fewer images than the 4 devices"):
        load_config("digits", {"data.batch_size": 3, "trainer.devices": 4})


@pytest.mark.parametrize("devices", [1, 2])
def test_a_sharded_strategy_without_a_gpu_is_refused(devices: int) -> None:
    config = digits(devices=devices, strategy="fsdp").trainer
    with pytest.raises(InputError, match=r"trainer\.strategy: needs GPUs"):
        check_devices(config, place_of(config), 2)


@pytest.mark.parametrize(("limit", "own"), [(None, [1.0, 1.0]), (1.0, [1, 1]), (2, [1, 1])])
def test_a_limit_of_val_batches_is_of_all_devices(limit: Any, own: list[int]) -> None:
    config = digits(devices=2, limit_val_batches=limit)  # 144 val images: batches of 128 and 16
    data = ImageDataModule(config.data)
    data.setup()
    places = [Place(devices=2, rank=rank) for rank in range(2)]
    assert [make_trainer(config, **shared_arguments(config, place, data)).limit_val_batches for place in places] == own


def test_a_limit_that_leaves_a_device_without_a_val_batch_is_refused() -> None:
    config = digits(devices=2, limit_val_batches=1)
    data = ImageDataModule(config.data)
    data.setup()
    with pytest.raises(InputError, match="fewer val batches than the 2 devices"):
        shared_arguments(config, Place(devices=2), data)


def test_what_a_process_does_alone_it_does_on_its_own_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    assert own_device(digits().trainer, 1) == 1
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert own_device(digits(accelerator="auto").trainer, 1) == [1]
    assert own_device(digits(accelerator="auto").trainer, 0) == 1
