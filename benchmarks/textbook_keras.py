"""The seed's Keras code."""

from typing import Any


def train(splits: dict[str, tuple[Any, Any]], epochs: int) -> float:
    """Trains, validates after each epoch, and returns the accuracy on test.

    Splits: float images (N, 28, 28, 1), labels.
    """
    from tensorflow import keras

    model = keras.Sequential(
        [
            keras.layers.Input((28, 28, 1)),
            keras.layers.Conv2D(32, (3, 3), activation="relu"),
            keras.layers.MaxPooling2D((2, 2)),
            keras.layers.Flatten(),
            keras.layers.Dense(128, activation="relu"),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(*splits["train"], epochs=epochs, batch_size=32, validation_data=splits["val"])
    return float(model.evaluate(*splits["test"])[1])
