"""Check an ONNX file and run it: the only module that imports onnx and onnxruntime, which are optional.

A file is checked before each use, also one that was imported earlier: it may come from anywhere. Refused are tensors in
other files, operators of other packages, and loops, whose time has no bound.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from lib.errors import CheckpointError
from lib.types import FloatArray

if TYPE_CHECKING:
    import onnx

MAX_BYTES = 2**30  # of a file; protobuf itself ends at 2 GiB
MIN_OPSET = 7  # the oldest that onnxruntime fully supports
LOOPS = frozenset({"Loop", "Scan"})
STANDARD_DOMAINS = frozenset({"", "ai.onnx"})

Shape = tuple[int | None, ...]  # None for a length that is not fixed


@dataclass(frozen=True)
class OnnxSignature:
    """The input and the first output of an ONNX file.

    Attributes:
        input_name, output_name: Names in the graph.
        input_shape, output_shape: Their lengths; that of the output is empty if the file does not tell it.
        input_is_half: Whether the input is float16 instead of float32.
        opset: Version of the operators.
        first_width: Output channels of the first convolution; 1 without one.
        metadata: The file's own key-value pairs.
    """

    input_name: str
    output_name: str
    input_shape: Shape
    output_shape: Shape
    input_is_half: bool
    opset: int
    first_width: int
    metadata: Mapping[str, str]


def require_onnx() -> None:
    """Raise CheckpointError (code `onnx_not_installed`) where onnx or onnxruntime is missing."""
    missing = [name for name in ("onnx", "onnxruntime") if importlib.util.find_spec(name) is None]
    if missing:
        raise CheckpointError(
            f"networks in ONNX need the optional package(s) {' and '.join(missing)}, which are not installed; install "
            "what requirements-onnx.txt lists",
            code="onnx_not_installed",
        )


def inspect_onnx(content: bytes) -> OnnxSignature:
    """Return the signature of an ONNX file after checking it.

    Raises:
        CheckpointError: onnx is not installed; or the file is damaged, too large, or not self-contained (code
            `invalid_onnx`).
    """
    require_onnx()
    if len(content) > MAX_BYTES:
        raise _invalid(f"{len(content) / 2**20:.0f} MiB, expected at most {MAX_BYTES / 2**20:.0f} MiB")
    import onnx
    from google.protobuf.message import DecodeError

    try:
        model = onnx.ModelProto.FromString(content)
    except DecodeError as error:
        raise _invalid("not an ONNX file, or a truncated one") from error
    if not model.graph.node:
        raise _invalid("not an ONNX file, or one without a network")
    _refuse_external_data(model)
    opset = _checked_opset(model)
    _refuse_operators(model)
    try:
        onnx.checker.check_model(model, full_check=True)
    except Exception as error:  # ValidationError and InferenceError are registered by C++ below Exception
        raise _invalid(f"the checker of onnx refuses it: {_first_line(error)}") from error
    return _signature(model, opset)


def with_metadata(content: bytes, metadata: Mapping[str, str]) -> bytes:
    """Return an ONNX file with its key-value pairs replaced.

    Raises:
        CheckpointError: onnx is not installed.
    """
    require_onnx()
    import onnx

    model = onnx.ModelProto.FromString(content)
    onnx.helper.set_model_props(model, dict(metadata))
    model.doc_string = metadata.get("intended_use", "")
    return bytes(model.SerializeToString())


class OnnxSession:
    """A checked ONNX file, loaded for the CPU."""

    def __init__(self, content: bytes, signature: OnnxSignature) -> None:
        """Load a file that `inspect_onnx` has checked; it uses as many threads as torch.

        Raises:
            CheckpointError: onnxruntime cannot load it (code `invalid_onnx`).
        """
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # idle threads use no time
        options.log_severity_level = 4  # its errors are raised as well
        self._signature = signature
        try:
            self._session: Any = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # of C++, below Exception
            raise _invalid(f"onnxruntime cannot load it: {_first_line(error)}") from error

    def run(self, image: FloatArray) -> FloatArray:
        """Return the first output for an input, float32.

        Raises:
            CheckpointError: The network cannot process an input of this shape (code `invalid_onnx`).
        """
        signature = self._signature
        feed = image.astype(np.float16 if signature.input_is_half else np.float32, copy=False)
        try:
            (output,) = self._session.run([signature.output_name], {signature.input_name: feed})
        except Exception as error:  # of C++, below Exception
            raise _invalid(f"it cannot process an input of {image.shape}: {_first_line(error)}") from error
        return np.asarray(output, dtype=np.float32)


def _signature(model: onnx.ModelProto, opset: int) -> OnnxSignature:
    import onnx

    kinds = {onnx.TensorProto.FLOAT: False, onnx.TensorProto.FLOAT16: True}
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in weights]
    if len(inputs) != 1 or not model.graph.output:
        names = ", ".join(value.name for value in inputs) or "none"
        raise _invalid(f"{len(inputs)} inputs ({names[:80]}) and {len(model.graph.output)} outputs, expected one input")
    (image,), result = inputs, model.graph.output[0]
    if image.type.tensor_type.elem_type not in kinds or result.type.tensor_type.elem_type not in kinds:
        raise _invalid("its input or output is not a tensor of float32 or float16")
    first = next((_width(node, model) for node in model.graph.node if node.op_type == "Conv"), 1)
    return OnnxSignature(
        input_name=image.name,
        output_name=result.name,
        input_shape=_shape(image),
        output_shape=_shape(result),
        input_is_half=kinds[image.type.tensor_type.elem_type],
        opset=opset,
        first_width=first,
        metadata={pair.key: pair.value for pair in model.metadata_props},
    )


def _width(node: onnx.NodeProto, model: onnx.ModelProto) -> int:
    """Return the output channels of a convolution; 1 if its weights are computed."""
    shapes = {tensor.name: tensor.dims for tensor in model.graph.initializer}
    return int(shapes.get(node.input[1], (1,))[0]) if len(node.input) > 1 else 1


def _shape(value: onnx.ValueInfoProto) -> Shape:
    return tuple(dim.dim_value if dim.dim_value > 0 else None for dim in value.type.tensor_type.shape.dim)


def _refuse_external_data(model: onnx.ModelProto) -> None:
    import onnx

    for tensor in _tensors(model):
        if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
            raise _invalid(
                f"the tensor {tensor.name[:40]!r} is in another file; save the network with all weights in one file"
            )


def _checked_opset(model: onnx.ModelProto) -> int:
    import onnx

    versions = [entry.version for entry in model.opset_import if entry.domain in STANDARD_DOMAINS]
    newest = onnx.defs.onnx_opset_version()
    if len(versions) != 1 or not MIN_OPSET <= versions[0] <= newest:
        raise _invalid(f"opset {', '.join(map(str, versions)) or 'none'}, expected {MIN_OPSET} to {newest}")
    return int(versions[0])


def _refuse_operators(model: onnx.ModelProto) -> None:
    own = {(function.domain, function.name) for function in model.functions}
    for node in _nodes(model):
        if node.domain not in STANDARD_DOMAINS and (node.domain, node.op_type) not in own:
            raise _invalid(f"the operator {node.domain[:40]}.{node.op_type[:40]} is not one of ONNX itself")
        if node.op_type in LOOPS:
            raise _invalid(f"the operator {node.op_type} is a loop, whose time has no bound")


def _graphs(model: onnx.ModelProto) -> Iterator[Any]:
    """Yield the graph, the functions, and the graphs nested in them."""
    waiting: list[Any] = [model.graph, *model.functions]
    while waiting:
        graph = waiting.pop()
        yield graph
        for node in graph.node:
            for attribute in node.attribute:
                waiting += [*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])]


def _nodes(model: onnx.ModelProto) -> Iterator[Any]:
    for graph in _graphs(model):
        yield from graph.node


def _tensors(model: onnx.ModelProto) -> Iterator[Any]:
    """Yield the tensors of initializers and of attributes, the parts of sparse ones included."""
    for graph in _graphs(model):
        yield from getattr(graph, "initializer", ())  # functions have none
        for sparse in getattr(graph, "sparse_initializer", ()):
            yield from (sparse.values, sparse.indices)
        for node in graph.node:
            for attribute in node.attribute:
                yield from attribute.tensors
                if attribute.HasField("t"):
                    yield attribute.t
                for sparse in (*attribute.sparse_tensors, attribute.sparse_tensor):
                    yield from (sparse.values, sparse.indices)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def _invalid(reason: str) -> CheckpointError:
    return CheckpointError(f"the ONNX file is not usable: {reason}", code="invalid_onnx")
