"""The support code is freestanding, named after its model, and asks the CPU what the target needs."""

from __future__ import annotations

import ctypes
from dataclasses import replace

import pytest
from convc_runtime.memory import map_code

from convc.codegen.link import link, undefined_symbols
from convc.codegen.llvmc import host_cpu
from convc.codegen.support import _CPUID, required_features, support_ir, support_object
from convc.errors import TargetError
from convc.target import TARGETS, Target

_CPUS = [t for t in TARGETS.values() if t.kind == "cpu"]


@pytest.mark.parametrize("target", _CPUS, ids=lambda t: t.name)
def test_it_needs_nothing_from_outside(target: Target) -> None:
    code = support_object(target, "digits")
    assert undefined_symbols(code) == ()
    names = link([code]).symbols
    assert {"digits_run", "digits_check", "digits_invoke", "digits_pool_for"} <= set(names)
    assert all(n.startswith("digits_") for n in names)


def test_the_check_finds_exactly_what_the_cpu_lacks() -> None:
    has = host_cpu()[1]
    target = replace(TARGETS["x86-64-v2"], features=tuple(_CPUID))
    image = link([support_object(target, "m")])
    memory = map_code(image.code)
    missing = ctypes.CFUNCTYPE(ctypes.c_uint64)(memory.address + image.symbols["m_check"])()
    found = {f for i, f in enumerate(required_features(target)) if missing >> i & 1}
    assert found == set(_CPUID) - has


def test_every_target_can_be_checked() -> None:
    for target in _CPUS:
        assert set(required_features(target)) <= set(_CPUID) | {"neon"}


def test_an_unknown_feature_is_refused() -> None:
    target = replace(TARGETS["x86-64-v2"], features=("sse3", "frobnicate"))
    with pytest.raises(TargetError, match="no CPU check is known for frobnicate"):
        support_ir(target, "m")


def test_a_gpu_has_no_native_code() -> None:
    with pytest.raises(TargetError, match="cuda-sm80: native code is made for x86_64, aarch64"):
        support_ir(TARGETS["cuda-sm80"], "m")
