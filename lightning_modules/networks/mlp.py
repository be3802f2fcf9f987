"""A multilayer perceptron: Flatten → Dense ReLU, as many as there are widths → Dense K."""

from collections.abc import Sequence

from torch import Tensor, nn

# Shapes: N images, C channels, H x W pixels, K classes.


class MLP(nn.Module):
    """Maps float images (N, C, H, W) to logits (N, K). `hidden`: the widths of the hidden layers, from the image on.

    203,530 parameters with the default widths for 28×28×1 images of 10 classes. Initial weights are He's, for ReLU
    (He et al. 2015), initial biases 0. `dropout` follows each hidden layer.
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        num_classes: int,
        *,
        hidden: Sequence[int] = (256,),
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if min(hidden, default=1) < 1 or not 0 <= dropout < 1:
            raise ValueError(f"MLP needs widths of 1 or more and dropout from 0 to below 1, got {hidden} and {dropout}")
        channels, height, width = image_shape
        layers: list[nn.Module] = [nn.Flatten()]
        inputs = channels * height * width
        for outputs in hidden:
            layers += [nn.Linear(inputs, outputs), nn.ReLU(inplace=True)]
            layers += [nn.Dropout(dropout)] if dropout else []
            inputs = outputs
        self.layers = nn.Sequential(*layers, nn.Linear(inputs, num_classes))
        for layer in self.layers:
            if isinstance(layer, nn.Linear):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                nn.init.zeros_(layer.bias)

    def forward(self, images_NCHW: Tensor) -> Tensor:
        logits_NK: Tensor = self.layers(images_NCHW)
        return logits_NK
