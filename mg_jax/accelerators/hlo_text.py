"""Reads the text of a compiled program: its computations, their instructions, shapes and layouts.

The text is what `jax.stages.Compiled.as_text()` gives, XLA's optimised HLO. Of its grammar only
what costs are counted from is read.
"""

import dataclasses
import math
import re
from collections.abc import Iterator

_BITS = {"pred": 8, "s4": 4, "u4": 4, "s2": 2, "u2": 2, "bf16": 16, "c64": 64, "c128": 128}
_COMMENT = re.compile(r"/\*.*?\*/")
_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.\-]+)(?: \(.*\) -> .*)? \{$")
_INSTRUCTION = re.compile(r"^\s+(ROOT )?%?([\w.\-]+) = ")
_ARRAY = re.compile(r"([a-z]\w*)\[([\d,<=]*)\](?:\{([\d,]*)(?::([^}]*))?\})?")
_OPCODE = re.compile(r" ([a-z][\w\-]*)\(")
_NAME = re.compile(r"%([\w.\-]+)")


@dataclasses.dataclass(frozen=True)
class Array:
    """The shape of an array.

    Attributes:
      dtype: as HLO writes it, such as bf16, f32 or pred.
      dims: sizes.
      layout: dimensions from the one whose elements lie next to each other to the widest apart.
      tile: on TPUs, to multiples of what the last two of them are filled up, the widest first.
      on_chip: on TPUs, whether it lies in the core's own memory.
    """

    dtype: str
    dims: tuple[int, ...]
    layout: tuple[int, ...]
    tile: tuple[int, ...] = ()
    on_chip: bool = False

    @property
    def elements(self) -> int:
        return math.prod(self.dims)

    @property
    def bytes(self) -> int:
        """That moving it to or from the device's memory takes."""
        if self.on_chip:
            return 0
        bits = _BITS.get(self.dtype)
        if bits is None:
            digits = re.search(r"\d+", self.dtype)
            bits = int(digits[0]) if digits else 0  # tokens hold nothing
        sizes = list(self.dims)
        for dimension, step in zip(self.layout, reversed(self.tile), strict=False):
            sizes[dimension] = -(-sizes[dimension] // step) * step
        return math.prod(sizes) * bits // 8


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One instruction.

    Attributes:
      name: within its computation.
      opcode: such as fusion, custom-call or all-reduce-start.
      arrays: its result, the arrays of a tuple in their order.
      operands: names of the instructions that it reads.
      attributes: the rest of its line.
      is_root: whether it is its computation's result.
    """

    name: str
    opcode: str
    arrays: tuple[Array, ...]
    operands: tuple[str, ...]
    attributes: str
    is_root: bool

    @property
    def bytes(self) -> int:
        """Of its result."""
        return sum(array.bytes for array in self.arrays)

    def attribute(self, key: str) -> str:
        """The value of an attribute, a name without its %; '' where there is none."""
        found = re.search(rf'\b{key}=(?:"([^"]*)"|(\{{[^}}]*\}})|%?([^\s,]+))', self.attributes)
        return next(filter(None, found.groups()), "") if found else ""


@dataclasses.dataclass(frozen=True)
class Module:
    """A program: its computations by name, each with its instructions by name, in their order."""

    computations: dict[str, dict[str, Instruction]]
    entry: str

    def called(self, instruction: Instruction) -> dict[str, Instruction]:
        """The computation that a fusion or a call stands for."""
        return self.computations[
            instruction.attribute("calls") or instruction.attribute("to_apply")
        ]


def parse_module(text: str) -> Module:
    """Reads a program's text.

    Raises:
      ValueError: if it holds no entry computation.
    """
    computations, entry, current = {}, None, None
    for line in text.splitlines():
        if current is not None and (start := _INSTRUCTION.match(line)):
            instruction = _parse_instruction(line, start)
            current[instruction.name] = instruction
        elif found := _COMPUTATION.match(_COMMENT.sub("", line)):
            current = computations[found[2]] = {}
            entry = found[2] if found[1] else entry
    if entry is None:
        raise ValueError("the text holds no ENTRY computation; give that of a compiled program")
    return Module(computations, entry)


def _parse_instruction(line: str, start: re.Match) -> Instruction:
    rest = " " + _COMMENT.sub("", line[start.end() :])
    # The type comes first; tiles within a layout, such as T(8,128), begin with a capital.
    opcode = _OPCODE.search(rest)
    end = _closing(rest, opcode.end() - 1)
    inside, attributes = rest[opcode.end() : end], rest[end + 1 :]
    if opcode[1] == "parameter":  # has its number where others have operands
        attributes += f", number={inside}"
    return Instruction(
        name=start[2],
        # A fusion that runs beside others (JAX 0.12) is one.
        opcode=opcode[1].replace("fusion-start", "fusion"),
        arrays=tuple(_arrays(rest[: opcode.start()])),
        operands=tuple(_NAME.findall(inside)),
        attributes=attributes,
        is_root=bool(start[1]),
    )


def _closing(text: str, opening: int) -> int:
    """Position of the parenthesis that closes the one at `opening`."""
    depth = 0
    for found in re.compile(r"[()]").finditer(text, opening):
        depth += 1 if found[0] == "(" else -1
        if not depth:
            return found.start()
    raise ValueError(f"unbalanced parentheses in {text[:200]}")


def _arrays(text: str) -> Iterator[Array]:
    for dtype, dims, layout, place in _ARRAY.findall(text):
        sizes = tuple(int(size.lstrip("<=")) for size in dims.split(",") if size)
        order = tuple(map(int, layout.split(","))) if layout else tuple(reversed(range(len(sizes))))
        tile = re.match(r"T\(([\d,]+)\)", place)
        steps = tuple(map(int, tile[1].split(","))) if tile else ()
        yield Array(dtype, sizes, order, steps, bool(tile) and "S(1)" in place)
