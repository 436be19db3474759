"""What kind of kernel an instruction becomes, and which layer of the network it belongs to."""

import re

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
_COLLECTIVES = (
    "all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute",
    "collective-broadcast", "ragged-all-to-all", "send", "recv",
)  # fmt: skip
_MOVES = {
    "copy", "slice", "pad", "concatenate", "reverse", "broadcast", "iota", "dynamic-slice",
    "dynamic-update-slice", "gather", "bitcast", "parameter", "constant", "tuple", "reshape",
}  # fmt: skip
_REDUCTIONS = {"reduce", "reduce-window", "select-and-scatter"}


def kind_of(module: Module, computation: dict[str, Instruction], instruction: Instruction) -> str:
    """The kind of a kernel, one of `KINDS`.

    A fusion with a reduction is one whatever else it does; one that moves elements into another
    order in memory is a transposition, of which one that also computes is one too.
    """
    if instruction.opcode.removesuffix("-start") in _COLLECTIVES:
        return "collective"
    target = instruction.attribute("custom_call_target")
    if instruction.opcode == "convolution" or target.startswith("__cudnn$conv"):
        return _convolution_kind(module, computation, instruction)
    if instruction.opcode == "dot" or target.startswith("__cublas$"):
        return "matrix product"
    if instruction.opcode == "custom-call":
        return "other"
    if instruction.opcode != "fusion":
        return _kind_of_all([(computation, instruction)])
    inside = module.called(instruction)
    products = (i for i in inside.values() if i.opcode in ("dot", "convolution", "fusion"))
    for product in products:
        return kind_of(module, inside, product)
    return _kind_of_all([(inside, i) for i in inside.values()])


def _kind_of_all(steps: list[tuple[dict[str, Instruction], Instruction]]) -> str:
    opcodes = {instruction.opcode for _, instruction in steps}
    if opcodes & _REDUCTIONS:
        return "reduction"
    if any(_reorders(computation, instruction) for computation, instruction in steps):
        return "transposition"
    if opcodes & {"scatter", "sort", "rng", "rng-bit-generator"}:
        return "other"
    return "copy" if opcodes <= _MOVES | {"transpose"} else "elementwise"


def _reorders(computation: dict[str, Instruction], instruction: Instruction) -> bool:
    """Whether a transposition or copy moves elements, rather than naming dimensions anew."""
    if instruction.opcode not in ("transpose", "copy"):
        return False
    result, (operand,) = instruction.arrays[0], computation[instruction.operands[0]].arrays
    order = range(len(result.dims))
    if instruction.opcode == "transpose":
        order = [int(d) for d in re.findall(r"\d+", instruction.attribute("dimensions"))]
    return [order[d] for d in _wide(result)] != list(_wide(operand))


def _wide(array: Array) -> list[int]:
    """Dimensions with more than one element, from the innermost in memory outwards."""
    return [d for d in array.layout if array.dims[d] > 1]


def _convolution_kind(
    module: Module, computation: dict[str, Instruction], instruction: Instruction
) -> str:
    target = instruction.attribute("custom_call_target")
    if target.endswith("BackwardFilter"):
        return "convolution to weights"
    if target.endswith("BackwardInput"):
        return "convolution to input"
    if pass_of(instruction.attribute("op_name")) != "backward":
        return "convolution forward"
    # XLA writes many gradients as forward convolutions; the input's has the kernel as operand.
    with_kernel = any(
        _origin(module, computation, computation[name]).opcode == "parameter"
        for name in instruction.operands[:2]
    )
    return "convolution to input" if with_kernel else "convolution to weights"


def _origin(
    module: Module, computation: dict[str, Instruction], instruction: Instruction
) -> Instruction:
    """What an array was made of, if only its order, precision or name has changed since."""
    output = 0
    while len(set(instruction.operands)) == 1 or instruction.opcode == "fusion":
        if instruction.opcode == "fusion":
            inside = module.called(instruction)
            result = next(i for i in inside.values() if i.is_root)
            if result.opcode == "tuple":
                result = inside[result.operands[output]]
            source = _origin(module, inside, result)
            if source.opcode != "parameter":
                return source
            instruction = computation[instruction.operands[int(source.attribute("number"))]]
            continue
        if instruction.opcode == "get-tuple-element":
            output = int(instruction.attribute("index"))
        instruction = computation[instruction.operands[0]]
    return instruction


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
    inner = [i for i, part in enumerate(parts) if "jvp(" in part]
    if not inner:
        return "/".join(part for part in parts if part not in ("jit(step)", "shard_map"))
    path = parts[inner[-1] + 1 : -1]
    return "/".join(p for p in path if not re.match(r"jit\(|checkpoint|rematted", p))
