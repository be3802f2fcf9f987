"""Which requests the model gets together, and who gets which answer."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import numpy as np
import pytest

from experiments.serving.batching import Batcher


class Model:
    """Answers with each image's first pixel; `counts` are its batches. It waits where it is told to."""

    def __init__(self) -> None:
        self.counts: list[int] = []
        self.may_go = threading.Event()
        self.may_go.set()
        self.has_begun = threading.Event()

    def __call__(self, images: np.ndarray) -> tuple[np.ndarray, ...]:
        self.has_begun.set()
        self.may_go.wait()
        self.counts.append(len(images))
        if (images == 99).any():
            raise ValueError("this one is wrong")
        return images[:, 0, 0, 0], images[:, 0, 0]


def images_of(*values: int, size: int = 2) -> np.ndarray:
    return np.broadcast_to(np.array(values, np.uint8)[:, None, None, None], (len(values), size, size, 1))


def with_batcher(
    model: Model, use: Callable[[Batcher], Coroutine[Any, Any, None]], most_images: int = 64, wait: float = 0.002
) -> None:
    async def go() -> None:
        batcher = Batcher(model, most_images=most_images, wait=wait)
        await use(batcher)
        batcher.close()

    asyncio.run(go())


async def first(answers: Coroutine[Any, Any, tuple[np.ndarray, ...]]) -> list[int]:
    return list((await answers)[0].tolist())


async def while_busy(model: Model, batcher: Batcher, *requests: np.ndarray) -> list[list[int]]:
    """Asks while the model is at work on another request, so that all of these wait."""
    model.may_go.clear()
    busy = asyncio.ensure_future(batcher(images_of(0)))
    await asyncio.to_thread(model.has_begun.wait)
    asked = [asyncio.ensure_future(first(batcher(images))) for images in requests]
    await asyncio.sleep(0)
    model.may_go.set()
    await busy
    return await asyncio.gather(*asked)


def test_those_that_wait_are_answered_together_each_with_its_own() -> None:
    model = Model()

    async def use(batcher: Batcher) -> None:
        answers = await while_busy(model, batcher, images_of(1), images_of(2, 3), images_of(4))
        assert answers == [[1], [2, 3], [4]]

    with_batcher(model, use)
    assert model.counts == [1, 4]


def test_a_batch_has_no_more_images_than_allowed_but_a_request_stays_whole() -> None:
    model = Model()

    async def use(batcher: Batcher) -> None:
        answers = await while_busy(
            model, batcher, images_of(1, 2), images_of(3), images_of(4, 5, 6, 7, 8), images_of(9)
        )
        assert answers == [[1, 2], [3], [4, 5, 6, 7, 8], [9]]

    with_batcher(model, use, most_images=3)
    assert model.counts == [1, 3, 5, 1]


def test_images_of_another_size_are_another_batch() -> None:
    model = Model()

    async def use(batcher: Batcher) -> None:
        answers = await while_busy(model, batcher, images_of(1), images_of(2, size=3), images_of(3))
        assert answers == [[1], [2], [3]]

    with_batcher(model, use)
    assert model.counts == [1, 1, 1, 1]


def test_a_single_client_never_waits_for_others() -> None:
    model = Model()

    async def use(batcher: Batcher) -> None:
        for value in range(20):
            assert await first(batcher(images_of(value))) == [value]

    with_batcher(model, use, wait=1000)
    assert model.counts == [1] * 20


def test_after_a_crowd_a_request_waits_for_it_but_not_for_ever() -> None:
    model = Model()

    async def use(batcher: Batcher) -> None:
        await while_busy(model, batcher, *map(images_of, range(1, 9)))
        assert await first(batcher(images_of(1))) == [1]  # seven others were expected

    with_batcher(model, use)
    assert model.counts == [1, 8, 1]


def test_an_error_of_the_model_reaches_its_batch_and_the_next_one_is_answered() -> None:
    model = Model()

    async def use(batcher: Batcher) -> None:
        with pytest.raises(ValueError, match="this one is wrong"):
            await batcher(images_of(99))
        assert await first(batcher(images_of(5))) == [5]

    with_batcher(model, use)
