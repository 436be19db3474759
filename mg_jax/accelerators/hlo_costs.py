"""What a compiled program's kernels move and compute, counted from its text.

A kernel reads each of its inputs and writes each of its results once: a lower bound by count, from
which time follows once a device's rates are known. Nothing is run, so the device need not be there.
"""

import collections
import dataclasses
import re
from collections.abc import Callable, Iterator

import jax

from mg_jax.accelerators.hlo_kinds import (
    Place,
    is_convolution,
    is_product,
    kind_of,
    layer_of,
    pass_of,
    places,
)
from mg_jax.accelerators.hlo_text import Array, Instruction, Module, parse_module
from mg_jax.runtime import memory

# Instructions that name what is there already.
_FREE = {
    "parameter", "constant", "get-tuple-element", "tuple", "bitcast", "after-all", "opt-barrier",
    "partition-id", "replica-id", "add-dependency", "domain",
}  # fmt: skip
_SLICES = {"slice", "dynamic-slice", "gather"}
# These change a few elements of their first operand where it lies; the new ones are operand number
# ... of them.
_UPDATES = {"dynamic-update-slice": 1, "scatter": 2}


@dataclasses.dataclass(frozen=True)
class Kernel:
    """What one launch does.

    Attributes:
      name: of its instruction in the program's text.
      kind: see `hlo_kinds.KINDS`.
      layer: path of the module that it belongs to, such as s2/pathway0_res0/branch2/a_bn; of a
        fusion the one of its result.
      direction: forward, backward, again (recomputed for the backward pass) or '' outside of both.
      bytes: read and written.
      flops: of convolutions and matrix products, two for each multiply-add.
      precision: of these: bf16, tf32, fp32, and so on; '' where there are none.
      calls: how often the program runs it.
    """

    name: str
    kind: str
    layer: str
    direction: str
    bytes: int
    flops: int
    precision: str
    calls: int


@dataclasses.dataclass(frozen=True)
class ProgramCosts:
    """What one device does and holds during a program.

    Attributes:
      kernels: in the program's order.
      memory_bytes: all that it needs of the device's memory: arguments, results and what is made
        meanwhile.
      temp_bytes: of these what is made meanwhile.
    """

    kernels: tuple[Kernel, ...]
    memory_bytes: int
    temp_bytes: int

    @property
    def launches(self) -> int:
        """How many kernels run."""
        return sum(kernel.calls for kernel in self.kernels)

    @property
    def bytes(self) -> int:
        """Read and written by all kernels."""
        return sum(kernel.calls * kernel.bytes for kernel in self.kernels)

    @property
    def flops(self) -> int:
        """Of convolutions and matrix products, two for each multiply-add."""
        return sum(kernel.calls * kernel.flops for kernel in self.kernels)

    def by_kind(self) -> dict[str, dict[str, int]]:
        """launches, bytes and flops of each kind of kernel, most bytes first."""
        sums = collections.defaultdict(lambda: {"launches": 0, "bytes": 0, "flops": 0})
        for kernel in self.kernels:
            row = sums[kernel.kind]
            row["launches"] += kernel.calls
            row["bytes"] += kernel.calls * kernel.bytes
            row["flops"] += kernel.calls * kernel.flops
        return dict(sorted(sums.items(), key=lambda item: -item[1]["bytes"]))

    def costliest(self, count: int, seconds: Callable[[Kernel], float]) -> list[Kernel]:
        """The kernels that take longest in all their calls."""
        return sorted(self.kernels, key=lambda k: -k.calls * seconds(k))[:count]


def program_costs(compiled: jax.stages.Compiled) -> ProgramCosts:
    """Counts a compiled program's kernels, the bytes and FLOPs of each, and its memory.

        costs = program_costs(jax.jit(f).lower(x).compile())
        costs.bytes, costs.launches, costs.temp_bytes, costs.by_kind()

    Args:
      compiled: for a GPU, which need not be there.
    """
    return ProgramCosts(
        kernels=tuple(kernels_of(compiled.as_text())),
        memory_bytes=memory.needed_bytes(compiled),
        temp_bytes=compiled.memory_analysis().temp_size_in_bytes,
    )


def kernels_of(text: str) -> Iterator[Kernel]:
    """The kernels of a compiled program's text; loops of unknown length count as one turn."""
    module = parse_module(text)
    yield from _kernels(module, module.computations[module.entry], 1)


def _kernels(module: Module, computation: dict[str, Instruction], calls: int) -> Iterator[Kernel]:
    for instruction in computation.values():
        opcode = instruction.opcode
        if opcode in _FREE or opcode.endswith(("-done", "-update")):
            continue
        if opcode == "while":
            trips = re.search(r'"known_trip_count":\{"n":"(\d+)"', instruction.attributes)
            body = module.computations[instruction.attribute("body")]
            yield from _kernels(module, body, calls * int(trips[1] if trips else 1))
        elif opcode in ("call", "async-start"):
            yield from _kernels(module, module.called(instruction), calls)
        elif opcode == "conditional":
            branches = instruction.attribute("branch_computations")
            names = re.findall(r"[\w.\-]+", branches) or [
                instruction.attribute("true_computation"),
                instruction.attribute("false_computation"),
            ]
            each = [list(_kernels(module, module.computations[name], calls)) for name in names]
            yield from max(each, key=lambda kernels: sum(k.calls * k.bytes for k in kernels))
        else:
            yield _kernel(module, computation, instruction, calls)


