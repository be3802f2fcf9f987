"""Gathers the requests that arrive at about the same time: the model runs once for all of them."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Images = NDArray[Any]  # (N, H, W, C)
Answers = tuple[NDArray[Any], ...]  # each (N, …)


@dataclass(eq=False)
class _Waiting:
    """A request whose images wait for the model."""

    images: Images
    since: float  # of the loop's clock
    answers: "asyncio.Future[Answers]"


class Batcher:
    """Runs a model in a thread of its own, which has one batch at a time. To be called in one event loop.

    A batch begins once the thread is free, and as many requests wait as were open at a time lately, or the oldest of
    them has waited `wait` seconds. So a single client never waits for others. A batch has up to `most_images` images,
    or one request.
    """

    def __init__(self, model: Callable[[Images], Answers], *, most_images: int, wait: float) -> None:
        self._model, self._most_images, self._wait = model, most_images, wait
        self._thread = ThreadPoolExecutor(1, "model")
        self._queue: deque[_Waiting] = deque()
        self._images = 0  # in the queue
        self._is_busy = False
        self._expected = 1  # requests
        self._timer: asyncio.TimerHandle | None = None

    async def __call__(self, images: Images) -> Answers:
        """Returns the model's answers for these images. Raises what the model raises."""
        loop = asyncio.get_running_loop()
        waiting = _Waiting(images, loop.time(), loop.create_future())
        self._queue.append(waiting)
        self._images += len(images)
        self._tend(loop)
        return await waiting.answers

    def close(self) -> None:
        """Ends the thread, after the batch that it is working on."""
        self._thread.shutdown()

    def _tend(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begins a batch if it is time, or sees to it that this is called then."""
        if self._is_busy or not self._queue:
            return
        left = self._queue[0].since + self._wait - loop.time()
        if left <= 0 or len(self._queue) >= self._expected or self._images >= self._most_images:
            self._begin(loop)
        elif self._timer is None:
            self._timer = loop.call_later(left, self._due, loop)

    def _due(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        self._tend(loop)

    def _begin(self, loop: asyncio.AbstractEventLoop) -> None:
        """Gives the thread the next batch."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._expected = max(len(self._queue), self._expected - 1)
        batch = self._take()
        self._is_busy = True
        images = batch[0].images if len(batch) == 1 else np.concatenate([each.images for each in batch])
        done = self._thread.submit(self._model, images)
        done.add_done_callback(lambda future: loop.call_soon_threadsafe(self._end, loop, batch, future))

    def _take(self) -> list[_Waiting]:
        """Takes the oldest requests, if their images have one size."""
        batch = [self._queue.popleft()]
        count = len(batch[0].images)
        while self._queue and self._queue[0].images.shape[1:] == batch[0].images.shape[1:]:
            count += len(self._queue[0].images)
            if count > self._most_images:
                break
            batch.append(self._queue.popleft())
        self._images -= sum(len(each.images) for each in batch)
        return batch

    def _end(self, loop: asyncio.AbstractEventLoop, batch: Sequence[_Waiting], done: "Future[Answers]") -> None:
        """Hands out the answers of a batch."""
        self._is_busy = False
        error = done.exception()
        start = 0
        for each in batch:
            stop = start + len(each.images)
            if not each.answers.done():  # a request may have been cancelled meanwhile
                if error is None:
                    each.answers.set_result(tuple(array[start:stop] for array in done.result()))
                else:
                    each.answers.set_exception(error)
            start = stop
        self._tend(loop)
