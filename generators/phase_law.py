"""Images of which nothing is asked have phase fractions as often as the library's crops have them.

A network learns the law of fractions roughly: its mean is off by a hundredth or so from training
to training, and near the ends, where one phase nearly fills a crop, there is too little. But the
law is known, for it is that of all crops of the library's micrographs. A batch of samples is
brought to it by the monotone map between two laws, which moves fractions by the least in the mean
(F. Santambrogio, Optimal Transport for Applied Mathematicians, 2015, theorem 2.9): the sample at
quantile u of its batch gets the library's quantile u, and keeps its shape.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from generators.morphology import thresholds
from loop.library import Library

if TYPE_CHECKING:
    from generators.flow import JointFlow

FloatArray = NDArray[np.float64]
PRIOR = 128  # samples that the library's own law weighs against a batch's
KNOTS = 4096
PLACES = 2**21  # crops that the law is taken from, at most
REDRAWS = 8
AT_HAND = 2**26  # numbers of logits that are kept so as not to be computed again


@dataclass(frozen=True, slots=True, eq=False)
class PhaseLaw:
    """Of each further phase's share r_k = f_k/(1 - f_1 - ... - f_(k-1)) of what others leave it.

    ``ordered``: (m, p - 1), each column in ascending order; f are area fractions. Of two phases
    the law is the fraction's own; of more, the shares are taken to be independent.
    """

    ordered: FloatArray

    @staticmethod
    def of(library: Library) -> PhaseLaw:
        """That of all training crops in which phases meet."""
        return PhaseLaw.fit(crop_fractions(library))

    @staticmethod
    def fit(fractions: FloatArray) -> PhaseLaw:
        """From fractions (n, p - 1) of images."""
        levels = (np.arange(KNOTS) + 0.5) / KNOTS
        columns = [np.quantile(s[np.isfinite(s)], levels) for s in shares_of(fractions).T]
        return PhaseLaw(np.stack(columns, axis=1))

    def level(self, shares: FloatArray) -> FloatArray:
        """(n, p - 1) where shares lie in the law, 0 to 1; in the middle of what is equal."""
        columns = [
            np.searchsorted(known, s, "left") + np.searchsorted(known, s, "right")
            for known, s in zip(self.ordered.T, shares.T, strict=True)
        ]
        found: FloatArray = np.stack(columns, axis=1) / (2 * len(self.ordered))
        return found

    def mapped(self, fractions: FloatArray, order: FloatArray) -> FloatArray:
        """Fractions (n, p - 1) that samples with ``fractions`` are to have.

        ``order``: (n, p - 1), fractions that rank samples, finer ones where many have the same.
        The law of what is sampled is told from the batch, and the library's own counts as much as
        ``PRIOR`` more samples: few are left nearly as they are.
        """
        n = len(fractions)
        ranks = (shares_of(order).argsort(0).argsort(0) + 0.5) / n
        now = shares_of(fractions)
        own = np.where(np.isfinite(now), self.level(now), ranks)
        level = (n * ranks + PRIOR * own) / (n + PRIOR)
        knots = (np.arange(len(self.ordered)) + 0.5) / len(self.ordered)
        pairs = zip(level.T, self.ordered.T, strict=True)
        return fractions_of(np.stack([np.interp(u, knots, known) for u, known in pairs], axis=1))

    def matched(self, logits: Tensor) -> tuple[NDArray[np.uint8], Tensor]:
        """Label images (n, h, w) of logits (n, p, h, w), and the fractions (n, p - 1) they have.

        ``morphology.thresholds`` take the place of the most probable label.
        """
        fractions, order = _fractions(logits)
        wanted = torch.from_numpy(self.mapped(fractions, order)).to(logits)
        labels = (logits + thresholds(logits, wanted)).argmax(1)
        return labels.to(torch.uint8).cpu().numpy(), wanted


def shares_of(fractions: FloatArray) -> FloatArray:
    """Fractions (n, p - 1) -> shares (n, p - 1) of what the phases before leave; NaN of nothing."""
    before = np.cumsum(fractions, axis=1) - fractions
    left = 1.0 - before
    # Sums of rounded fractions leave a little of nothing.
    some = left > 1e-12
    found: FloatArray = np.where(some, fractions / np.where(some, left, 1.0), np.nan)
    return found.clip(0.0, 1.0)


def fractions_of(shares: FloatArray) -> FloatArray:
    """The inverse of ``shares_of``."""
    left = np.cumprod(1.0 - shares, axis=1)
    before = np.concatenate([np.ones((len(shares), 1)), left[:, :-1]], axis=1)
    return shares * before


def _fractions(logits: Tensor) -> tuple[FloatArray, FloatArray]:
    """(n, p - 1) of the most probable labels of logits (n, p, h, w), and mean probabilities."""
    labels, p = logits.argmax(1).flatten(1), logits.shape[1]
    counted = [(labels == phase).double().mean(1) for phase in range(1, p)]
    expected = [
        chunk.double().softmax(1).mean((2, 3))[:, 1:]
        for chunk in logits.split(max(1, AT_HAND // 64 // logits[0].numel()))
    ]
    return torch.stack(counted, 1).cpu().numpy(), torch.cat(expected).cpu().numpy()


def drawn_freely(
    flow: JointFlow, states: Tensor, source: torch.Generator
) -> tuple[Tensor, NDArray[np.uint8], Tensor]:
    """Free samples (n, s) whose images follow the law, those (n, h, w), and fractions (n, p - 1).

    As the library does with its crops, states whose images show one phase are drawn anew,
    ``REDRAWS`` times at most.
    """
    assert flow.code is not None
    assert flow.code.vae is not None
    decode, law = flow.code.vae.logits, flow.library_law()

    def logits(x: Tensor) -> Tensor:
        latents, _ = flow.parts(x)
        assert latents is not None
        return decode(latents)

    states = states.clone()
    numbers = len(states) * math.prod(flow.space.image_shape or ()) * len(flow.space.phases)
    images, fractions = [], []
    for part in states.tensor_split(max(1, -(-numbers // AT_HAND))):
        raw = logits(part)
        for _ in range(REDRAWS):
            flat = raw.argmax(1).flatten(1)
            alone = torch.nonzero(flat.amin(1) == flat.amax(1))[:, 0]
            if not len(alone):
                break
            nothing = np.full((len(alone), len(flow.properties)), np.nan)
            part[alone] = flow.states(nothing, 0.0, source)
            raw[alone] = logits(part[alone])
        labels, held = law.matched(raw)
        images.append(labels)
        fractions.append(held)
    return states, np.concatenate(images), torch.cat(fractions)


# The library's crops


def crop_fractions(library: Library) -> FloatArray:
    """(n, p - 1) area fractions of the training crops in which phases meet.

    All positions, every s-th along both axes where there are more than ``PLACES``; of made designs
    their images. Raises InvalidInputError when there are no images.
    """
    images, phases = library.images(), len(library.space.phases)
    shape = library.space.image_shape
    assert shape is not None
    h, w = shape if library.made is None else images[0].shape
    places = sum((x.shape[0] - h + 1) * (x.shape[1] - w + 1) for x in images)
    step = max(1, int(np.ceil(np.sqrt(places / PLACES))))
    found = np.concatenate([_windows(x, phases, (h, w), step) for x in images])
    return found[(found.max(1) < 1.0) & (found.sum(1) > 0.0)]


def _windows(
    image: NDArray[np.uint8], phases: int, shape: tuple[int, int], step: int
) -> FloatArray:
    """(n, p - 1) fractions in windows of an image (H, W), by summed areas (Crow 1984)."""
    h, w = shape
    columns = []
    for phase in range(1, phases):
        sums = np.pad(np.cumsum(np.cumsum(image == phase, 0, dtype=np.int64), 1), ((1, 0), (1, 0)))
        area = sums[h:, w:] - sums[:-h, w:] - sums[h:, :-w] + sums[:-h, :-w]
        columns.append(area[::step, ::step].ravel() / (h * w))
    return np.stack(columns, axis=1)
