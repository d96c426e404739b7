"""Samples of a trained generator moved in latent space to given two-point statistics.

A generator's samples look like what it was trained on, and the few that come near a two-point
function need little more: of several samples the nearest is taken, and its latent goes down the
gradient of the two-point error through the decoder (D. P. Kingma & J. Ba, Adam, ICLR 2015). The
image is judged by its labels, whose phase holds exactly the pixels asked for: those where the
decoder favours it most. Backwards, labels stand for probabilities around that level
(straight-through, Y. Bengio et al., arXiv 1308.3432).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from generators.coding import JointCode
from generators.flow import JointFlow
from generators.training.checkpoint import torch_generator
from generators.two_point_target import FloatArray, Labels, TwoPointTarget, pair_counts
from loop.candidate import Candidate
from loop.errors import InvalidInputError
from loop.space import DesignSpace

SOFTNESS = 2.0  # of the probabilities that labels stand for, in logits
TOGETHER = 64  # images decoded with gradient at a time


class ImagePrior(Protocol):
    """What a trained generator gives for images of one phase and the rest."""

    name: str
    shape: tuple[int, int]

    def draw(self, n: int, target: TwoPointTarget, rng: np.random.Generator) -> Tensor:
        """(n, ...) latents of samples, which may be such as come near the target."""
        ...

    def margin(self, latents: Tensor) -> Tensor:
        """(n, h, w) how much the decoder favours the phase, in logits, with gradient."""
        ...


@dataclass(frozen=True, slots=True)
class Search:
    """``pool``: samples of which the nearest is taken. ``steps``: gradients per image at most.

    ``rate``: of Adam, in standard deviations of the data. ``close``: two-point error that ends it.
    """

    pool: int = 3
    steps: int = 10
    rate: float = 0.4
    close: float = 0.02


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """``images`` (n, h, w) of 0 and 1; two-point errors (n,) of the nearest samples and of these;
    ``decodings``: images decoded, samples included, per image.
    """

    images: Labels
    sample_errors: FloatArray
    errors: FloatArray
    decodings: float


def straight_through(margin: Tensor, pixels: int) -> Tensor:
    """Labels (n, h, w) of 0 and 1, ``pixels`` ones each where ``margin`` is highest.

    The gradient is that of the probabilities sigmoid((margin − level) / SOFTNESS), the level
    between the last pixel inside and the first outside.
    """
    flat = margin.flatten(1)
    order = flat.detach().topk(pixels + 1, dim=1)
    hard = torch.zeros_like(flat).scatter_(1, order.indices[:, :pixels], 1.0)
    level = order.values[:, pixels - 1 :].mean(1, keepdim=True)
    soft = torch.sigmoid((flat - level) / SOFTNESS)
    return (hard + (soft - soft.detach())).reshape(margin.shape)


def two_point_errors(fields: Tensor, target: TwoPointTarget) -> Tensor:
    """(n,) as ``TwoPointTarget.errors``, of fields (n, h, w), with gradient (0 at no error)."""
    size = target.two_point.size
    power = torch.fft.rfft2(fields).abs().square()
    s2 = torch.fft.irfft2(power, s=target.shape) / size
    window = torch.from_numpy(target.window).to(fields.device)
    wanted = torch.from_numpy(target.two_point.copy()).to(s2)
    square = ((s2 - wanted)[:, window] / target.fraction).square().mean(1)
    away = square > 0
    return torch.where(away, torch.where(away, square, 1.0).sqrt(), 0.0)


def search(
    prior: ImagePrior,
    target: TwoPointTarget,
    n: int,
    *,
    rng: np.random.Generator,
    settings: Search | None = None,
) -> Found:
    """n images of the prior brought toward the target, each from samples of its own.

    No image ends with a larger error than the nearest of its samples. Raises InvalidInputError
    for a target of another shape than the prior's images.
    """
    settings = settings or Search()
    if prior.shape != target.shape:
        raise InvalidInputError(
            f"the two-point function is that of images of {target.shape[0]} x {target.shape[1]}; "
            f"the trained {prior.name} makes {prior.shape[0]} x {prior.shape[1]}: give a target "
            "of that size, or start without a trained generator"
        )
    parts = [
        _search_together(prior, target, min(TOGETHER, n - start), rng, settings)
        for start in range(0, n, TOGETHER)
    ]
    return Found(
        np.concatenate([p.images for p in parts]),
        np.concatenate([p.sample_errors for p in parts]),
        np.concatenate([p.errors for p in parts]),
        float(np.average([p.decodings for p in parts], weights=[len(p.images) for p in parts])),
    )


def _search_together(
    prior: ImagePrior,
    target: TwoPointTarget,
    n: int,
    rng: np.random.Generator,
    settings: Search,
) -> Found:
    latents = prior.draw(n * settings.pool, target, rng)
    with torch.no_grad():
        labels = torch.cat(
            [straight_through(prior.margin(z), target.pixels) for z in latents.split(TOGETHER)]
        )
    errors = two_point_errors(labels, target).double()
    errors, chosen = errors.reshape(n, settings.pool).min(1)
    first = chosen + settings.pool * torch.arange(n, device=chosen.device)
    best, labels = errors.clone(), labels[first]
    z = latents[first].clone().requires_grad_()
    adam = torch.optim.Adam([z], lr=settings.rate)
    decodings = n * settings.pool
    for _ in range(settings.steps):
        rows = torch.nonzero(best > settings.close)[:, 0]
        if not len(rows):
            break
        with torch.enable_grad():
            fields = straight_through(prior.margin(z[rows]), target.pixels)
            found = two_point_errors(fields, target)
            # Each image has its own latent, so one sum gives all their gradients; those of the
            # decoder's weights are not formed.
            (z.grad,) = torch.autograd.grad(found.sum(), z)
        decodings += len(rows)
        hard = fields.detach()
        found = found.detach().double()
        better = found < best[rows]
        kept = rows[better]
        best[kept], labels[kept] = found[better], hard[better]
        adam.step()
    images: NDArray[np.uint8] = labels.round().to(torch.uint8).cpu().numpy()
    return Found(images, errors.cpu().numpy(), best.cpu().numpy(), decodings / n)


@runtime_checkable
class LatentGenerator(Protocol):
    """A generator whose images are decoded latents: flow, diffusion, autoencoder, GAN."""

    name: str
    space: DesignSpace
    properties: tuple[str, ...]

    @property
    def code(self) -> JointCode | None: ...

    def trained_network(self) -> Any:
        """Raises InvalidInputError before the first fit."""
        ...

    def generate(
        self, requests: FloatArray, *, guidance: float, rng: np.random.Generator
    ) -> list[Candidate]: ...


class TrainedPrior:
    """Samples of a campaign's trained generator with a latent space of images.

    ``phase``: the index of the one that is looked at. Where the generator knows the phase's
    fraction as a property, it is asked for. Raises InvalidInputError for a generator that is not
    trained or has no images.
    """

    def __init__(self, generator: LatentGenerator, phase: int = 1) -> None:
        generator.trained_network()
        space = generator.space
        if generator.code is None or generator.code.vae is None or space.image_shape is None:
            raise InvalidInputError(
                f"the trained {generator.name} has no latent space of images; choose joint-flow or "
                "vae, or start without a trained generator"
            )
        if not 0 <= phase < len(space.phases):
            raise InvalidInputError(
                f"phase is {phase}; the trained {generator.name} has {len(space.phases)} "
                f"({', '.join(space.phases)}), counted from 0"
            )
        self.name, self.shape = generator.name, space.image_shape
        self.generator, self.phase = generator, phase
        self.code = generator.code.vae
        self.asked = f"{space.phases[phase]}_fraction"

    @torch.no_grad()
    def draw(self, n: int, target: TwoPointTarget | None, rng: np.random.Generator) -> Tensor:
        """(n, c, h', w') latents; without a target from all that the generator makes."""
        generator = self.generator
        requests = np.full((n, len(generator.properties)), np.nan)
        guidance = 0.0
        if target is not None and self.asked in generator.properties:
            requests[:, generator.properties.index(self.asked)] = target.fraction
            guidance = 1.0
        if isinstance(generator, JointFlow):
            # Its vectors are not needed, nor are the simulators that would guide it.
            source = torch_generator(rng)
            noise = torch.randn(n, generator.trained_network().state_size, generator=source)
            states = generator.sample(noise.to(generator.device), requests, guidance)
            latents, _ = generator.parts(states)
            assert latents is not None
            return latents
        made = generator.generate(requests, guidance=guidance, rng=rng)
        images = np.stack([c.microstructure for c in made if c.microstructure is not None])
        return self.code.encode(torch.from_numpy(images))

    def margin(self, latents: Tensor) -> Tensor:
        logits = self.code.logits(latents)
        others = torch.cat([logits[:, : self.phase], logits[:, self.phase + 1 :]], dim=1)
        return logits[:, self.phase] - others.amax(1)


class SampleBank:
    """Samples drawn once and kept with their two-point functions, for many reconstructions.

    Of them a target takes the nearest of a random half, so that no generator has to run and two
    calls do not begin alike. ``size``: at least 2.
    """

    @torch.no_grad()
    def __init__(self, prior: TrainedPrior, size: int, rng: np.random.Generator) -> None:
        if size < 2:
            raise InvalidInputError(f"a bank of {size} samples; expected at least 2")
        self.prior, self.name, self.shape = prior, prior.name, prior.shape
        self.latents = torch.cat(
            [prior.draw(len(part), None, rng) for part in torch.arange(size).split(TOGETHER)]
        )
        margins = [prior.margin(z) for z in self.latents.split(TOGETHER)]
        labels = (torch.cat(margins) > 0).cpu().numpy()
        self.two_point = (pair_counts(labels) / labels[0].size).astype(np.float32)

    def draw(self, n: int, target: TwoPointTarget, rng: np.random.Generator) -> Tensor:
        """(n, c, h', w') latents, the nearest first; the same ones again when there are fewer."""
        half = rng.permutation(len(self.latents))[: max(1, len(self.latents) // 2)]
        gap = self.two_point[half][:, target.window] - target.two_point[target.window]
        order = half[np.argsort(np.square(gap).sum(1), kind="stable")]
        return self.latents[torch.from_numpy(np.resize(order, n)).to(self.latents.device)]

    def margin(self, latents: Tensor) -> Tensor:
        return self.prior.margin(latents)
