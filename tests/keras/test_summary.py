"""The tables that summary() prints, as Keras prints them."""

from typing import Any

import pytest

from convc import keras
from convc.errors import UsageError
from convc.keras import layers

BOXED = """\
Model: "sequential"
┏━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━┳━━━━━━━━━━━━━━━━━━━━━━━━┳━━━━━━━━━━━━━━━┓
┃ Layer (type)                    ┃ Output Shape           ┃       Param # ┃
┡━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━╇━━━━━━━━━━━━━━━━━━━━━━━━╇━━━━━━━━━━━━━━━┩
│ conv2d (Conv2D)                 │ (None, 26, 26, 32)     │           320 │
├─────────────────────────────────┼────────────────────────┼───────────────┤
│ max_pooling2d (MaxPooling2D)    │ (None, 13, 13, 32)     │             0 │
├─────────────────────────────────┼────────────────────────┼───────────────┤
│ conv2d_1 (Conv2D)               │ (None, 11, 11, 64)     │        18,496 │
├─────────────────────────────────┼────────────────────────┼───────────────┤
│ max_pooling2d_1 (MaxPooling2D)  │ (None, 5, 5, 64)       │             0 │
├─────────────────────────────────┼────────────────────────┼───────────────┤
│ flatten (Flatten)               │ (None, 1600)           │             0 │
├─────────────────────────────────┼────────────────────────┼───────────────┤
│ dropout (Dropout)               │ (None, 1600)           │             0 │
├─────────────────────────────────┼────────────────────────┼───────────────┤
│ dense (Dense)                   │ (None, 10)             │        16,010 │
└─────────────────────────────────┴────────────────────────┴───────────────┘
 Total params: 34,826 (136.04 KB)
 Trainable params: 34,826 (136.04 KB)
 Non-trainable params: 0 (0.00 B)"""

CLASSIC = """\
Model: "sequential"
_________________________________________________________________
Layer (type)                 Output Shape              Param #   
=================================================================
conv2d_1 (Conv2D)            (None, 28, 28, 64)        640       
_________________________________________________________________
batch_normalization (BatchNo (None, 28, 28, 64)        256       
_________________________________________________________________
flatten (Flatten)            (None, 50176)             0         
_________________________________________________________________
dense (Dense)                (None, 10)                501770    
=================================================================
Total params: 502,666
Trainable params: 502,538
Non-trainable params: 128
_________________________________________________________________"""  # noqa: W291

CONNECTED = """\
Model: "functional"
__________________________________________________________________________________________________
Layer (type)                    Output Shape         Param #     Connected to                     
==================================================================================================
input_layer (InputLayer)        (None, 8, 8, 3)      0                                            
__________________________________________________________________________________________________
conv2d (Conv2D)                 (None, 8, 8, 4)      112         input_layer[0][0]                
__________________________________________________________________________________________________
conv2d_1 (Conv2D)               (None, 8, 8, 4)      16          input_layer[0][0]                
__________________________________________________________________________________________________
add (Add)                       (None, 8, 8, 4)      0           conv2d[0][0]                     
                                                                 conv2d_1[0][0]                   
==================================================================================================
Total params: 128
Trainable params: 128
Non-trainable params: 0
__________________________________________________________________________________________________"""  # noqa: W291


def printed(model: Any, **options: Any) -> str:
    lines: list[str] = []
    model.summary(print_fn=lines.append, **options)
    return "\n".join(lines)


@pytest.fixture(autouse=True)
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


BESIDE = """\
Model: "m"
┏━━━━━━━━━━━━━━━━━━━━━┳━━━━━━━━━━━━━━━━━━━┳━━━━━━━━━━━━┳━━━━━━━━━━━━━━━━━━━┓
┃ Layer (type)        ┃ Output Shape      ┃    Param # ┃ Connected to      ┃
┡━━━━━━━━━━━━━━━━━━━━━╇━━━━━━━━━━━━━━━━━━━╇━━━━━━━━━━━━╇━━━━━━━━━━━━━━━━━━━┩
│ image (InputLayer)  │ (None, 8)         │          0 │ -                 │
├─────────────────────┼───────────────────┼────────────┼───────────────────┤
│ both (Add)          │ (None, 8)         │          0 │ image[0][0],      │
│                     │                   │            │ image[0][0]       │
├─────────────────────┼───────────────────┼────────────┼───────────────────┤
│ d (Dense)           │ (None, 2)         │         18 │ both[0][0]        │
└─────────────────────┴───────────────────┴────────────┴───────────────────┘
 Total params: 18 (72.00 B)
 Trainable params: 18 (72.00 B)
 Non-trainable params: 0 (0.00 B)"""


def tutorial() -> Any:
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(32, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(64, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dropout(0.5),
            layers.Dense(10, activation="softmax"),
        ]
    )


def branched() -> Any:
    i = keras.Input((8, 8, 3))
    return keras.Model(
        i, layers.add([layers.Conv2D(4, 3, padding="same")(i), layers.Conv2D(4, 1)(i)])
    )


def test_boxed_summary_is_that_of_keras_3() -> None:
    assert printed(tutorial()) == BOXED


def test_classic_summary_is_that_of_the_tutorials() -> None:
    model = keras.Sequential(
        [
            layers.Conv2D(64, 3, padding="same", input_shape=(28, 28, 1), name="conv2d_1"),
            layers.BatchNormalization(),
            layers.Flatten(),
            layers.Dense(10),
        ]
    )
    assert printed(model, style="classic") == CLASSIC


def test_branches_show_what_layers_are_connected_to() -> None:
    assert printed(branched(), style="classic") == CONNECTED
    keras.backend.clear_session()
    boxed = printed(branched())
    assert "Connected to" in boxed
    assert "│ conv2d[0][0],     │" in boxed


def test_unbuilt_layers_say_so() -> None:
    text = printed(keras.Sequential([layers.Dense(3)]))
    assert "0 (unbuilt)" in text
    assert "│ ?  " in text


def test_line_length_and_trainable_column_are_respected() -> None:
    assert len(printed(tutorial(), line_length=100).splitlines()[1]) == 100
    assert "Trainable" in printed(tutorial(), show_trainable=True, line_length=100)
    with pytest.raises(UsageError, match="too narrow"):
        printed(tutorial(), line_length=10)
    with pytest.raises(Exception, match="style must be 'box' or 'classic'"):
        printed(tutorial(), style="fancy")


def test_nested_models_are_expanded_on_demand() -> None:
    i = keras.Input((8, 8, 3))
    model = keras.Model(i, layers.Flatten()(branched()(i)))
    assert "(Functional)" in printed(model)
    assert "└ conv2d (Conv2D)" in printed(model, expand_nested=True, line_length=120)


def test_tables_of_models_that_branch_are_keras_own() -> None:
    x = keras.Input((8,), name="image")
    y = layers.Dense(2, name="d")(layers.add([x, x], name="both"))
    assert printed(keras.Model(x, y, name="m")) == BESIDE


def test_the_column_of_trainable_layers_takes_a_tenth() -> None:
    table = printed(
        keras.Sequential([keras.Input((3,)), layers.Dense(2, name="a")]), show_trainable=True
    )
    # Keras 3.15.1's own line, for a terminal of 80 columns.
    assert table.splitlines()[1] == TRAINABLE


TRAINABLE = "┏━━━━━━━━━━━━━━━━━━━━━━━━━━━━━┳━━━━━━━━━━━━━━━━━━━━━━━┳━━━━━━━━━━━━┳━━━━━━━┓"
"""As Keras draws it."""
