"""How close training comes to the machine's limit: counted operations over the measured rate of matrix products."""

import time

import torch

# Multiplications and additions of the seed's network for one image (28×28×1, batch norm and bias left out).
_CONV = 2 * 26 * 26 * 32 * 9
_HIDDEN = 2 * 5408 * 128
_OUTPUT = 2 * 128 * 10
# Forward pass, gradients of the weights, and gradients of each layer's input except the image.
OPERATIONS_PER_IMAGE = 2 * (_CONV + _HIDDEN + _OUTPUT) + _HIDDEN + _OUTPUT


def matrix_rate(threads: int, size: int = 1024, repeats: int = 20) -> float:
    """Float32 operations per second of a large matrix product: the best of several tries."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        a, b = torch.rand(size, size), torch.rand(size, size)
        seconds = []
        for _ in range(repeats):
            start = time.perf_counter()
            torch.mm(a, b)
            seconds.append(time.perf_counter() - start)
    finally:
        torch.set_num_threads(before)
    return 2 * size**3 / min(seconds)
