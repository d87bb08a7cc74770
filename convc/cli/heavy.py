"""What `--help` must not load: parts of convc that are imported when they are first used."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from convc import driver, scripts
else:

    class OnFirstUse:
        """Stands for a module until one of its attributes is wanted."""

        def __init__(self, name: str) -> None:
            self._name = name

        def __getattr__(self, attribute: str) -> object:
            return getattr(importlib.import_module(self._name), attribute)

    driver = OnFirstUse("convc.driver")
    scripts = OnFirstUse("convc.scripts")

__all__ = ["driver", "scripts"]
