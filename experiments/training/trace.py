"""`trace.jsonl`: a run's exact scores and the SHA-256 of everything that determines them, to compare runs by stage.

Each line is one stage: `data`, `split`, `initial_weights`, then every `epoch`. Floats are hexadecimal, which is exact.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from experiments.training.epochs import Epoch
from experiments.training.random_state import get_random_state
from lightning_modules.pipeline.batches import Batches
from lightning_modules.stepping.chunks import Chunks

Line = dict[str, Any]


@dataclass(frozen=True)
class Digests:
    """SHA-256 of a run's data as read, and of each split's part of them in its order."""

    data: str
    splits: Mapping[str, str]


class Trace:
    """An observer that writes the trace. `history` holds the scores: one dict per epoch, with `epoch` and `step`.

    `epochs`: how many epochs to keep of a trace that an earlier process wrote; later ones are discarded.
    """

    def __init__(self, path: Path, digests: Digests, module: torch.nn.Module, *, epochs: int = 0) -> None:
        self._path = path
        self.history: list[dict[str, float]] = []
        lines = start = starting_point(digests, module)
        if epochs:
            lines = read_trace(path)[: len(start) + epochs]
        for line in lines[len(start) :]:
            self._remember(line)
        new = path.with_stem("new")
        new.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
        new.replace(path)

    def __call__(self, epoch: Epoch) -> None:
        loader, optimizers = epoch.trainer.train_dataloader, epoch.trainer.optimizers
        loader = loader.batches if isinstance(loader, Chunks) else loader
        line: Line = {
            "stage": "epoch",
            "epoch": epoch.number,
            "step": epoch.step,
            "metrics": {name: value.hex() for name, value in epoch.scores.items()},
            **({"order": loader.order_sha256} if isinstance(loader, Batches) else {}),
            "weights": tensors_sha256(epoch.module.state_dict()),
            "optimizer": optimizers_sha256([optimizer.state_dict() for optimizer in optimizers]),
            "random": tensors_sha256(get_random_state()),
        }
        self._remember(line)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def _remember(self, line: Line) -> None:
        self.history.append(as_scores(line))


def starting_point(digests: Digests, module: torch.nn.Module) -> list[Line]:
    """Returns the lines of the stages before training."""
    return [
        {"stage": "data", "sha256": digests.data},
        {"stage": "split", "sha256": dict(digests.splits)},
        {"stage": "initial_weights", "sha256": tensors_sha256(module.state_dict())},
    ]


def read_trace(path: Path) -> list[Line]:
    """Returns the lines of a trace, without an incomplete last line of a killed process."""
    complete = path.read_text(encoding="utf-8").split("\n")[:-1] if path.exists() else []
    return [json.loads(line) for line in complete]


def metrics_of_the_start(trace: Sequence[Line]) -> list[Line]:
    """Returns the lines with those metrics alone that the first epoch has.

    If newer code resumed a run, its later epochs may have more. The code that is run again is that of the start.
    """
    scores: dict[str, str] = next((line["metrics"] for line in trace if line["stage"] == "epoch"), {})
    known = {name.partition("/")[2] for name in scores}
    return [
        line | {"metrics": {name: value for name, value in line["metrics"].items() if name.partition("/")[2] in known}}
        if "metrics" in line
        else line
        for line in trace
    ]


def as_scores(line: Line) -> dict[str, float]:
    """Converts an epoch's line to plain numbers: `epoch`, `step` and the scores."""
    scores = {name: float.fromhex(value) for name, value in line["metrics"].items()}
    return {"epoch": line["epoch"], "step": line["step"]} | scores


@dataclass(frozen=True)
class Difference:
    """The first stage in which two traces differ."""

    stage: str
    epoch: int | None
    what: tuple[str, ...]  # the scores and hashes that differ


def first_difference(recorded: Sequence[Line], now: Sequence[Line]) -> Difference | None:
    """Compares a recorded trace with a new one, stage by stage; returns None if the new one repeats all of it."""
    for index, line in enumerate(recorded):
        new_line = now[index] if index < len(now) else {}
        flat, new_flat = (_flat(each) for each in (line, new_line))
        what = tuple(name for name, value in flat.items() if new_flat.get(name) != value)
        if what:
            return Difference(line["stage"], line.get("epoch"), what if new_line else ("missing",))
    return None


def _flat(line: Line) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in line.items():
        flat |= {f"{name} {key}": each for key, each in value.items()} if isinstance(value, dict) else {name: value}
    return flat


def optimizers_sha256(states: Sequence[Any]) -> str:
    """Returns the SHA-256 of the states of all optimizers; that of one alone is `tensors_sha256` of its state."""
    return tensors_sha256(states[0] if len(states) == 1 else states)


def tensors_sha256(state: Any) -> str:
    """Returns the SHA-256 of a nested state: all names, and each tensor's type, shape and bytes in row-major order."""
    digest = hashlib.sha256()
    for name, value in _leaves(state, ""):
        if isinstance(value, torch.Tensor):
            array = value.detach().cpu().contiguous()
            digest.update(f"{name} {array.dtype} {tuple(array.shape)}".encode())
            digest.update(array.reshape(-1).view(torch.uint8).numpy().data)
        else:
            digest.update(f"{name} {value!r}".encode())
    return digest.hexdigest()


def _leaves(state: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(state, dict):
        for key, value in state.items():
            yield from _leaves(value, f"{path}.{key}" if path else str(key))
    elif isinstance(state, list | tuple) and any(isinstance(value, dict | torch.Tensor) for value in state):
        for index, value in enumerate(state):
            yield from _leaves(value, f"{path}.{index}")
    else:
        yield path, state
