"""Runtimes give the PET of eager float32, slice by slice, and the one that is too far from it is not used."""

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from lib.errors import RecipeError
from lib.imaging.normalize import Windows
from lib.networks.cascade import Cascade, NetworkConfig
from lib.networks.ensemble import combine
from lib.networks.runtimes import choice
from lib.networks.runtimes.check_images import AIR_HU, LUNG_HU, body_of, check_ct_hu
from lib.networks.runtimes.choice import WHOLE_CT_RATIO, ChosenRuntime, choose_runtime
from lib.networks.runtimes.compiled import CompiledRuntime
from lib.networks.runtimes.folded import FoldedRuntime
from lib.networks.runtimes.names import RuntimeName
from lib.networks.runtimes.runtime import Runtime
from lib.networks.slices import predict_stages

CPU = torch.device("cpu")
CONFIG = NetworkConfig(
    stages=2, base_channels=4, depth=2, context_slices=3, context_spacing_mm=3.0, normalization="batch",
    residual_stages=True, detail_low=0.425, detail_high=0.625,
)  # fmt: skip
WINDOWS = Windows(pet_high_suv=5.0)
FAR_SUV, NEAR_SUV = 100.0, 1e-9


def random_cascade(config: NetworkConfig, seed: int = 0) -> Cascade:
    """Weights and batch-norm statistics that differ from their initial values everywhere."""
    torch.manual_seed(seed)
    cascade = Cascade(config)
    with torch.no_grad():
        for weights in cascade.parameters():
            weights.add_(0.05 * torch.randn_like(weights))
        for module in cascade.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.1)  # type: ignore[union-attr]
                module.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
    return cascade.eval()


CASCADES: dict[str, Callable[[], Cascade]] = {
    "cascade": lambda: random_cascade(CONFIG),
    "ensemble": lambda: combine([random_cascade(CONFIG, seed) for seed in range(3)]),
    "as in the paper": lambda: random_cascade(NetworkConfig(stages=2, base_channels=4, depth=2)),
}
FLOAT32: dict[str, Callable[[Cascade], Runtime]] = {
    "folded": lambda cascade: FoldedRuntime(cascade, "float32"),
}
BFLOAT16: dict[str, Callable[[Cascade], Runtime]] = {
    "folded": lambda cascade: FoldedRuntime(cascade, "bfloat16"),
}
ALL = {
    f"{name}, {form}": build
    for form, of in (("float32", FLOAT32), ("bfloat16", BFLOAT16))
    for name, build in of.items()
}


def images(cascade: Cascade, count: int = 3) -> torch.Tensor:
    """Images whose size is no multiple of what the pooling needs."""
    return torch.rand(count, cascade.config.context_slices, 21, 30, generator=torch.Generator().manual_seed(1))


