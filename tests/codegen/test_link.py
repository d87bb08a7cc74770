"""Objects become images that run where they are mapped, and what is not freestanding is refused."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest
from convc_runtime.memory import map_code

from convc.codegen.link import link, patch, undefined_symbols
from convc.codegen.llvmc import assembly, compile_object
from convc.errors import IRError
from convc.target import TARGETS

_BASE = TARGETS["x86-64-v2"]
_ARM = TARGETS["aarch64-neon"]

# A constant vector, a literal vector (in a constant pool of its own), a jump table and a call.
_ADD = """
@offsets = hidden constant [4 x float] [float 1.0, float 2.0, float 3.0, float 4.0]
declare hidden i32 @pick(i32)
define hidden i32 @add(ptr %x, i32 %which) {
  %v = load <4 x float>, ptr %x, align 4
  %o = load <4 x float>, ptr @offsets
  %s = fadd <4 x float> %v, %o
  %t = fmul <4 x float> %s, <float 1.0, float 10.0, float 100.0, float 1000.0>
  store <4 x float> %t, ptr %x, align 4
  %r = call i32 @pick(i32 %which)
  ret i32 %r
}
"""
_PICK = """
define hidden i32 @pick(i32 %which) {
  switch i32 %which, label %other [ i32 0, label %a
    i32 1, label %b
    i32 2, label %c
    i32 3, label %d
    i32 4, label %e ]
a: ret i32 17
b: ret i32 3
c: ret i32 1234
d: ret i32 -5
e: ret i32 99
other: ret i32 0
}
"""


def test_two_objects_run_as_one_image() -> None:
    image = link([compile_object(text, _BASE) for text in (_ADD, _PICK)])
    memory = map_code(image.code)
    add = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p, ctypes.c_int32)(
        memory.address + image.symbols["add"]
    )
    x = np.array([1, 1, 1, 1], np.float32)
    assert [add(x.ctypes.data, i) for i in (0, 1, 2, 3, 4, 5)][2:] == [1234, -5, 99, 0]
    np.testing.assert_array_equal(
        np.array([2, 30, 400, 5000], np.float32), _once(add, np.ones(4, np.float32))
    )


def _once(add: ctypes._CFunctionType, x: np.ndarray) -> np.ndarray:
    assert add(x.ctypes.data, 0) == 17
    return x


def test_the_same_objects_give_the_same_bytes() -> None:
    once, again = (link([compile_object(_PICK, _BASE)]).code for _ in range(2))
    assert once == again


def test_an_aarch64_object_links() -> None:
    image = link([compile_object(text, _ARM) for text in (_ADD, _PICK)])
    assert image.machine == 183
    assert set(image.symbols) == {"add", "pick", "offsets"}


@pytest.mark.parametrize(
    ("kind", "word", "place", "target", "expected"),
    [
        (283, 0x94000000, 16, 32, 0x94000004),  # bl forward 16 bytes
        (283, 0x94000000, 32, 16, 0x97FFFFFC),  # bl back 16 bytes
        (275, 0x90000000, 0, 0x3000, 0xF0000000),  # adrp x0, 3 pages on: low bits 3 at 29
        (277, 0x91000000, 0, 0x3004, 0x91001000),  # add x0, x0, #4
        (299, 0x3DC00000, 0, 0x3020, 0x3DC00800),  # ldr q0, [x0, #32]
    ],
)
def test_aarch64_instructions_are_patched_as_the_manual_says(
    kind: int, word: int, place: int, target: int, expected: int
) -> None:
    code = bytearray(64)
    code[place : place + 4] = word.to_bytes(4, "little")
    patch(183, kind, code, place, target, "x")
    assert int.from_bytes(code[place : place + 4], "little") == expected


def test_an_undefined_symbol_is_named() -> None:
    code = compile_object("declare float @expf(float)\ndefine hidden float @f(float %x) {\n"
                          "  %y = call float @expf(float %x)\n  ret float %y\n}", _BASE)  # fmt: skip
    assert undefined_symbols(code) == ("expf",)
    with pytest.raises(IRError, match="undefined expf"):
        link([code])


def test_an_external_symbol_comes_back_as_a_fixup() -> None:
    code = compile_object("@w = external hidden global i8\n"
                          "define hidden ptr @f() {\n  ret ptr @w\n}", _BASE)  # fmt: skip
    image = link([code], externals=("w",))
    assert [(f.symbol, f.kind, f.addend) for f in image.fixups] == [("w", 2, -4)]


def test_writable_data_is_refused() -> None:
    with pytest.raises(IRError, match=r"writable data: section \.bss"):
        link([compile_object("@counter = hidden global i32 0", _BASE)])


def test_a_symbol_defined_twice_is_refused() -> None:
    code = compile_object(_PICK, _BASE)
    with pytest.raises(IRError, match="pick is defined twice"):
        link([code, code])


@pytest.mark.parametrize("data", [b"", b"MZ" + bytes(100)])
def test_what_is_not_an_object_is_refused(data: bytes) -> None:
    with pytest.raises(IRError, match="not a 64-bit"):
        link([data])


def test_objects_for_two_machines_are_refused() -> None:
    with pytest.raises(IRError, match="several machines"):
        link([compile_object(_PICK, _BASE), compile_object(_ADD, _ARM)])


def test_llvm_errors_name_the_fault() -> None:
    with pytest.raises(IRError, match=r"LLVM refuses the module.*expected"):
        compile_object("define i32 @f( {", _BASE)


def test_assembly_is_text() -> None:
    assert "pick:" in assembly(_PICK, _BASE)
