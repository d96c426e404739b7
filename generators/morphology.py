"""Statistics of phase images that effective properties depend on, and images brought to them.

Of every phase but the first: its area fraction, the density of its interfaces, which sets its mean
chord, and the anisotropy of its two-point function. To second order in the contrast the latter is
what makes a conductivity along x differ from that along y (W. F. Brown, J. Chem. Phys. 23, 1514
(1955); S. Torquato, Random Heterogeneous Materials, 2002, section 20.1). Images are periodic.

A decoder is conditioned on them in two ways. They are met by the latent that is nearest, in
standard deviations of the data: damped Gauss-Newton steps as in ``steering``, without any
simulator. Fractions are then met to the pixel: thresholds for each image in the place of the most
probable label.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from generators.joint import Standardiser
from generators.steering import Search, one_hot
from generators.steering_steps import damped_step, jacobian_of
from loop.errors import InvalidCampaignError

FloatArray = NDArray[np.float64]
Slopes = Callable[[Tensor], Tensor]  # latents (n, c, h', w') -> Jacobians (n, size, c h' w')
PER_PHASE = 3
CHUNK_PIXELS = 128 * 64 * 64  # of the images in memory at once
CLOSE = 0.03  # of standardised statistics
REACH = 14.0  # of a step of the latent, in standard deviations; about 30 lies between two images
ROUNDS = 50  # of prices, at most
SOFTNESS = 1.0  # as in ``steering``; sharper, for interfaces are what moves


@dataclass(frozen=True, slots=True)
class SketchSettings:
    """Of ``sketch.Sketch``, the flow that draws an image's statistics, and what is made of them.

    ``start``: share of the way from noise that is not drawn anew. ``image_steps``: of an image's
    latent towards what was drawn; each costs about as much as decoding three times.
    """

    width: int = 64
    depth: int = 3
    batch: int = 512
    rate: float = 4e-3
    first_steps: int = 600
    retrain_steps: int = 150
    sample_steps: int = 8
    start: float = 0.3
    image_steps: int = 3

    def __post_init__(self) -> None:
        if not 0 <= self.start < 1:
            raise InvalidCampaignError(
                f"generator.settings.sketch: start is {self.start}; expected 0 or more, below 1"
            )


def statistics(fields: Tensor) -> Tensor:
    """Of phase fields (n, p, h, w), shares that sum to 1: (n, 3 (p - 1)), differentiable.

    Per further phase: fraction f; pairs of neighbours of which one is inside, per pixel; and the
    mean of (q_y - q_x)/(q_y + q_x) over the spectrum of its indicator, times f (1 - f):
    0 where x and y are alike, positive for bands along x. q = 2 - 2 cos is the wave number squared
    of the difference between neighbours.
    """
    n, p, h, w = fields.shape
    inside = fields[:, 1:]
    edges = torch.zeros_like(inside)
    for axis in (2, 3):
        before = inside.roll(1, axis)
        edges = edges + inside * (1 - before) + (1 - inside) * before
    power = torch.fft.rfft2(inside, norm="forward").abs().square()
    anisotropy = (power * _anisotropy(h, w).to(fields)).sum((2, 3))
    found = inside.mean((2, 3)), edges.mean((2, 3)), anisotropy
    return torch.stack(found, dim=2).reshape(n, PER_PHASE * (p - 1))


def _anisotropy(h: int, w: int) -> Tensor:
    """(h, w // 2 + 1) weights of the half spectrum, of which the inner columns count twice."""
    y = (2 - 2 * torch.cos(2 * torch.pi * torch.fft.fftfreq(h, dtype=torch.float64)))[:, None]
    x = (2 - 2 * torch.cos(2 * torch.pi * torch.fft.rfftfreq(w, dtype=torch.float64)))[None]
    weight = (y - x) / (x + y).clamp_min(1e-12)
    twice = torch.full((w // 2 + 1,), 2.0, dtype=torch.float64)
    twice[0] = 1.0
    if w % 2 == 0:
        twice[-1] = 1.0
    return weight * twice


@dataclass(frozen=True)
class Morphology:
    """Standardised coordinates of the statistics: interfaces by their logarithm.

    ``scale``: (3 (p - 1),) each; ``phases``: p >= 2; ``pixels``: of an image.
    """

    phases: int
    pixels: int
    scale: Standardiser

    @staticmethod
    def fit(images: NDArray[np.uint8], phases: int) -> Morphology:
        """From library images (n, h, w)."""
        size = PER_PHASE * (phases - 1)
        start = Morphology(phases, images[0].size, Standardiser(np.zeros(size), np.ones(size)))
        found = start.of(images).double().numpy()
        return Morphology(phases, images[0].size, Standardiser.fit(found))

    @property
    def size(self) -> int:
        return PER_PHASE * (self.phases - 1)

    def coordinates(self, found: Tensor) -> Tensor:
        """(n, size) statistics -> standardised."""
        half = 0.5 / self.pixels  # an image without interfaces stays finite
        logged = torch.arange(self.size, device=found.device) % PER_PHASE == 1
        raw = torch.where(logged, torch.where(logged, found + half, 1.0).log(), found)
        mean, std = (torch.from_numpy(x).to(raw) for x in (self.scale.mean, self.scale.std))
        return (raw - mean) / std

    def of(self, images: NDArray[np.uint8]) -> Tensor:
        """Coordinates (n, size) of label images (n, h, w), float32."""
        parts = [torch.zeros(0, self.size)]
        size = max(1, CHUNK_PIXELS // images[0].size) if len(images) else 1
        for start in range(0, len(images), size):
            labels = torch.from_numpy(images[start : start + size]).long()
            fields = functional.one_hot(labels, self.phases).permute(0, 3, 1, 2).float()
            parts.append(self.coordinates(statistics(fields)))
        return torch.cat(parts)

    def held(self, logits: Tensor, fractions: Tensor) -> tuple[Tensor, Tensor]:
        """Labels, one-hot, with ``thresholds`` for fractions (n, p - 1), and coordinates (n, size).

        Both with gradient by the logits (n, p, h, w). The coordinate of a fraction is that without
        thresholds: one far from the decoder's own roughens interfaces, so the logits are to have
        the fraction by themselves, too.
        """
        offset = thresholds(logits.detach(), fractions)
        hard, through = one_hot(logits + offset, SOFTNESS)
        _, plain = one_hot(logits, SOFTNESS)
        found = statistics(through).unflatten(1, (-1, PER_PHASE))
        found = torch.cat([plain.mean((2, 3))[:, 1:, None], found[..., 1:]], dim=2)
        return hard, self.coordinates(found.flatten(1))

    def fractions(self, coordinates: Tensor) -> Tensor:
        """(n, p - 1) area fractions in coordinates (n, size), within 0 and 1."""
        std = torch.from_numpy(self.scale.std[::PER_PHASE]).to(coordinates)
        mean = torch.from_numpy(self.scale.mean[::PER_PHASE]).to(coordinates)
        return (mean + std * coordinates[:, ::PER_PHASE]).clamp(0.0, 1.0)

    def with_fraction(self, coordinates: Tensor, phase: int, fraction: Tensor) -> Tensor:
        """Coordinates (n, size) where ``fraction`` (n,) of a further phase, NaN none, is set."""
        j = PER_PHASE * (phase - 1)
        value = (fraction - self.scale.mean[j]) / self.scale.std[j]
        column = torch.where(torch.isnan(value), coordinates[:, j], value.to(coordinates))
        return torch.cat([coordinates[:, :j], column[:, None], coordinates[:, j + 1 :]], dim=1)


def thresholds(logits: Tensor, fractions: Tensor) -> Tensor:
    """(n, p, 1, 1) to add to logits (n, p, h, w) so that images have fractions (n, p - 1).

    To the nearest pixel; an image keeps at least one pixel of each phase. Of two phases one number
    does it. Of more, they are the prices at which pixels, each going where it is worth most, share
    themselves out as asked (D. P. Bertsekas, Ann. Oper. Res. 14, 105, 1988): one phase's price
    after the other, until all counts are met; some six rounds do.
    """
    n, p, h, w = logits.shape
    pixels = h * w
    offset = torch.zeros(n, p, 1, 1, dtype=logits.dtype, device=logits.device)
    if p == 2:
        lead = (logits[:, 1] - logits[:, 0]).flatten(1)
        count = (fractions[:, 0] * pixels).round().long().clamp(1, pixels - 1)
        offset[:, 1, 0, 0] = _halfway(lead, count)
        return offset
    counts = _counts(fractions, pixels)
    flat, price = logits.flatten(2), offset[:, :, 0]
    for _ in range(ROUNDS):
        for phase in range(p):
            others = flat + price
            others[:, phase] = -torch.inf
            price[:, phase, 0] = _halfway(flat[:, phase] - others.amax(1), counts[:, phase])
        labels = (flat + price).argmax(1)
        if torch.equal(functional.one_hot(labels, p).sum(1), counts):
            break
    return offset


def _halfway(lead: Tensor, count: Tensor) -> Tensor:
    """(n,) to add to leads (n, m) so that ``count`` (n,) of them are above 0, 1 <= count < m."""
    ordered = lead.sort(dim=1, descending=True).values
    inside, outside = (ordered.gather(1, (count - i)[:, None])[:, 0] for i in (1, 0))
    return -0.5 * (inside + outside)


def _counts(fractions: Tensor, pixels: int) -> Tensor:
    """(n, p) pixels of all phases for fractions (n, p - 1) of all but the first, each 1 or more."""
    shares = torch.cat([1 - fractions.sum(1, keepdim=True), fractions], 1).clamp_min(0)
    # One pixel each, and the rest by largest remainders.
    exact = shares / shares.sum(1, keepdim=True) * pixels
    least = exact.floor().clamp_min(1)
    over = least.sum(1, keepdim=True) - pixels
    least.scatter_add_(1, least.argmax(1, keepdim=True), -over.clamp_min(0))
    missing = (-over).clamp_min(0)
    order = (exact - least).argsort(dim=1, descending=True).argsort(dim=1)
    return (least + (order < missing)).long()


@torch.no_grad()
def matched(
    latents: Tensor,
    logits: Callable[[Tensor], Tensor],
    morphology: Morphology,
    wanted: Tensor,
    *,
    steps: int,
    close: float = CLOSE,
    slopes: Slopes | None = None,
    decoded: Tensor | None = None,
) -> tuple[Tensor, NDArray[np.uint8]]:
    """Latents (n, c, h', w') near the given ones whose images have ``wanted`` (n, size).

    Returns them and their images (n, h, w), decoded with ``thresholds``.

    At most ``steps`` Gauss-Newton steps, until every coordinate is within ``close``. A step that
    brings an image no nearer is taken back. ``slopes``: Jacobians in the place of the decoder's
    own, which cost a decoding backwards for each coordinate; what a step brought is always judged
    on the decoded image. ``decoded``: the logits (n, p, h, w) of ``latents``, where they are known.
    """
    size = max(1, CHUNK_PIXELS // morphology.pixels)
    known = [None] * -(-len(latents) // size) if decoded is None else list(decoded.split(size))
    parts = [
        _matched(z, logits, morphology, y, steps, close, slopes, raw)
        for z, y, raw in zip(latents.split(size), wanted.split(size), known, strict=True)
    ]
    return torch.cat([z for z, _ in parts]), np.concatenate([images for _, images in parts])


def _matched(
    latents: Tensor,
    logits: Callable[[Tensor], Tensor],
    morphology: Morphology,
    wanted: Tensor,
    steps: int,
    close: float,
    slopes: Slopes | None,
    decoded: Tensor | None,
) -> tuple[Tensor, NDArray[np.uint8]]:
    n = len(latents)
    search = Search(n, REACH)
    best, trial = latents.clone(), latents.clone()
    images: NDArray[np.uint8] | None = None
    fractions = morphology.fractions(wanted)
    size = morphology.size
    jacobians = torch.zeros(n, size, latents[0].numel(), dtype=torch.float64)
    errors = torch.zeros(n, size, dtype=torch.float64)
    for turn in range(steps + 1):
        rows = torch.nonzero(search.active)[:, 0]
        if not len(rows):
            break
        at = rows.to(latents.device)
        z, last = trial[at], turn == steps
        own = slopes is None and not last
        with torch.set_grad_enabled(own):
            z.requires_grad_(own)
            raw = logits(z) if decoded is None or turn or own else decoded
            hard, found = morphology.held(raw, fractions[at])
            jacobian = jacobian_of(found, [z])[0].cpu() if own else None
        residual = (wanted[at] - found.detach()).double().cpu()
        near = (residual.abs() <= close).all(1)
        better = search.judge(rows, residual.square().sum(1), near)
        kept = rows[better]
        best[kept.to(latents.device)] = z.detach()[better.to(latents.device)]
        labels = hard.argmax(1).to(torch.uint8).cpu().numpy()
        if images is None:
            images = labels
        images[kept.numpy()] = labels[better.numpy()]
        if last:
            break
        if jacobian is None:
            assert slopes is not None
            jacobian = slopes(z).double().cpu()
        jacobians[kept], errors[kept] = jacobian[better], residual[better]
        move = damped_step(jacobians, errors, search.reach)
        trial = best + move.reshape(best.shape).to(best)
    assert images is not None
    return best, images
