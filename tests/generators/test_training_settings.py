"""The training settings of a campaign reach every training, and a coder keeps its number format."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache, partial
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from generators import adaptation, adaptation_control, vae
from generators.adaptation import AdaptSettings, adapt
from generators.adaptation_control import ControlSettings, control
from generators.dynamics.schedules import VP, Discrete, linear
from generators.flow import JointFlow, together
from generators.networks.autoencoder import Autoencoder
from generators.networks.joint import joint_network
from generators.training import adversarial
from generators.training.autoencoding import AutoencoderLoss
from generators.training.denoising import DenoisingLoss, DiffusionSettings
from generators.training.loop import Schedule, train
from generators.training.precision import Computation, TrainingSettings, has_bf16
from generators.vae import ImageVAE, VAESettings
from tests import libraries
from tests.generators.test_denoising import UNIT
from tests.generators.test_flow import TINY, untrained
from tests.generators.test_gan import records
from tests.generators.test_gan import untrained as untrained_gan

ASKED = TrainingSettings(precision="float32", compile=True, channels_last=False)
EXPECTED = Computation("float32", compiler="inductor", channels_last=False)
SHORT = VAESettings(latent_channels=2, width=8, steps=2, batch=8)


class StoppedError(Exception):
    """The training was about to begin."""


def how_of(
    monkeypatch: pytest.MonkeyPatch, room: ModuleType, begin: Callable[[], object]
) -> Computation:
    """How a training that ``room`` starts would be computed."""
    seen: list[Computation] = []

    def stopped(*_: Any, how: Computation, **__: Any) -> float:
        seen.append(how)
        raise StoppedError

    with monkeypatch.context() as patch:
        patch.setattr(room, "train", stopped)
        with pytest.raises(StoppedError):
            begin()
    return seen[0]


def images(n: int = 24) -> Tensor:
    return torch.from_numpy(np.stack(libraries.blobs(n, np.random.default_rng(0), side=16)))


def coder(training: TrainingSettings | None = None) -> ImageVAE:
    rng = np.random.default_rng(0)
    return ImageVAE.fit_images(images(), SHORT, phases=2, device="cpu", rng=rng, training=training)


def test_those_of_the_autoencoder(monkeypatch: pytest.MonkeyPatch) -> None:
    assert how_of(monkeypatch, vae, lambda: coder(ASKED)) == EXPECTED
    usual = Computation(vae.usual_precision("cpu"), channels_last=True)
    assert how_of(monkeypatch, vae, coder) == usual
    assert how_of(monkeypatch, vae, lambda: coder(TrainingSettings())) == usual


def test_those_of_the_adversarial_pair(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {"precision": "float32", "compile": True, "channels_last": False}
    for given, expected in (({"training": asked}, EXPECTED), ({}, Computation())):
        gan = untrained_gan("compositions", **given)
        found = records("compositions", 20)
        rng = np.random.default_rng(0)
        how = how_of(monkeypatch, adversarial, partial(gan.fit, found, rng=rng))
        assert how == expected


@cache
def flow() -> JointFlow:
    """Barely trained, and with training settings for whatever comes next."""
    few: dict[str, Any] = {"first_steps": 2, "head_first_steps": 2, "plain_rows": 20}
    sketch, coder = replace(TINY.sketch, first_steps=2), replace(TINY.vae, steps=2)
    new = untrained("image", replace(TINY, **few, sketch=sketch, vae=coder))
    designs = new.library.draw(20, rng=np.random.default_rng(0))
    fitted = new.fit(libraries.scored(designs), rng=np.random.default_rng(1))
    fitted.settings = replace(fitted.settings, training=ASKED)
    return fitted


def test_those_of_adapters_and_branches(monkeypatch: pytest.MonkeyPatch) -> None:
    new = libraries.blobs(4, np.random.default_rng(7), side=48)
    few = AdaptSettings(rank=2, batch=4, views=4, prior_images=4)
    rng = np.random.default_rng(0)
    how = how_of(monkeypatch, adaptation, lambda: adapt(flow(), list(new), few, rng=rng))
    assert how == EXPECTED
    branch = ControlSettings(batch=4, images=8)
    how = how_of(monkeypatch, adaptation_control, lambda: control(flow(), branch, rng=rng))
    assert how == EXPECTED


def test_a_coder_keeps_the_number_format_it_was_asked_for() -> None:
    """Written only where one was asked for: otherwise it is what suits the device."""
    coders = {p: coder(TrainingSettings(precision=p)) for p in (None, "bf16", "float32")}
    assert "vae_precision" not in coders[None].tensors()
    for asked, trained in coders.items():
        precision = asked or ("bf16" if has_bf16("cpu") else "float32")
        back = ImageVAE.restore(dict(trained.tensors()), SHORT, 2, "cpu")
        assert back.how.precision == trained.how.precision == precision
        assert torch.equal(back.encode(images()), trained.encode(images()))
        with torch.no_grad():
            mean, _ = trained.network.encode(images())
        plain = (mean - trained.mean) / trained.std
        assert torch.equal(plain, trained.encode(images())) == (precision == "float32")


@pytest.mark.parametrize("native", [True, False])
def test_the_usual_format_of_a_coder_suits_the_device(
    native: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also of one that was trained on another: without AVX-512, bf16 takes ten times as long."""
    trained = coder()
    monkeypatch.setattr(vae, "has_bf16", lambda _: native)
    back = ImageVAE.restore(dict(trained.tensors()), SHORT, 2, "cpu")
    assert back.how.precision == coder().how.precision == ("bf16" if native else "float32")


