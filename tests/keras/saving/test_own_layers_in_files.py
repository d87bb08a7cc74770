"""Files with layers of the user's own on the command line: the advice that the error gives works."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convc import keras, scripts
from convc.errors import UnsupportedError
from convc.keras import layers

pytest.importorskip("h5py")

SCRIPT = """
import keras

class Twice(keras.layers.Layer):
    def call(self, x):
        return x * 2

model = keras.models.load_model({path!r}, custom_objects={{"Twice": Twice}})
"""


class Twice(keras.layers.Layer):
    def call(self, x: Any) -> Any:
        return x * 2


def test_a_script_stands_for_a_file_with_own_layers(tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((3,)), Twice(name="t"), layers.Dense(2)])
    path = tmp_path / "own.keras"
    model.save(path)
    with pytest.raises(
        UnsupportedError, match=r"layer 't' .* a script that does so: model = "
    ) as e:
        scripts.load_model(str(path))
    assert "\n" not in str(e.value)
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(path=str(path)))
    again: Any = scripts.load_model(str(script))
    x = np.ones((2, 3), np.float32)
    np.testing.assert_array_equal(again.predict(x, verbose=0), model.predict(x, verbose=0))
