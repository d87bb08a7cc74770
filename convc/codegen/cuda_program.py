"""A whole program as CUDA C++: its kernels, and for each entry a function that launches them in order on a stream."""

from __future__ import annotations

from collections.abc import Mapping

from convc.codegen.cuda import generate
from convc.codegen.cuda_expr import ExpressionWriter
from convc.codegen.cuda_kernel import printable
from convc.codegen.cuda_prelude import C_TYPES
from convc.errors import IRError
from convc.loops.ir import Buffer, Kernel, Role, index
from convc.program.ir import REQUIRE, Argument, Entry, Port, Program, Region, RegionKind, Step
from convc.target import Target
from convc.types import Extent

_AT = """\
template <class T> static const T *convc_at(const void *base, int64_t offset) {
  return reinterpret_cast<const T *>(static_cast<const char *>(base) + offset);
}
template <class T> static T *convc_at(void *base, int64_t offset) {
  return reinterpret_cast<T *>(static_cast<char *>(base) + offset);
}
"""


def generate_program(program: Program, target: Target) -> str:
    """The source of a scheduled and planned program for a GPU.

    Each entry becomes `convc_run_ENTRY(weights, workspace, inputs, outputs, symbols, stream)` on device memory, and
    `convc_workspace_ENTRY(symbols)`, the bytes of its workspace. IRError where memory isn't planned yet.
    """
    used = {step.kernel for entry in program.entries for step in entry.steps}
    kernels = [k for name, k in program.kernels.items() if name in used]
    head = f"// {printable(program.name)}, for {target.cpu} ({target.name})\n"
    entries = [_Entry(program, entry).write() for entry in program.entries]
    return "\n".join([head + generate(kernels), _AT, *entries])


class _Entry:
    """One entry's functions."""

    def __init__(self, program: Program, entry: Entry) -> None:
        self.program, self.entry = program, entry
        self.regions: Mapping[str, Region] = {r.name: r for r in program.regions}
        self.expr = ExpressionWriter({}, lambda name: name)

    def write(self) -> str:
        name = self.entry.name
        used = {s for step in self.entry.steps for s in self.kernel(step).symbols}
        used |= {s for a in self.arguments() for s in _symbols(self.offset(a))}
        body = [*self.symbols(used), "  cudaError_t status;"]
        for step in self.entry.steps:
            body += self.launch(step)
        comments = [f"// {line}" for line in self.ports()]
        return "\n".join(
            [
                *comments,
                f'extern "C" int64_t convc_workspace_{name}(const int64_t *symbols) {{',
                *(self.symbols(_symbols(self.program.arena)) or ["  (void)symbols;"]),
                f"  return {self.bytes(self.program.arena)};",
                "}\n",
                f'extern "C" cudaError_t convc_run_{name}(',
                "    const void *weights, void *workspace, const void *const *inputs, void *const *outputs,",
                "    const int64_t *symbols, cudaStream_t stream) {",
                *(f"  (void){unused};" for unused in self.unused(used)),
                *body,
                "  return cudaSuccess;",
                "}\n",
            ]
        )

    def kernel(self, step: Step) -> Kernel:
        return self.program.kernels[step.kernel]

    def arguments(self) -> list[Argument]:
        return [a for step in self.entry.steps for a in step.args]

    def ports(self) -> list[str]:
        """What the caller brings memory for: a requirement is an output, which says whether the results count."""
        inputs = [
            f"input {i}: {printable(p.name)} {p.type}" for i, p in enumerate(self.entry.inputs)
        ]
        outputs = [
            f"output {i}: false where the results don't count: {printable(p.name.removeprefix(REQUIRE))}"
            if p.is_requirement
            else f"output {i}: {printable(p.name)} {p.type}"
            for i, p in enumerate(self.entry.outputs)
        ]
        return [*inputs, *outputs]

    def symbols(self, used: set[str]) -> list[str]:
        """Names for the symbols' values, which come in the program's order."""
        return [
            f"  const int64_t {s} = symbols[{i}];"
            for i, s in enumerate(self.program.symbols)
            if s in used
        ]

    def unused(self, symbols: set[str]) -> list[str]:
        """The parameters that this entry does without."""
        kinds = {self.regions[a.region].kind for a in self.arguments()}
        found = {
            "weights": RegionKind.weight in kinds,
            "workspace": RegionKind.arena in kinds,
            "inputs": RegionKind.input in kinds,
            "outputs": RegionKind.output in kinds,
            "symbols": bool(symbols),
        }
        return [name for name, needed in found.items() if not needed]

    def launch(self, step: Step) -> list[str]:
        kernel = self.kernel(step)
        places = [self.place(b, a) for b, a in zip(kernel.params, step.args, strict=True)]
        values = ", ".join([*places, *kernel.symbols, "stream"])
        comment = [f"  // {printable(', '.join(step.layers))}"] if step.layers else []
        return [
            *comment,
            f"  status = convc_launch_{kernel.name}({values});",
            "  if (status != cudaSuccess) return status;",
        ]

    def place(self, buffer: Buffer, argument: Argument) -> str:
        """A parameter's address."""
        region = self.regions[argument.region]
        match region.kind:
            case RegionKind.input:
                base = f"inputs[{self.port(self.entry.inputs, region)}]"
            case RegionKind.output:
                base = f"outputs[{self.port(self.entry.outputs, region)}]"
            case RegionKind.weight:
                base = "weights"
            case RegionKind.arena:
                base = "workspace"
        if buffer.role is not Role.in_ and region.kind in (RegionKind.input, RegionKind.weight):
            raise IRError(
                f"program {self.program.name}: a kernel writes to the {region.kind.value} {region.name}"
            )
        return f"convc_at<{C_TYPES[buffer.dtype]}>({base}, {self.bytes(self.offset(argument))})"

    def port(self, ports: tuple[Port, ...], region: Region) -> int:
        for i, port in enumerate(ports):
            if port.region == region.name:
                return i
        raise IRError(
            f"entry {self.entry.name}: no port is in the {region.kind.value} region {region.name}"
        )

    def offset(self, argument: Argument) -> Extent:
        """Bytes from the start of the region's memory."""
        region = self.regions[argument.region]
        if region.kind in (RegionKind.input, RegionKind.output):
            return argument.offset
        if region.offset is None:
            raise IRError(
                f"program {self.program.name}: the region {region.name} has no offset: plan memory first"
            )
        return region.offset + argument.offset

    def bytes(self, extent: Extent) -> str:
        return self.expr.text(index(extent))


def _symbols(extent: Extent) -> set[str]:
    return set() if isinstance(extent, int) else set(extent.symbols)
