"""Repeats a recorded step: as a CUDA graph, which the GPU repeats without the host, or, on other devices, eagerly."""

import gc
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Protocol

import torch

Step = Callable[[], None]  # reads and writes tensors at fixed places, and returns nothing


class Replay(Protocol):
    """Records a step once, and repeats it."""

    def trying(self, *, may_wait: bool) -> AbstractContextManager[None]:
        """Returns a block in which the step can be run eagerly before it is recorded.

        Unless it `may_wait`, a step raises RuntimeError in it where the host would wait for the device.
        """

    def record(self, step: Step) -> None:
        """Records the step. Whether it also runs, is not defined. Raises RuntimeError if it cannot be recorded."""

    def run(self, times: int) -> None:
        """Repeats the step. It may return before the device is done."""


class Eagerly:
    """Runs the step itself. For devices without graphs: it makes nothing faster, and shows that the rest is right."""

    def __init__(self) -> None:
        self._step: Step | None = None

    def trying(self, *, may_wait: bool) -> AbstractContextManager[None]:
        return nullcontext()

    def record(self, step: Step) -> None:
        self._step = step

    def run(self, times: int) -> None:
        assert self._step is not None
        for _ in range(times):
            self._step()


class CudaGraph:
    """Captures the step as a CUDA graph, on the current device.

    The kernels of dropout draw from torch's default generator of the device, which takes part in the capture.
    """

    def __init__(self) -> None:
        self._graph = torch.cuda.CUDAGraph()
        self._before: torch.cuda.Event | None = None  # the end of the previous run

    @contextmanager
    def trying(self, *, may_wait: bool) -> Iterator[None]:
        """Runs the block on another stream, as a step must have run before it is captured."""
        here, aside = torch.cuda.current_stream(), torch.cuda.Stream()  # type: ignore[no-untyped-call]
        aside.wait_stream(here)
        mode = torch.cuda.get_sync_debug_mode()
        try:
            with torch.cuda.stream(aside):
                if not may_wait:
                    with warnings.catch_warnings():
                        warnings.simplefilter("ignore")  # torch says that it does not notice each case
                        torch.cuda.set_sync_debug_mode("error")
                yield
        finally:
            torch.cuda.set_sync_debug_mode(mode)
            here.wait_stream(aside)

    def record(self, step: Step) -> None:
        here = torch.cuda.current_stream()
        # An object that is freed during the capture may call what a capture does not allow; and what is left of earlier
        # steps ties the gradients to their stream.
        gc.collect()
        collects = gc.isenabled()
        gc.disable()
        cause: Exception | None = None
        try:
            # Other threads, such as those of a logger, may use the GPU meanwhile.
            with torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
                try:
                    step()
                except Exception as error:
                    cause = error  # the end of the capture raises another error, which tells less
                    raise
        except Exception as error:
            self._graph.reset()
            raise RuntimeError(str(cause or error)) from error
        finally:
            torch.cuda.set_stream(here)  # torch leaves the stream of a capture that fails
            if collects:
                gc.enable()

    def run(self, times: int) -> None:
        """Waits until the previous run is done: so the host is never more than one run ahead, and Ctrl-C acts soon."""
        for _ in range(times):
            self._graph.replay()
        end = torch.cuda.Event()  # type: ignore[no-untyped-call]
        end.record()
        if self._before is not None:
            self._before.synchronize()
        self._before = end


def replay_on(device: torch.device) -> Replay:
    """Returns what repeats a step on the device."""
    return CudaGraph() if device.type == "cuda" else Eagerly()
