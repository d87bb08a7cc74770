"""Every test starts with fresh names, the default data format and the same random numbers."""

from collections.abc import Iterator

import pytest

from convc import keras


@pytest.fixture(autouse=True)
def fresh_session() -> Iterator[None]:
    keras.backend.clear_session()
    keras.utils.set_random_seed(7)
    yield
    keras.backend.set_image_data_format("channels_last")