def _kernel(
    module: Module, computation: dict[str, Instruction], instruction: Instruction, calls: int
) -> Kernel:
    place = Place(instruction, computation)
    products = [product for step in places(module, place) for product in _product(step)]
    name = _source_name(place)
    if instruction.opcode == "fusion":
        moved = _fusion_bytes(module.called(instruction))
    else:
        moved = _plain_bytes(computation, instruction)
    return Kernel(
        name=instruction.name,
        kind=kind_of(module, place),
        layer=layer_of(name),
        direction=pass_of(name),
        bytes=moved,
        flops=sum(flops for flops, _ in products),
        precision=products[0][1] if products else "",
        calls=calls,
    )


def _source_name(place: Place) -> str:
    """The name that JAX gave an instruction; of a copy that XLA made, the one of what it copies."""
    while not (name := place.instruction.attribute("op_name")) and place.instruction.operands:
        place = place.at(place.instruction.operands[0])
    return name


def _plain_bytes(computation: dict[str, Instruction], instruction: Instruction) -> int:
    operands = [computation[name] for name in dict.fromkeys(instruction.operands)]
    if instruction.opcode in _SLICES:
        return 2 * instruction.bytes + sum(operand.bytes for operand in operands[1:])
    if instruction.opcode in _UPDATES:
        changed = computation[instruction.operands[_UPDATES[instruction.opcode]]].bytes
        return changed + sum(operand.bytes for operand in operands[1:])
    read = sum(_result_bytes(operand) for operand in operands)
    written = _result_bytes(instruction)
    if instruction.opcode.endswith("-start") and instruction.opcode != "all-reduce-start":
        written -= read  # the pair (operands, results) is what it returns
    return read + written


def _result_bytes(instruction: Instruction) -> int:
    """Without the scratch memory that library calls return beside their result."""
    arrays = instruction.arrays
    library = instruction.attribute("custom_call_target").startswith("__cu")
    if library and len(arrays) > 1 and arrays[-1].dtype in ("u8", "s8"):
        arrays = arrays[:-1]
    return sum(array.bytes for array in arrays)


def _fusion_bytes(inside: dict[str, Instruction]) -> int:
    """Reads of the parameters and writes of the root; of slices and updates only their elements."""
    users = collections.defaultdict(list)
    for instruction in inside.values():
        for name in dict.fromkeys(instruction.operands):
            users[name].append(instruction)
    parameters = [i for i in inside.values() if i.opcode == "parameter"]
    root = next(i for i in inside.values() if i.is_root)
    roots = [inside[name] for name in root.operands] if root.opcode == "tuple" else [root]
    read = sum(min(_read(users, p, p), p.bytes) for p in parameters)
    return read + sum(_root_bytes(inside, root) for root in roots)


def _read(users: dict[str, list[Instruction]], parameter: Instruction, array: Instruction) -> int:
    """Bytes of a parameter that the users of `array`, which is the parameter or a view, read."""
    total = 0
    for user in users[array.name]:
        first = user.operands[0] == array.name
        if user.opcode == "bitcast":
            total += _read(users, parameter, user)
        elif first and user.opcode in _SLICES:
            total += user.bytes
        elif not (first and user.opcode in _UPDATES):
            return parameter.bytes
    return total


def _root_bytes(inside: dict[str, Instruction], root: Instruction) -> int:
    while root.opcode == "bitcast":
        root = inside[root.operands[0]]
    if root.opcode in _UPDATES:
        return inside[root.operands[_UPDATES[root.opcode]]].bytes
    return 0 if root.opcode == "parameter" else root.bytes


def _product(place: Place) -> Iterator[tuple[int, str]]:
    """FLOPs and precision of an instruction that convolves or multiplies matrices."""
    instruction = place.instruction
    if is_convolution(instruction):
        count = _convolution_flops
    elif is_product(instruction):
        count = _product_flops
    else:
        return
    operands = [place.at(name).instruction.arrays[0] for name in instruction.operands[:2]]
    yield count(instruction, *operands), _precision(instruction, operands[0])


def _precision(instruction: Instruction, array: Array) -> str:
    if array.dtype != "f32":
        return array.dtype
    highest = re.search(r"operand_precision=\{[^}]*highest|\"HIGHEST\"", instruction.attributes)
    return "fp32" if highest else "tf32"


def _convolution_flops(instruction: Instruction, left: Array, right: Array) -> int:
    """Two for each output, tap and input channel of its group; taps on padding count.

    Library calls name their operands as the forward convolution does: the gradient of the input
    has it as its result, and the gradient of the filter has that.
    """
    _, kernel_labels, _ = re.split(r"_|->", instruction.attribute("dim_labels"))
    result, target = instruction.arrays[0], instruction.attribute("custom_call_target")
    kernel, output = right, result
    if target.endswith("BackwardFilter"):
        kernel, output = result, right
    elif target.endswith("BackwardInput"):
        output = left
    taps = kernel.elements // kernel.dims[kernel_labels.index("o")]
    dilation = re.search(r"lhs_dilate=([\dx]+)", instruction.attribute("window"))
    # Of an input that is spread out with zeros, they cost nothing.
    spread = 1
    for step in dilation[1].split("x") if dilation else ():
        spread *= int(step)
    return 2 * output.elements * taps // spread


def _product_flops(instruction: Instruction, left: Array, right: Array) -> int:
    attributes = instruction.attributes
    contracted = re.search(r"lhs_contracting_(?:dims|dimensions)[\"=:\[{]+([\d,\"]*)", attributes)
    depth = 1
    for dimension in re.findall(r"\d+", contracted[1]):
        depth *= left.dims[int(dimension)]
    return 2 * instruction.arrays[0].elements * depth
