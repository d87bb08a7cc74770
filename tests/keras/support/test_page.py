"""The page of what of Keras there is says what there is."""

from __future__ import annotations

from tests.keras.support.page import PAGE, page


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text() == page(), "run python -m tests.keras.support.page"