# Memory


@pytest.mark.parametrize(
    ("shape", "expected"),
    [(None, 256), ((4, 8, 8), 256), ((1, 64, 64), 256), ((1, 128, 64), 128), ((1, 256, 256), 16)],
)
def test_larger_images_are_denoised_fewer_at_once(shape: Any, expected: int) -> None:
    assert together(shape) == expected
    assert together((1, 4096, 4096)) == 1


@pytest.mark.parametrize("kind", ["epsilon", "v"])
def test_memory_of_a_training_step_does_not_grow_with_the_steps_of_the_process(kind: str) -> None:
    """One level a row: operations and kept numbers are those of T = 1000, 10 and infinity."""
    network = joint_network(
        "dit",
        latent_shape=None,
        vector_sizes=(1,),
        properties=1,
        width=16,
        depth=1,
        heads=2,
        channels=8,
    )
    loss = DenoisingLoss(network, UNIT, DiffusionSettings(prediction=kind))
    b = 6
    (data, noise), y = torch.randn(2, b, 1), torch.zeros(b, 1)
    sizes = []
    for path in (Discrete(linear().alpha_bar[:11]), linear(), VP()):
        t = torch.full((b,), 5) if isinstance(path, Discrete) else torch.full((b,), 0.5)
        level = path.level(t)
        kept: list[int] = []

        def keep(x: Tensor, kept: list[int] = kept) -> Tensor:
            kept.append(x.numel())
            return x

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
            value = loss(data, noise, level.signal.float(), level.noise.float(), y, y.bool())
        sizes.append((operations(value), len(kept), sum(kept)))
    assert sizes[0] == sizes[1] == sizes[2]
    assert sizes[0][0] > 10


def operations(value: Tensor) -> int:
    """Nodes of the graph that leads to a value."""
    seen, todo = set(), [value.grad_fn]
    while todo:
        node = todo.pop()
        if node is not None and node not in seen:
            seen.add(node)
            todo += [before for before, _ in node.next_functions]
    return len(seen)


# The compiler


def test_a_compiled_network_learns_what_the_plain_one_does() -> None:
    """Forwards and backwards as the compiler traces them, without its code generator."""
    finals, ends = [], []
    for compiler in (None, "aot_eager"):
        torch.manual_seed(0)
        network = joint_network(
            "dit",
            latent_shape=(2, 4, 4),
            vector_sizes=(3,),
            properties=2,
            width=16,
            depth=1,
            heads=2,
            channels=8,
        )

        def loss(x: Tensor, t: Tensor, y: Tensor, mask: Tensor, network: Any = network) -> Tensor:
            found: Tensor = (network(x, t, y, mask) - x).square().mean()
            return found

        how = Computation(compiler=compiler)
        batches = drawn(torch.Generator().manual_seed(0))
        finals.append(train(network, loss, batches, Schedule(3, 1e-3), stage="net", how=how))
        ends.append(torch.cat([p.detach().reshape(-1) for p in network.parameters()]))
    assert finals[1] == pytest.approx(finals[0], rel=1e-5)
    torch.testing.assert_close(ends[1], ends[0], rtol=1e-3, atol=1e-5)


# The compiler looks at every tensor that it goes on with behind a draw from a stream.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
def test_a_compiled_autoencoder_learns_what_the_plain_one_does() -> None:
    """Its loss counts steps for the warm-up: that is not compiled anew at each of them."""
    finals = []
    data = images(8)
    for compiler in (None, "aot_eager"):
        torch.manual_seed(0)
        network = Autoencoder(2, latent_channels=2, width=8)
        settings = replace(SHORT, kl_warmup=8.0)
        loss = AutoencoderLoss(network, settings, torch.Generator().manual_seed(0), "float32")
        how, batches = Computation(compiler=compiler), itertools.repeat((data,))
        finals.append(train(network, loss, batches, Schedule(12, 1e-3), stage="coder", how=how))
    assert finals[1] == pytest.approx(finals[0], rel=1e-5)


def drawn(generator: torch.Generator) -> Iterator[tuple[Tensor, ...]]:
    while True:
        x, t = torch.randn(4, 35, generator=generator), torch.rand(4, generator=generator)
        y = torch.randn(4, 2, generator=generator)
        yield x, t, y, y > 0
