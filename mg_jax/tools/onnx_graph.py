"""A network as an ONNX graph, operation by operation of its jaxpr.

The operations are those that networks of convolutions, products, norms and pooling consist of;
another one ends with its name. What depends on weights alone is computed here, once.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
import onnx
from jax import export
from jax.extend import core
from onnx import helper, numpy_helper

from mg_jax.errors import UserError

OPSET = 18
IR_VERSION = 9
_BATCH = "batch"

_ELEMENTWISE = {
    "add": "Add", "add_any": "Add", "sub": "Sub", "mul": "Mul", "div": "Div", "max": "Max",
    "min": "Min", "pow": "Pow", "gt": "Greater", "lt": "Less", "ge": "GreaterOrEqual",
    "le": "LessOrEqual", "eq": "Equal", "and": "And", "or": "Or", "not": "Not", "neg": "Neg",
    "abs": "Abs", "exp": "Exp", "log": "Log", "tanh": "Tanh", "logistic": "Sigmoid", "erf": "Erf",
    "sqrt": "Sqrt", "floor": "Floor", "ceil": "Ceil", "stop_gradient": "Identity",
    "copy": "Identity", "optimization_barrier": "Identity",
}  # fmt: skip
_REDUCTIONS = {"reduce_sum": "ReduceSum", "reduce_max": "ReduceMax", "reduce_min": "ReduceMin"}


def to_onnx(
    function: Callable[[jax.Array], jax.Array], clip: Sequence[int], names: tuple[str, str]
) -> onnx.ModelProto:
    """The graph of a function of clips, for any number of them.

    Args:
      function: of `B ...` uint8, which returns `B ...`.
      clip: shape of one clip.
      names: of the graph's input and its output.

    Raises:
      UserError: if it has an operation that is not known here.
    """
    (batch,) = export.symbolic_shape(_BATCH)
    shape = (batch, *clip)
    closed = jax.make_jaxpr(function)(jax.ShapeDtypeStruct(shape, np.uint8))
    graph = _Graph()
    (result,) = graph.run(closed.jaxpr, closed.consts, [names[0]])
    graph.node("Identity", [result], names[1])
    (out,) = closed.out_avals
    nodes, initializers = graph.needed(names[1])
    content = helper.make_graph(
        nodes,
        "mg_jax",
        [_value_info(names[0], np.dtype(np.uint8), shape)],
        [_value_info(names[1], out.dtype, out.shape)],
        initializers,
    )
    opsets = [helper.make_opsetid("", OPSET)]
    return helper.make_model(content, opset_imports=opsets, ir_version=IR_VERSION)


def _value_info(name: str, dtype: np.dtype, shape: Sequence[Any]) -> onnx.ValueInfoProto:
    dims = [size if isinstance(size, int) else _BATCH for size in shape]
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(dtype), dims)


# A value of a jaxpr: an array that is known, or the name of one of the graph.
_Value = np.ndarray | str


class _Graph:
    """Nodes in the order in which they compute."""

    def __init__(self):
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, np.ndarray] = {}

    def run(
        self, jaxpr: core.Jaxpr, consts: Sequence[Any], inputs: Sequence[_Value]
    ) -> list[_Value]:
        """Adds the nodes of a jaxpr; returns the values of its outputs."""
        values: dict[Any, _Value] = dict(zip(jaxpr.constvars, map(np.asarray, consts), strict=True))
        values |= zip(jaxpr.invars, inputs, strict=True)

        def value(var) -> _Value:
            return np.asarray(var.val) if isinstance(var, core.Literal) else values[var]

        for eqn in jaxpr.eqns:
            results = self._equation(eqn, [value(var) for var in eqn.invars])
            values |= zip(eqn.outvars, results, strict=True)
        return [value(var) for var in jaxpr.outvars]

    def node(
        self, kind: str, inputs: Sequence[_Value], name: str | None = None, **attributes: Any
    ) -> str:
        """Adds a node; returns the name of its one output."""
        name = name or f"value_{len(self._nodes)}"
        names = [one if isinstance(one, str) else self._constant(one) for one in inputs]
        self._nodes.append(helper.make_node(kind, names, [name], **attributes))
        return name

    def _constant(self, array: np.ndarray) -> str:
        name = f"constant_{len(self._constants)}"
        self._constants[name] = array
        return name

    def needed(self, output: str) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
        """The nodes and constants that an output depends on."""
        wanted, nodes = {output}, []
        for node in reversed(self._nodes):
            if wanted.intersection(node.output):
                wanted.update(node.input)
                nodes.insert(0, node)
        constants = self._constants.items()
        return nodes, [numpy_helper.from_array(a, n) for n, a in constants if n in wanted]

    def _equation(self, eqn: core.JaxprEqn, inputs: list[_Value]) -> list[_Value]:
        name, params = eqn.primitive.name, eqn.params
        for key in ("jaxpr", "call_jaxpr", "fun_jaxpr"):
            if key in params:
                inner = params[key]
                return self.run(inner.jaxpr, inner.consts, inputs)
        known = all(isinstance(value, np.ndarray) for value in inputs)
        static = all(isinstance(size, int) for var in eqn.outvars for size in var.aval.shape)
        if known and static:
            with jax.ensure_compile_time_eval():
                results = eqn.primitive.bind(*inputs, **params)
            results = results if eqn.primitive.multiple_results else [results]
            return [np.asarray(result) for result in results]
        if name == "optimization_barrier":
            return inputs
        if name in _ELEMENTWISE:
            return [self.node(_ELEMENTWISE[name], inputs)]
        if name in _REDUCTIONS:
            axes = np.array(params["axes"], np.int64)
            return [self.node(_REDUCTIONS[name], [*inputs, axes], keepdims=0)]
        method = getattr(self, f"_{name}", None)
        if method is None:
            raise UserError(
                f"the network has an operation {name!r} that cannot be written as ONNX here; "
                "--format=stablehlo and --format=savedmodel take every network"
            )
        return [method(inputs, params, eqn)]

    def _select_n(self, inputs, params, eqn) -> str:
        which, no, yes = inputs
        return self.node("Where", [which, yes, no])

    def _rsqrt(self, inputs, params, eqn) -> str:
        return self.node("Reciprocal", [self.node("Sqrt", inputs)])

    def _square(self, inputs, params, eqn) -> str:
        return self.node("Mul", [inputs[0], inputs[0]])

    def _integer_pow(self, inputs, params, eqn) -> str:
        exponent = np.array(params["y"], eqn.invars[0].aval.dtype)
        return self.node("Pow", [inputs[0], exponent])

    def _convert_element_type(self, inputs, params, eqn) -> str:
        to = helper.np_dtype_to_tensor_dtype(np.dtype(params["new_dtype"]))
        return self.node("Cast", inputs, to=to)

    def _reshape(self, inputs, params, eqn) -> str:
        return self.node("Reshape", [inputs[0], _sizes(eqn.outvars[0].aval.shape)])

    def _squeeze(self, inputs, params, eqn) -> str:
        return self.node("Squeeze", [inputs[0], np.array(params["dimensions"], np.int64)])

    def _transpose(self, inputs, params, eqn) -> str:
        return self.node("Transpose", inputs, perm=list(params["permutation"]))

    def _concatenate(self, inputs, params, eqn) -> str:
        return self.node("Concat", inputs, axis=params["dimension"])

    def _pad(self, inputs, params, eqn) -> str:
        low, high, inside = zip(*params["padding_config"], strict=True)
        if any(inside) or min(*low, *high) < 0:
            raise UserError("padding between elements cannot be written as ONNX here")
        return self.node("Pad", [inputs[0], np.array([*low, *high], np.int64), inputs[1]])

    def _broadcast_in_dim(self, inputs, params, eqn) -> _Value:
        """Along the batch nothing is repeated: whatever takes the result does so itself."""
        own = dict(zip(params["broadcast_dimensions"], eqn.invars[0].aval.shape, strict=True))
        shape = [own.get(d, 1) for d in range(len(params["shape"]))]
        wanted = np.array([size if isinstance(size, int) else 1 for size in params["shape"]])
        if isinstance(inputs[0], np.ndarray):
            return np.ascontiguousarray(np.broadcast_to(inputs[0].reshape(shape), wanted))
        value = self.node("Reshape", [inputs[0], _sizes(shape)])
        return self.node("Expand", [value, wanted.astype(np.int64)])

    def _slice(self, inputs, params, eqn) -> str:
        strides = params["strides"] or (1,) * len(params["start_indices"])
        return self._cut(inputs[0], params["start_indices"], params["limit_indices"], strides)

    def _cut(self, value: _Value, starts, limits, strides) -> str:
        axes = [d for d, limit in enumerate(limits) if isinstance(limit, int)]
        columns = (starts, limits, range(len(limits)), strides)
        parts = [np.array([column[d] for d in axes], np.int64) for column in columns]
        return self.node("Slice", [value, *parts])

    def _gather(self, inputs, params, eqn) -> str:
        """Slices and rows of known indices, as JAX takes them along axes that are not the batch."""
        value, indices = inputs
        numbers, sizes = params["dimension_numbers"], params["slice_sizes"]
        axes = tuple(numbers.start_index_map)
        if not isinstance(indices, np.ndarray) or numbers.operand_batching_dims:
            raise UserError("indices that depend on the clips cannot be written as ONNX here")
        if not numbers.collapsed_slice_dims and indices.ndim == 1:
            starts, limits = [0] * len(sizes), list(sizes)
            for axis, start in zip(axes, indices.tolist(), strict=True):
                starts[axis], limits[axis] = start, start + sizes[axis]
            return self._cut(value, starts, limits, [1] * len(sizes))
        rest = tuple(d for d in range(len(sizes)) if d not in axes)
        rows = [np.unique(indices[..., k]) for k in range(len(axes))]
        grid = np.stack(np.meshgrid(*rows, indexing="ij"), -1)
        # Axes behind the first one taken move up where its indices have several.
        moved = tuple(d if d < axes[0] else d + indices.ndim - 1 - len(axes) for d in rest)
        if tuple(numbers.collapsed_slice_dims) != axes or numbers.offset_dims != moved:
            raise UserError("this choice of elements cannot be written as ONNX here")
        if not np.array_equal(grid, indices):
            if len(axes) > 1:
                raise UserError("this choice of elements cannot be written as ONNX here")
            rows = [indices[..., 0]]
        for axis, row in zip(axes, rows, strict=True):
            value = self.node("Gather", [value, row.astype(np.int64)], axis=axis)
        return value

    def _dot_general(self, inputs, params, eqn) -> str:
        (left, right), (left_batch, right_batch) = params["dimension_numbers"]
        ndims = [len(var.aval.shape) for var in eqn.invars]
        if not left_batch and (left, right) == ((ndims[0] - 1,), (0,)) and ndims[1] == 2:
            return self.node("MatMul", inputs)
        letters = iter("abcdefghijklmnopqrstuvwxyz")
        first = [next(letters) for _ in range(ndims[0])]
        shared = dict(zip((*right_batch, *right), (*left_batch, *left), strict=True))
        second = [first[shared[d]] if d in shared else next(letters) for d in range(ndims[1])]
        out = [first[d] for d in left_batch]
        out += [first[d] for d in range(ndims[0]) if d not in (*left_batch, *left)]
        out += [second[d] for d in range(ndims[1]) if d not in shared]
        equation = f"{''.join(first)},{''.join(second)}->{''.join(out)}"
        return self.node("Einsum", inputs, equation=equation)

    def _conv_general_dilated(self, inputs, params, eqn) -> str:
        if math.prod(params["lhs_dilation"]) != 1 or params["batch_group_count"] != 1:
            raise UserError("a transposed convolution cannot be written as ONNX here")
        numbers = params["dimension_numbers"]
        value = self._in_order(inputs[0], numbers.lhs_spec)
        kernel = self._in_order(inputs[1], numbers.rhs_spec)
        low, high = zip(*params["padding"], strict=True)
        result = self.node(
            "Conv",
            [value, kernel],
            strides=list(params["window_strides"]),
            pads=[*map(int, low), *map(int, high)],
            dilations=list(params["rhs_dilation"]),
            group=params["feature_group_count"],
        )
        return self._in_order(result, np.argsort(numbers.out_spec).tolist())

    def _in_order(self, value: _Value, axes: Sequence[int]) -> _Value:
        if isinstance(value, np.ndarray):
            return np.ascontiguousarray(value.transpose(axes))
        return self.node("Transpose", [value], perm=list(axes))


def _sizes(shape: Sequence[Any]) -> np.ndarray:
    """A shape for ONNX's Reshape, which finds the one size that depends on the batch."""
    return np.array([size if isinstance(size, int) else -1 for size in shape], np.int64)
