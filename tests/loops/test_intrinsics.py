"""The meaning of the special instructions, apart from any interpreter of statements."""

from __future__ import annotations

import numpy as np
import pytest

from convc.loops import intrinsics
from convc.loops.intrinsics import INTRINSICS, AsyncCopies, contiguous, problems
from convc.loops.ir import INDEX, Axis, Buffer, Const, Intrinsic, Layout, Space, Window
from convc.types import DType

ZERO = Const(0, INDEX)


def window(buffer: str, *sizes: int) -> Window:
    return Window(buffer, (ZERO,) * len(sizes), sizes)


@pytest.mark.parametrize(
    ("name", "dtype"), [("mma_m16n8k16_f16", "float16"), ("mma_m16n8k16_bf16", "bfloat16")]
)
def test_mma_of_fragments_is_the_matrix_product(name: str, dtype: str) -> None:
    rng = np.random.default_rng(0)
    half = DType(dtype).numpy
    a = rng.integers(-8, 8, (16, 16)).astype(half)
    b = rng.integers(-8, 8, (16, 8)).astype(half)
    c = rng.integers(-8, 8, (16, 8)).astype(np.float32)
    of_a, of_b, of_c = intrinsics.FRAGMENT_A, intrinsics.FRAGMENT_B, intrinsics.FRAGMENT_C
    (result,) = INTRINSICS[name].interpret(
        c[of_c[..., 0], of_c[..., 1]], a[of_a[..., 0], of_a[..., 1]], b[of_b[..., 0], of_b[..., 1]]
    )
    expected = c + a.astype(np.float32) @ b.astype(np.float32)
    np.testing.assert_array_equal(result, expected[of_c[..., 0], of_c[..., 1]])


def test_every_element_of_a_matrix_is_in_exactly_one_fragment_place() -> None:
    for places, rows, columns in (
        (intrinsics.FRAGMENT_A, 16, 16),
        (intrinsics.FRAGMENT_B, 16, 8),
        (intrinsics.FRAGMENT_C, 16, 8),
    ):
        flat = places[..., 0] * columns + places[..., 1]
        assert sorted(flat.ravel().tolist()) == list(range(rows * columns))


def test_ldmatrix_of_the_sixteen_rows_is_fragment_a() -> None:
    a = np.arange(256, dtype=np.float16).reshape(16, 16)
    rows = np.stack([a[lane % 16, lane // 16 * 8 :][:8] for lane in range(32)])
    (loaded,) = INTRINSICS["ldmatrix_x4"].interpret(np.zeros((32, 8), np.float16), rows)
    places = intrinsics.FRAGMENT_A
    np.testing.assert_array_equal(loaded, a[places[..., 0], places[..., 1]])


def test_transposed_ldmatrix_gives_two_fragments_b() -> None:
    b = np.arange(256, dtype=np.float16).reshape(16, 16)
    rows = np.stack([b[lane % 16, lane // 16 * 8 :][:8] for lane in range(32)])
    (loaded,) = INTRINSICS["ldmatrix_x4_trans"].interpret(np.zeros((32, 8), np.float16), rows)
    places = intrinsics.FRAGMENT_B
    np.testing.assert_array_equal(loaded[:, :4], b[:, :8][places[..., 0], places[..., 1]])
    np.testing.assert_array_equal(loaded[:, 4:], b[:, 8:][places[..., 0], places[..., 1]])


def test_shuffle_xor_exchanges_between_partners() -> None:
    lanes = np.arange(32, dtype=np.float32).reshape(32, 1)
    (got,) = INTRINSICS["shuffle_xor_4"].interpret(np.zeros_like(lanes), lanes)
    assert got[[0, 4, 27], 0].tolist() == [4, 0, 31]


def test_async_copies_appear_when_their_group_is_waited_for() -> None:
    seen: list[int] = []
    copies = AsyncCopies()
    for group in range(3):
        copies.issue(lambda group=group: seen.append(group))  # type: ignore[misc]
        copies.commit()
    copies.wait(1)
    assert seen == [0, 1]
    copies.wait(0)
    assert seen == [0, 1, 2]


def test_problems_name_the_operand_and_what_it_should_be() -> None:
    buffers = {
        "c": Buffer("c", DType.float32, (4,), space=Space.register),
        "a": Buffer("a", DType.float16, (8,), space=Space.register),
        "b": Buffer("b", DType.float16, (8,), space=Space.shared),
    }
    good = Intrinsic("mma_m16n8k16_f16", (window("c", 4), window("a", 8), window("a", 4)))
    assert problems(good, buffers) == []
    bad = Intrinsic("mma_m16n8k16_f16", (window("c", 2), window("c", 8), window("b", 4)))
    assert problems(bad, buffers) == [
        "mma_m16n8k16_f16, operand c (c): expected a window of 4 elements, got 2",
        "mma_m16n8k16_f16, operand a (c): expected float16, got float32",
        "mma_m16n8k16_f16, operand b (b): expected a buffer in register, got shared",
    ]
    assert "unknown special instruction 'mmma'" in problems(Intrinsic("mmma", ()), buffers)[0]
    assert problems(Intrinsic("atomic_add", ()), buffers) == ["atomic_add takes 2 windows, 0 given"]


def test_windows_must_be_neighbours_in_memory() -> None:
    dense = Buffer("x", DType.float16, (4, 8))
    assert contiguous(dense, (1, 8))
    assert contiguous(dense, (2, 8))
    assert not contiguous(dense, (2, 4))
    assert not contiguous(dense, (4, 1))
    pitched = Buffer(
        "x", DType.float16, (4, 8), Layout((Axis(0), Axis(1, extent=12)), ((0, 0), (0, 0)))
    )
    assert contiguous(pitched, (1, 8))
    assert not contiguous(pitched, (2, 8))
    blocked = Buffer(
        "x", DType.float16, (64,), Layout((Axis(0, divide=8), Axis(0, modulus=8)), ((0, 0),))
    )
    assert contiguous(blocked, (8,))
    assert not contiguous(blocked, (16,))
