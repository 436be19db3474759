"""What kind of kernel an instruction becomes, and which layer of the network it belongs to."""

import dataclasses
import re
from collections.abc import Iterator

from mg_jax.accelerators.hlo_text import Array, Instruction, Module

# In the order in which tables show them.
KINDS = (
    "convolution forward",
    "convolution to input",
    "convolution to weights",
    "matrix product",
    "reduction",
    "transposition",
    "elementwise",
    "copy",
    "collective",
    "other",
)
_COLLECTIVES = {
    "all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute",
    "collective-broadcast", "ragged-all-to-all", "send", "recv",
}  # fmt: skip
_MOVES = {
    "copy", "slice", "pad", "transpose", "concatenate", "reverse", "broadcast", "iota", "bitcast",
    "dynamic-slice", "dynamic-update-slice", "gather", "parameter", "constant", "tuple", "reshape",
}  # fmt: skip
_REDUCTIONS = {"reduce", "reduce-window", "select-and-scatter"}
_OTHERS = {"custom-call", "scatter", "sort", "rng", "rng-bit-generator"}


@dataclasses.dataclass(frozen=True)
class Place:
    """An instruction where it stands: in its computation, within the fusions around that."""

    instruction: Instruction
    computation: dict[str, Instruction]
    around: "Place | None" = None

    def at(self, name: str) -> "Place":
        """Another instruction of its computation."""
        return Place(self.computation[name], self.computation, self.around)


def places(module: Module, place: Place) -> Iterator[Place]:
    """A kernel's instructions: itself or, of a fusion, all that are inside."""
    if place.instruction.opcode != "fusion":
        yield place
        return
    inside = module.called(place.instruction)
    for instruction in inside.values():
        yield from places(module, Place(instruction, inside, place))


def is_convolution(instruction: Instruction) -> bool:
    """Whether an instruction convolves."""
    target = instruction.attribute("custom_call_target")
    return instruction.opcode == "convolution" or target.startswith("__cudnn$conv")


def is_product(instruction: Instruction) -> bool:
    """Whether an instruction multiplies matrices."""
    target = instruction.attribute("custom_call_target")
    return instruction.opcode == "dot" or target.startswith("__cublas$")


def kind_of(module: Module, kernel: Place) -> str:
    """The kind of a kernel, one of `KINDS`.

    A fusion with a reduction is one whatever else it does; one that moves elements into another
    order in memory is a transposition, of which one that also computes is one too.
    """
    steps = list(places(module, kernel))
    opcodes = {step.instruction.opcode.removesuffix("-start") for step in steps}
    if opcodes & _COLLECTIVES:
        return "collective"
    for step in steps:
        if is_convolution(step.instruction):
            return _convolution_kind(module, step)
    if any(is_product(step.instruction) for step in steps):
        return "matrix product"
    if opcodes & _REDUCTIONS:
        return "reduction"
    if any(_reorders(step) for step in steps):
        return "transposition"
    if opcodes & _OTHERS:
        return "other"
    return "copy" if opcodes <= _MOVES else "elementwise"


def _reorders(place: Place) -> bool:
    """Whether a transposition or copy moves elements, rather than naming dimensions anew."""
    instruction = place.instruction
    if instruction.opcode not in ("transpose", "copy"):
        return False
    result, operand = instruction.arrays[0], place.at(instruction.operands[0]).instruction.arrays[0]
    order = range(len(result.dims))
    if instruction.opcode == "transpose":
        order = [int(d) for d in re.findall(r"\d+", instruction.attribute("dimensions"))]
    return [order[d] for d in _wide(result)] != list(_wide(operand))


def _wide(array: Array) -> list[int]:
    """Dimensions with more than one element, from the innermost in memory outwards."""
    return [d for d in array.layout if array.dims[d] > 1]


def _convolution_kind(module: Module, place: Place) -> str:
    instruction = place.instruction
    target = instruction.attribute("custom_call_target")
    if target.endswith("BackwardFilter"):
        return "convolution to weights"
    if target.endswith("BackwardInput"):
        return "convolution to input"
    if pass_of(instruction.attribute("op_name")) != "backward":
        return "convolution forward"
    # XLA writes many gradients as forward convolutions; the input's has the kernel as operand.
    origins = (_origin(module, place.at(name)) for name in instruction.operands[:2])
    with_kernel = any(origin.instruction.opcode == "parameter" for origin in origins)
    return "convolution to input" if with_kernel else "convolution to weights"


def _origin(module: Module, place: Place) -> Place:
    """What an array was made of, if only its order, precision or name has changed since."""
    output = 0
    while True:
        instruction = place.instruction
        if instruction.opcode == "fusion":
            inside = module.called(instruction)
            result = next(i for i in inside.values() if i.is_root)
            if result.opcode == "tuple":
                result = inside[result.operands[output]]
            place = Place(result, inside, place)
        elif instruction.opcode == "parameter" and place.around is not None:
            number = int(instruction.attribute("number"))
            place = place.around.at(place.around.instruction.operands[number])
        elif len(set(instruction.operands)) == 1:
            if instruction.opcode == "get-tuple-element":
                output = int(instruction.attribute("index"))
            place = place.at(instruction.operands[0])
        else:
            return place


def pass_of(op_name: str) -> str:
    """forward, backward, again (recomputed for the backward pass), or '' outside of both."""
    if "rematted_computation" in op_name:
        return "again"
    if "transpose(jvp(" in op_name:
        return "backward"
    return "forward" if "jvp(" in op_name else ""


def layer_of(op_name: str) -> str:
    """The path of the module that an instruction's name tells, without its last operation.

    For example s2/pathway0_res0/branch2/a_bn of
    jit(step)/shard_map/transpose(jvp(SlowFast))/s2/pathway0_res0/branch2/a_bn/reduce_sum. Of what
    is not in a module, the whole.
    """
    parts = [part for part in op_name.replace("\\'", "'").split("/") if part]
    parts = [part for part in parts if part not in ("jit(step)", "shard_map")]
    # The model is a class, or what remains of it when it is differentiated.
    models = [
        i for i, part in enumerate(parts) if "jvp(" in part or re.fullmatch(r"[A-Z]\w*", part)
    ]
    if not models:
        return "/".join(parts)
    inner = parts[models[-1] + 1 : -1]
    return "/".join(part for part in inner if re.fullmatch(r"\w+", part) and part != "checkpoint")
