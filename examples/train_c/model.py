"""A small network for the digits, and how it is trained: what `convc compile --train` compiles."""

from convc import keras
from convc.keras import layers

keras.utils.set_random_seed(7)

model = keras.Sequential(
    [
        keras.Input((8, 8, 1), name="image"),
        layers.Rescaling(1 / 16),
        layers.Conv2D(16, 3, padding="same", use_bias=False, name="conv1"),
        layers.BatchNormalization(momentum=0.9, name="norm1"),
        layers.ReLU(),
        layers.MaxPooling2D(),
        layers.Conv2D(32, 3, padding="same", activation="relu", name="conv2"),
        layers.MaxPooling2D(),
        layers.Flatten(),
        layers.Dropout(0.1),
        layers.Dense(10, activation="softmax", name="digit"),
    ],
    name="digits",
)
model.compile(
    optimizer=keras.optimizers.Adam(
        keras.optimizers.schedules.PiecewiseConstantDecay([33, 67], [0.003, 0.001, 0.0003])
    ),
    loss="sparse_categorical_crossentropy",
    metrics=["accuracy"],
)
