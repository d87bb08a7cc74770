"""The native support code of a model: thread pool, C ABI, guarded calls and CPU check, as LLVM IR.

It is written in the `.ll` files beside this one, with names that start with `model`; here they get
the model's own identifier, so that several models live in one program, the times that the pool goes
by are added, and the CPU check is written from the target's features. It is compiled for the
baseline of the target's instruction set, since the check must run anywhere.
"""

from __future__ import annotations

import re
from dataclasses import replace
from importlib import resources

from convc.codegen.llvmc import compile_object
from convc.errors import TargetError
from convc.target import Target

# LLVM feature -> CPUID leaf, subleaf, register (0 eax, 1 ebx, 2 ecx, 3 edx), bit, and the states in XCR0 that
# the operating system must save. Intel SDM volume 2A, CPUID; volume 1, 13.1 (SSE and AVX state 0x6, AVX-512 0xe0,
# AMX 0x60000).
_AVX, _AVX512, _AMX = 0x6, 0xE6, 0x60000
_CPUID = {
    "sse3": (1, 0, 2, 0, 0),
    "ssse3": (1, 0, 2, 9, 0),
    "sse4.1": (1, 0, 2, 19, 0),
    "sse4.2": (1, 0, 2, 20, 0),
    "popcnt": (1, 0, 2, 23, 0),
    "fma": (1, 0, 2, 12, _AVX),
    "avx": (1, 0, 2, 28, _AVX),
    "f16c": (1, 0, 2, 29, _AVX),
    "bmi": (7, 0, 1, 3, 0),
    "avx2": (7, 0, 1, 5, _AVX),
    "bmi2": (7, 0, 1, 8, 0),
    "avx512f": (7, 0, 1, 16, _AVX512),
    "avx512dq": (7, 0, 1, 17, _AVX512),
    "avx512cd": (7, 0, 1, 28, _AVX512),
    "avx512bw": (7, 0, 1, 30, _AVX512),
    "avx512vl": (7, 0, 1, 31, _AVX512),
    "avx512vbmi": (7, 0, 2, 1, _AVX512),
    "avx512vnni": (7, 0, 2, 11, _AVX512),
    "avx512fp16": (7, 0, 3, 23, _AVX512),
    "avx512bf16": (7, 1, 0, 5, _AVX512),
    "avxvnni": (7, 1, 0, 4, _AVX),
    "amx-bf16": (7, 0, 3, 22, _AMX),
    "amx-tile": (7, 0, 3, 24, _AMX),
    "amx-int8": (7, 0, 3, 25, _AMX),
    "lzcnt": (0x80000001, 0, 2, 5, 0),
}
_BASELINE = {"x86_64": "x86-64", "aarch64": "generic"}
# Always there on the instruction set that has them: nothing to check.
_ARCHITECTURAL = {"aarch64": ("neon",)}

# What the pool goes by, in nanoseconds of one thread: an entry's steps are shared from the first on while workers are
# awake (less disturbs two cores' caches for nothing), and from the second on where they have to be woken; a step's
# shares are taken in eighths, not quarters, from the third on.
_TIMES = {"awake": 30_000, "waking": 100_000, "eighths": 100_000}


def instruction_set(target: Target) -> str:
    """The first word of the target's triple, where native code for it can be made: TargetError otherwise."""
    name = target.triple.partition("-")[0]
    if name not in _BASELINE:
        raise TargetError(
            f"target {target.name}: native code is made for {', '.join(_BASELINE)}, not for {name}"
        )
    return name


def support_ir(target: Target, identifier: str) -> str:
    """The support code as LLVM IR; functions are `<identifier>_pool_create` and so on."""
    name = instruction_set(target)
    text = (
        _read("support.ll")
        + _read("abi.ll")
        + _read(f"support_{name}.ll")
        + _times_ir()
        + _check_ir(target, name)
    )
    return re.sub(r"@model_", f"@{identifier}_", text)


def support_object(target: Target, identifier: str) -> bytes:
    """The support code compiled for the baseline of the target's instruction set.

    Without LLVM's middle end, which would make it no faster, take three times as long and turn a loop
    into a call of memset.
    """
    return compile_object(support_ir(target, identifier), baseline(target))


def baseline(target: Target) -> Target:
    """The target without any feature that some CPU of its instruction set lacks."""
    name = instruction_set(target)
    return replace(target, name=name, cpu=_BASELINE[name], features=_ARCHITECTURAL.get(name, ()))


def required_features(target: Target) -> tuple[str, ...]:
    """The features that the check asks for; the i-th one is bit i of its result."""
    always = _ARCHITECTURAL.get(instruction_set(target), ())
    return tuple(f for f in target.features if f not in always)


def _read(name: str) -> str:
    return resources.files("convc.codegen").joinpath(name).read_text()


def _times_ir() -> str:
    """`i64 model_awake_nanoseconds()` and so on."""
    return "".join(
        f"define internal i64 @model_{name}_nanoseconds() {{\n  ret i64 {value}\n}}\n\n"
        for name, value in _TIMES.items()
    )


def _check_ir(target: Target, instruction_set: str) -> str:
    """`i64 model_check()`: bit i is set if the i-th required feature is missing."""
    features = required_features(target)
    unknown = [f for f in features if instruction_set != "x86_64" or f not in _CPUID]
    if unknown:
        raise TargetError(f"target {target.name}: no CPU check is known for {', '.join(unknown)}")
    if len(features) > 64:
        raise TargetError(
            f"target {target.name}: {len(features)} features, the CPU check has room for 64"
        )
    lines = ["define hidden i64 @model_check() {"]
    total = "0"
    for i, feature in enumerate(features):
        leaf, subleaf, register, bit, states = _CPUID[feature]
        lines.append(
            f"  %l{i} = call i64 @model_lacks(i32 {leaf}, i32 {subleaf}, i32 {register}, "
            f"i32 {bit}, i32 {states}, i64 {1 << i})"
        )
        lines.append(f"  %t{i} = or i64 {total}, %l{i}")
        total = f"%t{i}"
    lines += [f"  ret i64 {total}", "}", ""]
    return "\n".join(lines)
