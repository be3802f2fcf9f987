import torch

from lightning_modules.pipeline.row_buffer import RowBuffer


def test_rows_are_copied_and_come_back_in_order_whatever_the_batches() -> None:
    buffer, batch = RowBuffer(), torch.zeros(3, 2, dtype=torch.bfloat16)
    for number, count in enumerate([3, 1, 3, 3, 2]):
        batch.fill_(number)  # as CUDA graphs write into one output again and again
        buffer.add(batch[:count])
    assert buffer.rows.tolist() == [[number] * 2 for number in (0, 0, 0, 1, 2, 2, 2, 3, 3, 3, 4, 4)]
    assert buffer.rows.dtype == torch.bfloat16
