"""The digits network: three small convolutions and two dense layers on 8×8 images scaled to [0, 1]."""

from pathlib import Path

from convc import keras
from convc.keras import layers

model = keras.Sequential(
    [
        keras.Input((8, 8, 1)),
        layers.Conv2D(32, 3, padding="same", use_bias=False, name="conv1"),
        layers.BatchNormalization(name="norm1"),
        layers.ReLU(),
        layers.Conv2D(32, 3, padding="same", use_bias=False, name="conv2"),
        layers.BatchNormalization(name="norm2"),
        layers.ReLU(),
        layers.MaxPooling2D(),
        layers.Conv2D(64, 3, padding="same", use_bias=False, name="conv3"),
        layers.BatchNormalization(name="norm3"),
        layers.ReLU(),
        layers.MaxPooling2D(),
        layers.Flatten(),
        layers.Dense(64, activation="relu", name="hidden"),
        layers.Dense(10, activation="softmax", name="digit"),
    ],
    name="digits",
)
model.load_weights(Path(__file__).parent / "weights.safetensors")
