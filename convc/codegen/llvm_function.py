"""A function under construction in LLVM's text format: blocks, nested levels and values that move to outer levels."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class BasicBlock:
    label: str
    lines: list[str] = field(default_factory=list)
    terminator: str = "unreachable"


@dataclass
class Level:
    """A loop body or branch. While an inner level is written, an outer one stays open at its end: what doesn't
    depend on the inner one is computed there. `known` maps a key to the value computed for it."""

    block: BasicBlock
    known: dict[object, str] = field(default_factory=dict)


class Function:
    """The text of one function. Values are numbered %v0, %v1, …; `has_half`: the machine converts float16."""

    def __init__(self, header: str, has_half: bool = False) -> None:
        self.header = header
        self.has_half = has_half
        self.blocks: list[BasicBlock] = []
        self.levels: list[Level] = []
        self.allocas: list[str] = []
        self._values = 0
        self._labels = 0
        self._places: dict[str, tuple[list[str], int]] = {}  # of the line of each value
        self.push(self.new_block("entry"))

    def new_block(self, hint: str) -> BasicBlock:
        block = BasicBlock(f"{hint}{self._labels}")
        self._labels += 1
        self.blocks.append(block)
        return block

    def push(self, block: BasicBlock) -> None:
        """Opens an inner level whose code starts in the block."""
        self.levels.append(Level(block))

    def pop(self) -> None:
        self.levels.pop()

    @property
    def depth(self) -> int:
        return len(self.levels) - 1

    @property
    def block(self) -> BasicBlock:
        """The block that code is being added to."""
        return self.levels[-1].block

    def continue_in(self, block: BasicBlock) -> None:
        """Goes on with the innermost level in another block."""
        self.levels[-1].block = block

    def value(self) -> str:
        name = f"%v{self._values}"
        self._values += 1
        return name

    def emit(self, text: str, depth: int | None = None) -> str:
        """Adds an instruction that has a result, at an outer level if asked, and names its value."""
        name = self.value()
        lines = self.levels[-1 if depth is None else depth].block.lines
        self._places[name] = lines, len(lines)
        lines.append(f"{name} = {text}")
        return name

    def once(self, text: str, depth: int | None = None) -> str:
        """Like `emit`, but the same text at the same or an outer level gives the same value again."""
        at = self.depth if depth is None else depth
        for level in self.levels[: at + 1]:
            known = level.known.get(text)
            if known is not None:
                return known
        name = self.emit(text, at)
        self.levels[at].known[text] = name
        return name

    def find(self, key: object) -> str | None:
        """The value that was remembered under a key at this or an outer level."""
        for level in self.levels:
            known = level.known.get(key)
            if known is not None:
                return known
        return None

    def remember(self, key: object, value: str) -> None:
        """Keeps a value for `find` until the innermost level ends."""
        self.levels[-1].known[key] = value

    def do(self, text: str) -> None:
        """Adds an instruction without a result."""
        self.block.lines.append(text)

    def settle(self, pointer: str) -> None:
        """Makes LLVM take a computed pointer as it is, for all that is addressed from it.

        Loop strength reduction weighs every way to address each access of a loop: nine tenths of the time of LLVM for
        a depthwise convolution, to find what the generator wrote. A frozen pointer has no form to take apart, so there
        is one thing left to weigh: the pointer. https://llvm.org/docs/LangRef.html#freeze-instruction
        """
        if pointer not in self._places:
            return  # a local buffer: it moves nowhere
        lines, at = self._places[pointer]
        name, _, text = lines[at].partition(" = ")
        if text.startswith("getelementptr"):
            lines[at] = f"{name}.moving = {text}\n  {name} = freeze ptr {name}.moving"

    def alloca(self, type: str, count: int) -> str:
        name = self.value()
        self.allocas.append(f"{name} = alloca {type}, i64 {count}, align 64")
        return name

    def phi(self, block: BasicBlock, type: str) -> str:
        """Reserves a phi at the head of a block; `close_phi` writes it."""
        name = self.value()
        self._places[name] = block.lines, len(block.lines)
        block.lines.append(f"{name} = phi {type} ")
        return name

    def close_phi(self, name: str, incoming: list[tuple[str, str]]) -> None:
        """Writes the incoming (value, label) pairs of a reserved phi."""
        lines, at = self._places[name]
        lines[at] += ", ".join(f"[ {value}, %{label} ]" for value, label in incoming)

    def text(self) -> str:
        lines = [f"{self.header} {{"]
        for i, block in enumerate(self.blocks):
            lines.append(f"{block.label}:")
            lines.extend(f"  {a}" for a in (self.allocas if i == 0 else ()))
            lines.extend(f"  {line}" for line in block.lines)
            lines.append(f"  {block.terminator}")
        return "\n".join([*lines, "}"])
