"""How a step is captured as a CUDA graph. Without a GPU, what torch would do is only noted."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest
import torch

from lightning_modules.stepping.replay import CudaGraph, Eagerly, replay_on

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU: see test_captured.py")


class Noted:
    """Any object of torch.cuda: it notes the calls of its methods."""

    def __init__(self, name: str, calls: list[str]) -> None:
        self.name, self.calls = name, calls

    def __getattr__(self, method: str) -> Any:
        return lambda *_: self.calls.append(f"{self.name}.{method}")


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    noted: list[str] = []
    made = {"Stream": 0, "Event": 0}

    def make(kind: str) -> Noted:
        made[kind] += 1
        return Noted(f"{kind.lower()} {made[kind]}", noted)

    @contextmanager
    def graph(graph: Noted, *, capture_error_mode: str) -> Iterator[None]:
        noted.append(f"begin {capture_error_mode}")
        try:
            yield
        except ValueError as error:
            raise RuntimeError("operation failed due to a previous error during capture") from error
        noted.append("end")

    monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: Noted("graph", noted))
    monkeypatch.setattr(torch.cuda, "Stream", lambda: make("Stream"))
    monkeypatch.setattr(torch.cuda, "Event", lambda: make("Event"))
    monkeypatch.setattr(torch.cuda, "graph", graph)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: Noted("here", noted))
    monkeypatch.setattr(torch.cuda, "stream", lambda _: nullcontext())
    monkeypatch.setattr(torch.cuda, "set_stream", lambda stream: noted.append(f"back to {stream.name}"))
    monkeypatch.setattr(torch.cuda, "get_sync_debug_mode", lambda: 0)
    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", lambda mode: noted.append(f"mode {mode}"))
    return noted


def test_the_host_is_at_most_one_run_ahead(calls: list[str]) -> None:
    replay = CudaGraph()
    replay.record(lambda: calls.append("step"))
    for _ in range(3):
        replay.run(2)
    repeated = ["graph.replay", "graph.replay"]
    assert calls == [
        *("begin thread_local", "step", "end", "back to here"),
        *(*repeated, "event 1.record"),
        *(*repeated, "event 2.record", "event 1.synchronize"),
        *(*repeated, "event 3.record", "event 2.synchronize"),
    ]


def test_a_capture_that_fails_tells_the_cause_and_leaves_nothing_behind(calls: list[str]) -> None:
    def step() -> None:
        assert not gc.isenabled()
        raise ValueError("Cannot copy between CPU and CUDA tensors during CUDA graph capture")

    with pytest.raises(RuntimeError, match="Cannot copy between CPU and CUDA"):
        CudaGraph().record(step)
    assert calls == ["begin thread_local", "graph.reset", "back to here"]
    assert gc.isenabled()


def test_steps_are_tried_on_another_stream_and_may_not_wait_for_the_device(calls: list[str]) -> None:
    replay = CudaGraph()
    with replay.trying(may_wait=True):
        calls.append("step")
    with pytest.raises(RuntimeError, match="synchronizing"), replay.trying(may_wait=False):
        raise RuntimeError("called a synchronizing CUDA operation")
    assert calls == [
        *("stream 1.wait_stream", "step", "mode 0", "here.wait_stream"),
        *("stream 2.wait_stream", "mode error", "mode 0", "here.wait_stream"),
    ]


def test_other_devices_repeat_a_step_eagerly() -> None:
    assert isinstance(replay_on(torch.device("cpu")), Eagerly)
