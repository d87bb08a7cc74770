"""Damage to ONNX models: to the bytes of a file, and to the fields of its messages."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

import onnx
from google.protobuf.descriptor import FieldDescriptor  # type: ignore[import-untyped]
from onnx import defs

OPERATORS = sorted({s.name for s in defs.get_all_schemas() if s.domain == ""})
NUMBERS = (
    0, 1, -1, 2, 3, 5, 7, 16, 17, 1000, -1000, 65536, (1 << 31) - 1, 1 << 31, -(1 << 31), 1 << 32, 1 << 40,
    (1 << 62), (1 << 63) - 1, -(1 << 63),
)  # fmt: skip
DOUBLES = (0.0, -0.0, 1.0, -1.0, 1e-45, 1e30, -1e30, float("inf"), float("-inf"), float("nan"))
TEXTS = (
    "", "x", "y", "x1", "w2", "v3", "..", "/etc/passwd", "a\nb", "\x00", "é" * 40, "N" * 5000, "com.example",
    "ai.onnx.ml", "sideways", "location", "../w.bin", "1e400",
)  # fmt: skip
MOST_BYTES = 1 << 20


def mutated_bytes(data: bytes, rng: random.Random) -> bytes:
    """Some bytes changed, cut out, doubled or added; or the file cut off."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4))):
        at = rng.randrange(len(changed) + 1)
        match rng.randrange(5):
            case 0:
                del changed[at:]
            case 1:
                del changed[at : at + rng.randrange(1, 9)]
            case 2:
                changed[at:at] = bytes(rng.randrange(256) for _ in range(rng.randrange(1, 9)))
            case 3:
                changed[at:at] = changed[max(0, at - rng.randrange(1, 60)) : at]
            case _:
                for k in range(at, min(at + rng.randrange(1, 4), len(changed))):
                    changed[k] = rng.randrange(256)
    return bytes(changed)


def mutated_model(model: onnx.ModelProto, rng: random.Random) -> onnx.ModelProto:
    """A copy with one to four fields changed."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for _ in range(rng.choice((1, 1, 2, 4))):
        rng.choice(MUTATIONS)(copy, rng)
    return copy


def messages(message: Any, depth: int = 0) -> Iterator[Any]:
    """A message and all inside it, to some depth."""
    yield message
    if depth > 12:
        return
    for field, value in message.ListFields():
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            for inner in value if is_repeated(field) else [value]:
                yield from messages(inner, depth + 1)


def is_repeated(field: Any) -> bool:
    return bool(field.is_repeated)


def some_field(model: onnx.ModelProto, rng: random.Random) -> tuple[Any, Any]:
    """A message and a field of it that is set; deep ones as likely as the model's own."""
    found = [(m, f) for m in messages(model) for f, _ in m.ListFields()]
    return rng.choice(found)


def drawn(field: Any, old: Any, rng: random.Random) -> Any:
    """Another value for a scalar field."""
    match field.cpp_type:
        case FieldDescriptor.CPPTYPE_INT32 | FieldDescriptor.CPPTYPE_ENUM:
            return rng.choice([n for n in NUMBERS if -(1 << 31) <= n < 1 << 31])
        case FieldDescriptor.CPPTYPE_INT64:
            return rng.choice(
                (*NUMBERS, old + 1, old - 1) if -(1 << 62) < old < 1 << 62 else NUMBERS
            )
        case FieldDescriptor.CPPTYPE_UINT64:
            return rng.choice([n for n in NUMBERS if n >= 0])
        case FieldDescriptor.CPPTYPE_FLOAT | FieldDescriptor.CPPTYPE_DOUBLE:
            return rng.choice(DOUBLES)
        case _ if field.type == FieldDescriptor.TYPE_BYTES:
            return mutated_bytes(old, rng)[:MOST_BYTES]
    return rng.choice(TEXTS)


def change(model: onnx.ModelProto, rng: random.Random) -> None:
    """A scalar, or an element of a list of scalars."""
    message, field = some_field(model, rng)
    if field.type == FieldDescriptor.TYPE_MESSAGE:
        return
    value = getattr(message, field.name)
    try:
        if not is_repeated(field):
            setattr(message, field.name, drawn(field, value, rng))
        elif rng.random() < 0.3:
            value.append(drawn(field, value[0], rng))
        else:
            k = rng.randrange(len(value))
            value[k] = drawn(field, value[k], rng)
    except ValueError:  # a number that an enumeration doesn't take
        return


def remove(model: onnx.ModelProto, rng: random.Random) -> None:
    """A field, or an element of a list."""
    message, field = some_field(model, rng)
    if is_repeated(field) and rng.random() < 0.8:
        del getattr(message, field.name)[rng.randrange(len(getattr(message, field.name)))]
    else:
        message.ClearField(field.name)


def repeat(model: onnx.ModelProto, rng: random.Random) -> None:
    """An element of a list once more."""
    message, field = some_field(model, rng)
    if is_repeated(field):
        values = getattr(message, field.name)
        values.extend([values[rng.randrange(len(values))]])


def reorder(model: onnx.ModelProto, rng: random.Random) -> None:
    """Two elements of a list in each other's place."""
    message, field = some_field(model, rng)
    if is_repeated(field):
        values = list(getattr(message, field.name))
        rng.shuffle(values)
        message.ClearField(field.name)
        getattr(message, field.name).extend(values)


def graft(model: onnx.ModelProto, rng: random.Random) -> None:
    """A message of the model in the place of another of its kind."""
    found = list(messages(model))
    target = rng.choice(found)
    source = rng.choice([m for m in found if m.DESCRIPTOR is target.DESCRIPTOR])
    if target.ByteSize() + source.ByteSize() < MOST_BYTES and target is not model:
        copy = type(source)()
        copy.CopyFrom(source)
        target.CopyFrom(copy)


def rename(model: onnx.ModelProto, rng: random.Random) -> None:
    """A node's operator, or a value it reads or gives, becomes another."""
    nodes = [m for m in messages(model) if isinstance(m, onnx.NodeProto)]
    if not nodes:
        return
    node = rng.choice(nodes)
    names = [n for other in nodes for n in (*other.input, *other.output)]
    which = rng.randrange(3)
    if which == 0:
        node.op_type = rng.choice(OPERATORS)
    elif which == 1 and node.input and names:
        node.input[rng.randrange(len(node.input))] = rng.choice(names)
    elif node.output and names:
        node.output[rng.randrange(len(node.output))] = rng.choice(names)


def nest(model: onnx.ModelProto, rng: random.Random) -> None:
    """Graphs in one another, in an attribute of a node."""
    nodes = [m for m in messages(model) if isinstance(m, onnx.NodeProto)]
    if not nodes or model.ByteSize() > MOST_BYTES // 8:
        return
    inner = rng.choice(nodes).attribute.add(name=rng.choice(("body", "then_branch", "else_branch")))
    inner.type = onnx.AttributeProto.GRAPH
    for _ in range(rng.choice((1, 3, 30))):
        node = inner.g.node.add(op_type=rng.choice(("If", "Loop", "Scan")), output=["z"])
        node.input.append(rng.choice(TEXTS))
        inner = node.attribute.add(
            name=rng.choice(("body", "then_branch")), type=onnx.AttributeProto.GRAPH
        )


MUTATIONS: tuple[Callable[[onnx.ModelProto, random.Random], None], ...] = (
    change, change, change, change, remove, repeat, reorder, graft, rename, rename, nest,
)  # fmt: skip
