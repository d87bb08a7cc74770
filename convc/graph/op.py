"""The operator: a frozen dataclass whose fields are its attributes and whose methods are its facets.

Facets, always in this order: `infer`, `reference`, `gradient`, then one of `formula`, `decompose`, `loops` or
`procedure`.
Registering an operator that lacks one is an error that names it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, ClassVar, TypeVar

from convc.errors import ConvcError, UnsupportedError
from convc.graph.form import Forms
from convc.graph.view import View
from convc.types import TensorType


class OpError(ConvcError):
    """What does not fit between an operator, its attributes and its inputs."""

    exit_code = 4


@dataclass(frozen=True)
class Op:
    """Base of all operators. Facets are class variables so that overrides may name their parameters."""

    infer: ClassVar[Callable[..., tuple[TensorType, ...]]]
    """`infer(self, *types)`: the output types, or an OpError that names what does not fit."""

    reference: ClassVar[Callable[..., Any]]
    """`reference(self, *arrays)`: the output array (a tuple for several outputs) in plain numpy: the oracle."""

    gradient: ClassVar[Callable[..., tuple[str | None, ...]]]
    """`gradient(self, builder, inputs, outputs, output_gradients)`: one value per input, emitted through the builder:
    the loss's gradient with respect to it, given those with respect to the outputs. All are values' names.

    An input's gradient is None where it is zero everywhere (an integer input, a comparison); an operator of which all
    are says `gradient = no_gradient`. An output's gradient is None where the loss does not depend on it, which only an
    operator of several outputs can meet. What the caller doesn't need is dropped afterwards."""

    formula: ClassVar[Callable[..., Any] | None] = None
    """`formula(self, *tensors)`: a function from the output's indices to one element's expression."""

    decompose: ClassVar[Callable[..., Any] | None] = None
    """`decompose(self, builder, *values)`: the output values as other operators, emitted through the builder."""

    loops: ClassVar[Callable[..., Any] | None] = None
    """`loops(self, outputs, *inputs)`: statements over buffers, for what no formula can say."""

    procedure: ClassVar[Callable[..., Any] | None] = None
    """`procedure(self, output, workspace, *inputs)`: statements that go back to what they stored, or store where data
    say: sorting, scattering. Each element of the output is stored at least once where only loops decide it; all that
    data decide must lie inside the buffers."""

    workspace: ClassVar[Callable[..., Any] | None] = None
    """Optional: `workspace(self, *types)`: the types of further buffers for `procedure`, undefined at first."""

    permute: ClassVar[Callable[..., Any] | None] = None
    """Optional: `permute(self, perm, *types)`: the operator that maps inputs transposed by `perm` to the output
    transposed by `perm`, or None where there is none."""

    view: ClassVar[Callable[..., View | None] | None] = None
    """Optional: `view(self, *types)`: how the output can be the inputs' memory, or None where it can't."""

    forms: ClassVar[Forms] = Forms()
    """What its inputs and outputs are to an operator of a certain algorithm, where their types don't say so."""

    mnemonic: ClassVar[str] = ""

    @property
    def attributes(self) -> dict[str, Any]:
        return {f.name: getattr(self, f.name) for f in fields(self)}

    def __str__(self) -> str:
        return f"{self.mnemonic}({', '.join(f'{k}={v}' for k, v in self.attributes.items())})"


def no_gradient(
    self: Op,
    builder: Any,
    inputs: tuple[str, ...],
    outputs: tuple[str, ...],
    output_gradients: tuple[str, ...],
) -> tuple[str | None, ...]:
    """The facet `gradient` of operators on integers, booleans and positions, and of step functions."""
    return (None,) * len(inputs)


def unsupported_gradient(
    self: Op,
    builder: Any,
    inputs: tuple[str, ...],
    outputs: tuple[str, ...],
    output_gradients: tuple[str, ...],
) -> tuple[str | None, ...]:
    """The facet `gradient` of operators that only gradients and later passes emit: an UnsupportedError."""
    raise UnsupportedError(f"{self.mnemonic}: this operator can't be differentiated")


OPERATORS: dict[str, type[Op]] = {}
"""Every registered operator by its name in the text format."""

OpType = TypeVar("OpType", bound=type[Op])


def register(cls: OpType) -> OpType:
    """Adds an operator under its class name in snake case; TypeError names a missing facet."""
    for facet in ("infer", "reference", "gradient"):
        if getattr(cls, facet, None) is None:
            raise TypeError(f"operator {cls.__name__} lacks the facet '{facet}'")
    if not (cls.formula or cls.decompose or cls.loops or cls.procedure):
        raise TypeError(
            f"operator {cls.__name__} lacks a facet: 'formula', 'decompose', 'loops' or 'procedure'"
        )
    cls.mnemonic = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", cls.__name__).lower()
    if cls.mnemonic in OPERATORS:
        raise TypeError(f"operator {cls.mnemonic} is registered twice")
    OPERATORS[cls.mnemonic] = cls
    return cls
