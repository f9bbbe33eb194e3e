"""ONNX files made on the spot, whose output is known."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

OPSET = 13
SIZES = ("rows", "columns")  # free


def picking(picked: Sequence[int], context: int, *, size: tuple[int | str, int | str] = SIZES, **changes: Any) -> bytes:
    """Return a network whose output slices are these input slices, (1, context, R, C) to (1, len(picked), R, C)."""
    weights = np.zeros((len(picked), context, 1, 1), np.float32)
    for out, index in enumerate(picked):
        weights[out, index] = 1
    node, tensor = convolution(weights)
    return model([node], [tensor], [1, context, *size], [1, len(picked), *size], **changes)


def convolution(weights: np.ndarray) -> tuple[Any, Any]:
    """Return the node of a convolution of `x`, and its weights."""
    import onnx

    return (
        onnx.helper.make_node("Conv", ["x", "w"], ["y"], name="conv"),
        onnx.numpy_helper.from_array(weights, name="w"),
    )


def model(
    nodes: Sequence[Any],
    tensors: Sequence[Any],
    input_shape: Sequence[int | str],
    output_shape: Sequence[int | str],
    *,
    opset: int = OPSET,
    domains: Sequence[str] = (),
    kind: int = 1,
) -> bytes:
    """Return a file of nodes from `x` to `y`; `kind` is the type of both, 1 for float32."""
    import onnx

    helper = onnx.helper
    graph = helper.make_graph(
        list(nodes), "graph",
        [helper.make_tensor_value_info("x", kind, list(input_shape))],
        [helper.make_tensor_value_info("y", kind, list(output_shape))],
        list(tensors),
    )  # fmt: skip
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in domains)]
    return bytes(helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString())
