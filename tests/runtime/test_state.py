"""A context's state: first values, names in logical order, and files that are whole and the model's own, or refused."""

from __future__ import annotations

import zlib
from dataclasses import replace
from pathlib import Path

import convc_runtime
import numpy as np
import pytest
from convc_runtime import Description, InputError, State, StateError, StateInfo, WriteError
from convc_runtime.description import from_json, to_json
from convc_runtime.memory import zeroed
from convc_runtime.state import state_fingerprint

STATES = (
    StateInfo("dense/kernel", "float32", (3, 5), 0, (4, 12), "parameter"),  # transposed
    StateInfo("metrics/loss/0", "float32", (2,), 64, (4,), "metric"),
    StateInfo("iterations", "int64", (), 128, (), "control"),
)
FIRST = np.zeros(72, np.uint8)
FIRST[:60].view(np.float32)[:] = np.arange(15)
FIRST[64:68].view(np.float32)[:] = 7
WEIGHTS = np.concatenate([np.full(64, 255, np.uint8), FIRST])
DESCRIPTION = Description(
    "tiny", "tiny", "x86-64", (), (), (), states=STATES, initial_offset=64, initial_size=72
)


@pytest.fixture
def state() -> State:
    return State(DESCRIPTION, WEIGHTS)


def changed() -> State:
    """A state with other values than the first."""
    other = State(DESCRIPTION, WEIGHTS)
    other.set("dense/kernel", np.arange(15.0, dtype=np.float32).reshape(3, 5) / 4)
    other.set("metrics/loss/0", np.array([1, 2], np.float32))
    other.set("iterations", 2**40)
    return other


def test_a_state_begins_with_the_first_values_in_the_model_s_order(state: State) -> None:
    np.testing.assert_array_equal(state.get("dense/kernel"), np.arange(15).reshape(5, 3).T)
    np.testing.assert_array_equal(state.get("metrics/loss/0"), [7, 0])
    assert state.get("iterations") == 0


def test_resets(state: State) -> None:
    other = changed()
    other.reset_metrics()
    np.testing.assert_array_equal(other.get("metrics/loss/0"), [7, 0])
    assert other.get("iterations") == 2**40
    other.reset()
    assert other.state_bytes() == state.state_bytes()


def test_what_is_saved_comes_back(state: State, tmp_path: Path) -> None:
    other = changed()
    other.save_state(tmp_path / "a.state")
    state.load_state(tmp_path / "a.state")
    for info in STATES:
        np.testing.assert_array_equal(state.get(info.name), other.get(info.name))
    assert [p.name for p in tmp_path.iterdir()] == ["a.state"]
    again = State(DESCRIPTION, WEIGHTS)
    again.set_state_bytes(other.state_bytes())
    assert again.state_bytes() == (tmp_path / "a.state").read_bytes()


def test_the_format(state: State) -> None:
    data = state.state_bytes()
    assert data[:12] == b"CVCSTATE\x01\0\0\0"
    assert int.from_bytes(data[16:24], "little") == len(data) == 64 + 64 + 8 + 8
    assert int.from_bytes(data[12:16], "little") == zlib.crc32(data[:12] + bytes(4) + data[16:])
    assert data[24:56] == state_fingerprint(DESCRIPTION)
    kernel = np.arange(15, dtype="<f4").reshape(5, 3).T
    assert data[64:124] == kernel.tobytes()


def test_no_altered_byte_is_taken_over(state: State) -> None:
    data, before = bytearray(changed().state_bytes()), state.state_bytes()
    for position in range(len(data)):
        data[position] ^= 1 << position % 8
        with pytest.raises(StateError):
            state.set_state_bytes(bytes(data))
        data[position] ^= 1 << position % 8
    assert state.state_bytes() == before


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not a saved state"),
        (b"CVCMODEL" + bytes(80), "not a saved state"),
        (changed().state_bytes()[:40], "truncated: 40 bytes, expected at least 64"),
        (changed().state_bytes()[:-8], "truncated: 136 bytes, expected 144"),
        (changed().state_bytes() + b"x", "altered: 145 bytes, expected 144"),
        (b"CVCSTATE\x02" + changed().state_bytes()[9:], "format version 2, this runtime reads 1"),
    ],
)
def test_damaged_files_are_refused(data: bytes, message: str, state: State, tmp_path: Path) -> None:
    (tmp_path / "bad.state").write_bytes(data)
    with pytest.raises(StateError, match=f"bad.state: {message}"):
        state.load_state(tmp_path / "bad.state")


@pytest.mark.parametrize(
    "other",
    [
        replace(DESCRIPTION, name="other"),
        replace(DESCRIPTION, states=(replace(STATES[0], shape=(5, 3)), *STATES[1:])),
        replace(DESCRIPTION, states=(replace(STATES[0], name="dense/weight"), *STATES[1:])),
    ],
)
def test_another_model_s_state_is_refused(other: Description, state: State) -> None:
    with pytest.raises(StateError, match="another model's state: its fingerprint is"):
        state.set_state_bytes(State(other, WEIGHTS).state_bytes())


def test_where_a_state_lies_doesn_t_matter(state: State) -> None:
    elsewhere = (replace(STATES[0], offset=192, strides=(20, 4)), *STATES[1:])
    moved = State(replace(DESCRIPTION, states=elsewhere), WEIGHTS)
    moved.set_state_bytes(state.state_bytes())
    np.testing.assert_array_equal(moved.get("dense/kernel"), state.get("dense/kernel"))


def test_errors_name_the_file_and_the_state(state: State, tmp_path: Path) -> None:
    with pytest.raises(StateError, match=r"can't read .*none.state: No such file"):
        state.load_state(tmp_path / "none.state")
    with pytest.raises(WriteError, match=r"can't write .*a.state: No such file"):
        state.save_state(tmp_path / "none" / "a.state")
    with pytest.raises(InputError, match="no state 'dense/kernal': expected one of dense/kernel"):
        state.get("dense/kernal")
    with pytest.raises(InputError, match="state iterations: 9223372036854775808 is no int64"):
        state.set("iterations", 2**63)


def test_the_description_keeps_what_states_are() -> None:
    assert from_json(to_json(DESCRIPTION)) == DESCRIPTION
    assert convc_runtime.State is State


def test_fresh_memory_is_zeros_in_pages_and_goes_with_its_array() -> None:
    for size in (0, 3 * 4096 + 5, (1 << 20) + 5):
        array = zeroed(size)
        assert array.size == size
        assert not size or array.ctypes.data % 4096 == 0
        assert not array.any()
        array[:] = 7
        assert not zeroed(size).any()
        assert (array == 7).all()
    with pytest.raises(MemoryError):
        zeroed(1 << 60)
    with pytest.raises(MemoryError):
        zeroed(1 << 70)


def test_a_new_state_is_the_first_values_and_zeros() -> None:
    other = changed()
    del other
    new = State(DESCRIPTION, WEIGHTS)
    reset = changed()
    reset.reset()
    assert new.state_bytes() == reset.state_bytes()
