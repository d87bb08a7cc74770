"""What every test starts from: a compile cache of its own session, a compiler that verifies after every step, and
threads that share every step, however small."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest
from convc_runtime.pool import Pool

# A shell that starts the tests in the background has their children ignore Ctrl-C, which some tests are about.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def surroundings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CONVC_VERIFY", "1")
        patch.setattr(Pool, "eager", True)
        if "CONVC_CACHE_DIR" not in os.environ:
            patch.setenv("CONVC_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        yield
