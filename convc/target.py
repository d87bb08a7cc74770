"""Targets: data only. What a schedule or a generator may know of a machine stands here."""

from __future__ import annotations

from dataclasses import dataclass

from convc.errors import TargetError


@dataclass(frozen=True)
class Target:
    """A machine that code is generated for.

    `vector_bytes` and `vector_registers` decide register tiles; cache sizes are bytes per core (l1, l2) and shared
    (l3); `dot` names the packs that the machine multiplies in one instruction.
    """

    name: str
    kind: str  # "cpu" or "cuda"
    triple: str
    cpu: str
    features: tuple[str, ...]
    vector_bytes: int
    vector_registers: int
    pointer_bits: int = 64
    l1: int = 32 << 10
    l2: int = 1 << 20
    l3: int = 16 << 20
    fma: bool = True
    dot: tuple[str, ...] = ()

    @property
    def scaling(self) -> bool:
        """True if one instruction multiplies vectors of floats by powers of two."""
        return "avx512f" in self.features

    def lanes(self, itemsize: int) -> int:
        """Elements of a vector register."""
        return max(1, self.vector_bytes // itemsize)


_V2 = ("sse3", "ssse3", "sse4.1", "sse4.2", "popcnt")
_AVX2 = (*_V2, "avx", "avx2", "fma", "f16c", "bmi", "bmi2")
_AVX512 = (*_AVX2, "avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl")
_LINUX_X86 = "x86_64-unknown-linux-gnu"

TARGETS: dict[str, Target] = {
    t.name: t
    for t in (
        Target("x86-64-v2", "cpu", _LINUX_X86, "x86-64", _V2, 16, 16, fma=False),
        Target("x86-64-avx2", "cpu", _LINUX_X86, "x86-64", _AVX2, 32, 16),
        Target("x86-64-avx512", "cpu", _LINUX_X86, "x86-64", _AVX512, 64, 32),
        Target(
            "x86-64-avx512-vnni-bf16",
            "cpu",
            _LINUX_X86,
            "x86-64",
            (*_AVX512, "avx512vnni", "avx512bf16"),
            64,
            32,
            dot=("dot_u8s8", "dot_bf16"),
        ),
        Target("aarch64-neon", "cpu", "aarch64-unknown-linux-gnu", "generic", ("neon",), 16, 32),
        Target("cuda-sm80", "cuda", "nvptx64-nvidia-cuda", "sm_80", (), 16, 255),
        Target("cuda-sm90", "cuda", "nvptx64-nvidia-cuda", "sm_90", (), 16, 255),
    )
}

# Widest first: the host gets the first whose features it has.
_HOST_CHOICES = ("x86-64-avx512-vnni-bf16", "x86-64-avx512", "x86-64-avx2", "x86-64-v2")


def target(name: str, host_features: frozenset[str] = frozenset()) -> Target:
    """A target by name; "host" is the best that a machine with these features runs. TargetError otherwise."""
    if name == "host":
        for choice in _HOST_CHOICES:
            if set(TARGETS[choice].features) <= host_features:
                return TARGETS[choice]
        missing = ", ".join(f for f in _V2 if f not in host_features)
        raise TargetError(f"this machine's CPU lacks {missing}, which every target for it needs")
    if name not in TARGETS:
        raise TargetError(f"unknown target {name!r}: expected host, {', '.join(TARGETS)}")
    return TARGETS[name]
