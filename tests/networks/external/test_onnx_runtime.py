"""What is refused of an ONNX file, before onnxruntime sees it."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from lib.errors import CheckpointError
from lib.networks.external import onnx_runtime
from lib.networks.external.onnx_runtime import OnnxSession, inspect_onnx, with_metadata
from tests.networks.external.onnx_files import convolution, model, picking

SHAPE = [1, 1, 8, 8]


def test_the_signature_of_a_file() -> None:
    signature = inspect_onnx(with_metadata(picking([1, 0, 2], 7, size=(64, "c")), {"name": "seven"}))
    assert (signature.input_name, signature.input_shape) == ("x", (1, 7, 64, None))
    assert (signature.output_name, signature.output_shape) == ("y", (1, 3, 64, None))
    assert (signature.opset, signature.first_width, signature.metadata) == (13, 3, {"name": "seven"})


def test_a_session_runs_float16_as_well() -> None:
    import onnx

    identity = onnx.helper.make_node("Identity", ["x"], ["y"])
    for kind, is_half in ((onnx.TensorProto.FLOAT, False), (onnx.TensorProto.FLOAT16, True)):
        content = model([identity], [], SHAPE, SHAPE, kind=kind)
        signature = inspect_onnx(content)
        image = np.full(SHAPE, 0.5, np.float32)
        output = OnnxSession(content, signature).run(image)
        assert signature.input_is_half is is_half and output.dtype == np.float32
        np.testing.assert_array_equal(output, image)


def external_data() -> bytes:
    import onnx

    node, tensor = convolution(np.ones((1, 1, 1, 1), np.float32))
    onnx.external_data_helper.set_external_data(tensor, "/etc/passwd")
    return model([node], [tensor], SHAPE, SHAPE)


def external_attribute() -> bytes:
    """A constant in an attribute of a nested graph."""
    import onnx

    helper = onnx.helper
    hidden = onnx.numpy_helper.from_array(np.ones(1, np.float32), name="hidden")
    onnx.external_data_helper.set_external_data(hidden, "weights.bin")
    branch = helper.make_graph(
        [helper.make_node("Constant", [], ["y2"], value=hidden)], "branch", [],
        [helper.make_tensor_value_info("y2", 1, [1])],
    )  # fmt: skip
    condition = helper.make_node("Constant", [], ["yes"], value=helper.make_tensor("c", 9, [], [True]))
    choice = helper.make_node("If", ["yes"], ["y"], then_branch=branch, else_branch=branch)
    return model([condition, choice], [], SHAPE, [1])


def custom_operator() -> bytes:
    import onnx

    node = onnx.helper.make_node("FusedConv", ["x"], ["y"], domain="com.microsoft")
    return model([node], [], SHAPE, SHAPE, domains=["com.microsoft"])


def loop() -> bytes:
    import onnx

    return model([onnx.helper.make_node("Loop", ["", "", "x"], ["y"])], [], SHAPE, SHAPE)


def unknown_operator() -> bytes:
    import onnx

    return model([onnx.helper.make_node("NoSuchThing", ["x"], ["y"])], [], SHAPE, SHAPE)


def two_inputs() -> bytes:
    import onnx

    proto = onnx.ModelProto.FromString(picking([0], 1))
    proto.graph.input.append(onnx.helper.make_tensor_value_info("z", 1, [1]))
    return bytes(proto.SerializeToString())


def integers() -> bytes:
    import onnx

    return model([onnx.helper.make_node("Identity", ["x"], ["y"])], [], SHAPE, SHAPE, kind=onnx.TensorProto.INT32)


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: b"", "without a network"),
        (lambda: b"PK\x03\x04 a zip file", "not an ONNX file"),
        (lambda: picking([0], 1)[:-40], "ONNX file"),
        (external_data, "the tensor 'w' is in another file"),
        (external_attribute, "the tensor 'hidden' is in another file"),
        (custom_operator, "com.microsoft.FusedConv is not one of ONNX itself"),
        (loop, "a loop, whose time has no bound"),
        (unknown_operator, "checker of onnx refuses it"),
        (two_inputs, "2 inputs"),
        (integers, "not a tensor of float32"),
        (lambda: picking([0], 1, opset=999), "opset 999, expected 7 to"),
    ],
)
def test_what_is_refused(build: Callable[[], bytes], words: str) -> None:
    with pytest.raises(CheckpointError, match=words) as refused:
        inspect_onnx(build())
    assert refused.value.code == "invalid_onnx"


def test_a_file_above_the_limit_is_refused_unread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_runtime, "MAX_BYTES", 100)
    with pytest.raises(CheckpointError, match="expected at most"):
        inspect_onnx(picking([0], 1))


def test_an_image_that_the_network_cannot_process_is_an_error() -> None:
    content = picking([0], 1, size=(8, 8))
    with pytest.raises(CheckpointError, match=r"cannot process an input of \(1, 1, 9, 8\)") as refused:
        OnnxSession(content, inspect_onnx(content)).run(np.zeros((1, 1, 9, 8), np.float32))
    assert refused.value.code == "invalid_onnx"


def test_without_the_packages_the_error_names_them(monkeypatch: pytest.MonkeyPatch) -> None:
    content = picking([0], 1)
    found = importlib.util.find_spec

    def without_runtime(name: str, *rest: Any) -> Any:
        return None if name == "onnxruntime" else found(name, *rest)

    monkeypatch.setattr(importlib.util, "find_spec", without_runtime)
    with pytest.raises(CheckpointError, match=r"optional package\(s\) onnxruntime, which are not installed") as refused:
        inspect_onnx(content)
    assert refused.value.code == "onnx_not_installed"
