"""The baseline network: 28×28×1 → Conv 32 3×3 ReLU → MaxPool 2×2 → Flatten → Dense 128 ReLU → Dense 10."""

import torch.nn.functional as F
from torch import Tensor, nn

# Shapes: N images, C channels, H x W pixels, F filters, K classes.


class BaselineCNN(nn.Module):
    """Maps float images (N, C, H, W), H and W at least 4, to logits (N, K); the softmax belongs to the loss.

    693,962 parameters for 28×28×1 images of 10 classes, weight for weight as in benchmarks/textbook_keras.py: flattened
    in Keras's order (height, width, filters), initial weights uniform (Glorot & Bengio 2010), initial biases 0.
    """

    def __init__(
        self, image_shape: tuple[int, int, int], num_classes: int, *, filters: int = 32, hidden: int = 128
    ) -> None:
        super().__init__()
        channels, height, width = image_shape
        if min(height, width) < 4:
            raise ValueError(f"BaselineCNN needs images of 4×4 pixels or more, got {height}×{width}")
        if min(filters, hidden) < 1:
            raise ValueError(f"BaselineCNN needs filters and hidden of 1 or more, got {filters} and {hidden}")
        self.conv = nn.Conv2d(channels, filters, kernel_size=3)
        self.hidden = nn.Linear(filters * ((height - 2) // 2) * ((width - 2) // 2), hidden)
        self.output = nn.Linear(hidden, num_classes)
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)
            else:
                nn.init.zeros_(parameter)

    def forward(self, images_NCHW: Tensor) -> Tensor:
        # ReLU and max commute, so ReLU after the pool is the same function on a quarter of the values.
        pooled_NFHW = F.relu(F.max_pool2d(self.conv(images_NCHW), 2))
        # With channels_last weights, the pool's output already has this order in memory: flattening copies nothing.
        hidden_N = F.relu(self.hidden(pooled_NFHW.permute(0, 2, 3, 1).flatten(start_dim=1)))
        logits_NK: Tensor = self.output(hidden_N)
        return logits_NK
