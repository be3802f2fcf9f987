"""What several processes that train together have found, brought together in each of them. All must call it."""

import torch
import torch.distributed as dist
from torch import Tensor


def sum_over_ranks(tensor: Tensor) -> Tensor:
    """Returns the sum of the tensors of all processes."""
    total = tensor.clone()
    dist.all_reduce(total)
    return total


def gather_rows(rows_NX: Tensor, counts: list[int]) -> Tensor:
    """Returns the rows of all processes, batch by batch: those of process 0, then of process 1, and so on.

    `counts`: how many of the N rows each batch of this process has. The numbers of rows and of batches may differ.
    """
    device = rows_NX.device
    lengths_R2 = _gather(torch.tensor([len(rows_NX), len(counts)], device=device)).tolist()
    longest, most = (max(lengths) for lengths in zip(*lengths_R2, strict=True))
    counts_RB = _gather(_padded(torch.tensor(counts, dtype=torch.int64, device=device), most)).tolist()
    if longest == 0:
        return rows_NX
    rows_RNX = _gather(_padded(rows_NX, longest))
    parts_R = [
        padded_NX.split([*counts_B, longest - sum(counts_B)])
        for padded_NX, counts_B in zip(rows_RNX, counts_RB, strict=True)
    ]
    return torch.cat([parts[batch] for batch in range(most) for parts in parts_R])


def _gather(tensor: Tensor) -> Tensor:
    """Returns the tensors of all processes, which have one shape, in the order of the ranks."""
    found = [torch.empty_like(tensor) for _ in range(dist.get_world_size())]
    dist.all_gather(found, tensor.contiguous())
    return torch.stack(found)


def _padded(rows_NX: Tensor, length: int) -> Tensor:
    return torch.cat([rows_NX, rows_NX.new_zeros(length - len(rows_NX), *rows_NX.shape[1:])])