def run(network: Callable[[torch.Tensor], list[torch.Tensor]], ct: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        return torch.cat([pet.float() for pet in network(ct)], dim=1)


@pytest.mark.parametrize("cascade", CASCADES.values(), ids=CASCADES)
@pytest.mark.parametrize("build", FLOAT32.values(), ids=FLOAT32)
def test_every_stage_equals_eager_float32(cascade: Callable[[], Cascade], build: Callable[[Cascade], Runtime]) -> None:
    network = cascade()
    ct = images(network)
    torch.testing.assert_close(run(build(network), ct), run(network, ct), atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize("build", BFLOAT16.values(), ids=BFLOAT16)
def test_bfloat16_is_near_float32_and_returns_float32(build: Callable[[Cascade], Runtime]) -> None:
    network = CASCADES["ensemble"]()
    ct = images(network)
    pets = build(network)(ct)
    assert {pet.dtype for pet in pets} == {torch.float32}
    expected = run(network, ct)
    torch.testing.assert_close(run(build(network), ct), expected, atol=0.02 * float(expected.abs().max()), rtol=0)


@pytest.mark.parametrize("build", ALL.values(), ids=ALL)
@pytest.mark.parametrize("flips", [False, True])
def test_a_slab_equals_the_whole_bit_for_bit(build: Callable[[Cascade], Runtime], flips: bool) -> None:
    network = build(CASCADES["ensemble"]())
    ct = np.random.default_rng(0).random((11, 37, 30)).astype(np.float32)

    def predict(indices: range) -> np.ndarray:  # type: ignore[type-arg]
        stages = predict_stages(
            network, ct, indices, slice_spacing_mm=3.0, device=CPU, precision="float32", flips=flips
        )
        return np.stack(list(stages))

    whole = predict(range(11))
    for first, last in ((3, 4), (2, 9), (10, 11)):
        np.testing.assert_array_equal(predict(range(first, last)), whole[first:last])


def test_the_weights_of_the_network_are_not_changed() -> None:
    network = CASCADES["ensemble"]()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    FoldedRuntime(network, "bfloat16")
    assert {tensor.dtype for tensor in network.parameters()} == {torch.float32}
    for name, tensor in network.state_dict().items():
        torch.testing.assert_close(tensor, before[name], atol=0, rtol=0)


def choose(cascade: Cascade, *, limit_suv: float, name: RuntimeName = "auto") -> ChosenRuntime:
    return choose_runtime(cascade, WINDOWS, device=CPU, limit_suv=limit_suv, name=name)


@pytest.fixture
def with_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "has_bfloat16", lambda device: True)


@pytest.mark.usefixtures("with_bfloat16")
def test_bfloat16_is_chosen_within_the_limit_and_float32_beyond_it() -> None:
    cascade = CASCADES["cascade"]()
    near = choose(cascade, limit_suv=FAR_SUV)
    assert (near.network.name, near.network.number_format) == ("folded", "bfloat16")
    far = choose(cascade, limit_suv=near.difference_suv / 100)
    assert (far.network.name, far.network.number_format) == ("folded", "float32")
    assert far.difference_suv < near.difference_suv / 100


@pytest.mark.usefixtures("with_bfloat16")
def test_between_both_the_last_convolution_is_in_float32() -> None:
    cascade = CASCADES["ensemble"]()
    near = choose(cascade, limit_suv=FAR_SUV)
    between = choose(cascade, limit_suv=near.difference_suv * WHOLE_CT_RATIO * 0.99)
    assert (between.network.name, between.network.number_format) == ("folded", "bfloat16")
    assert 0 < between.difference_suv < near.difference_suv


def test_runtimes_are_compared_inside_the_body() -> None:
    ct_hu = check_ct_hu(3)
    body = body_of(ct_hu)
    np.testing.assert_array_equal(body, ct_hu[:, 1] != AIR_HU)
    assert np.unique(np.round(ct_hu[:, 1][body], -2)).min() < LUNG_HU + 100  # lungs are inside
    assert not body[:, [0, -1]].any()


def test_where_nothing_is_near_enough_the_network_runs_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    cascade = CASCADES["cascade"]()
    eager = choose(cascade, limit_suv=NEAR_SUV)
    assert eager.as_json() == {"name": "eager", "number_format": "float32", "difference_suv": 0.0}


@pytest.mark.usefixtures("with_bfloat16")
@pytest.mark.parametrize("name", ["eager", "folded"])
def test_a_requested_runtime_is_used_and_its_difference_is_known(name: RuntimeName) -> None:
    chosen = choose(CASCADES["cascade"](), limit_suv=NEAR_SUV, name=name)
    assert chosen.network.name == name
    assert (chosen.difference_suv == 0) == (name == "eager")


def test_without_bfloat16_in_hardware_float32_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "has_bfloat16", lambda device: False)
    assert choose(CASCADES["cascade"](), limit_suv=FAR_SUV).network.number_format == "float32"


def test_other_normalisations_are_kept_as_they_are() -> None:
    instance = random_cascade(dataclasses.replace(CONFIG, normalization="instance"))
    chosen = choose(instance, limit_suv=FAR_SUV)
    assert chosen.network.name == "folded" and chosen.difference_suv < FAR_SUV


def test_an_unknown_runtime_is_refused() -> None:
    with pytest.raises(RecipeError, match="one of auto, eager"):
        choose(CASCADES["cascade"](), limit_suv=FAR_SUV, name="tensorrt")  # type: ignore[arg-type]


@pytest.mark.slow
def test_a_compiled_network_equals_eager_float32() -> None:
    small = dataclasses.replace(CONFIG, stages=1, depth=1)  # compiling takes longest
    network = combine([random_cascade(small, seed) for seed in range(2)])
    compiled, ct = CompiledRuntime(network, "float32", CPU), images(network)
    for of_one_size in (ct, ct[..., :13, :17]):
        expected = run(network, of_one_size)
        torch.testing.assert_close(run(compiled, of_one_size), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("name", ["folded", "compiled"])
def test_a_runtime_on_a_gpu_is_near_eager_float32(name: RuntimeName) -> None:
    cuda = torch.device("cuda")
    cascade = CASCADES["ensemble"]().to(cuda)
    chosen = choose_runtime(cascade, WINDOWS, device=cuda, limit_suv=NEAR_SUV, name=name)
    assert chosen.network.name == name
    assert chosen.difference_suv < 0.1
