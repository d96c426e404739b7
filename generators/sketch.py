"""What an image is to be like, drawn before the image: its statistics given requested properties.

A small flow over the few statistics of ``morphology`` follows requests exactly where the network
over whole images does so roughly. It does not start from noise but, as SDEdit (Meng et al. 2022),
from the statistics of a sampled image, noised half of the way: what the request leaves open stays
as that image has it. Then the image is brought to what was drawn.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from generators.dynamics.flow import (
    Velocity,
    interpolate,
    logit_normal_times,
    target_velocity,
)
from generators.dynamics.samplers import heun
from generators.joint import Standardiser
from generators.morphology import Morphology, SketchSettings
from generators.networks.mlp import VectorFlow
from generators.training.card import load_weights
from generators.training.flow_matching import Draws, Rows, RunSettings
from generators.training.loop import Schedule, train

FloatArray = NDArray[np.float64]
TIME_MEAN = 0.8  # as of the compositions: late times are where requests are met exactly
SAME = 0.01  # a property that is a phase's fraction differs from it by less, mostly


class Sketch:
    """Flow of an image's statistics (n, m) under properties (n, k).

    ``fractions``: (p - 1,) which property is the area fraction of a further phase, -1 for none.
    """

    def __init__(
        self, morphology: Morphology, network: VectorFlow, fractions: NDArray[np.int64]
    ) -> None:
        self.morphology = morphology
        self.network = network
        self.fractions = fractions

    @staticmethod
    def create(morphology: Morphology, properties: int, settings: SketchSettings) -> Sketch:
        """Untrained, on the CPU."""
        network = sketch_network(morphology, properties, settings)
        return Sketch(morphology, network, np.full(morphology.phases - 1, -1))

    def trained(
        self,
        rows: Rows,
        values: FloatArray,
        run: RunSettings,
        settings: SketchSettings,
    ) -> tuple[Sketch, float]:
        """A copy trained on ``rows`` of coordinates, with property ``values`` (n, k) in units.

        Returns it and the final loss.
        """
        new = copy.copy(self)
        new.network = copy.deepcopy(self.network)
        new.fractions = same_fractions(self.morphology.fractions(rows.states).numpy(), values)
        draw = Draws(rows, run, settings.batch)
        network = new.network

        def batches() -> Iterator[tuple[Tensor, ...]]:
            b = settings.batch
            while True:
                index, plain, given, mask = draw()
                data = torch.cat([rows.states[index], rows.plain[plain]])
                t = logit_normal_times(b, generator=draw.generator, mean=TIME_MEAN)
                noise = torch.randn(b, network.size, generator=draw.generator)
                yield tuple(x.to(run.device) for x in (data, noise, t, given, mask))

        def loss(data: Tensor, noise: Tensor, t: Tensor, y: Tensor, mask: Tensor) -> Tensor:
            nothing = data[:, :0]
            predicted = network(interpolate(data, noise, t), t, nothing, y, mask)
            return (predicted - target_velocity(data, noise)).square().mean()

        schedule = (
            Schedule(settings.first_steps, settings.rate, ema=0.998)
            if run.fresh
            else Schedule(settings.retrain_steps, settings.rate / 4, warmup=20, ema=0.99)
        )
        final = train(
            network,
            loss,
            batches(),
            schedule,
            stage="image statistics",
            progress=run.progress,
            streams=(draw.generator,),
            keep=run.keep,
        )
        return new, final

    def under(self, y: Tensor, known: Tensor) -> Velocity:
        """The network's velocity under standardised requests (n, k), and which there are."""
        return lambda x, t: self.network(x, t, x[:, :0], y, known)

    @torch.no_grad()
    def draw(
        self,
        own: Tensor,
        velocity: Velocity,
        requests: FloatArray,
        guidance: float,
        settings: SketchSettings,
        source: torch.Generator,
    ) -> Tensor:
        """Coordinates (n, m) for images that have ``own`` (n, m), under requests (n, k).

        ``velocity``: that of ``under``, guided. Requested fractions are set, for they are known.
        """
        times = torch.linspace(settings.start, 1.0, settings.sample_steps + 1, device=own.device)
        found = heun(velocity, begun(own, settings, source), times)
        return self.as_asked(found, requests, guidance)

    def as_asked(self, found: Tensor, requests: FloatArray, guidance: float) -> Tensor:
        """Coordinates (n, m) in which the fractions that requests (n, k) name are set."""
        if guidance > 0:
            for phase, j in enumerate(self.fractions, 1):
                if j >= 0:
                    given = torch.from_numpy(requests[:, j]).to(found.device)
                    found = self.morphology.with_fraction(found, phase, given)
        return found

    # Keeping

    def tensors(self) -> dict[str, Tensor]:
        """Everything needed to rebuild, for a checkpoint."""
        scale = self.morphology.scale
        return {f"sketch.{k}": v for k, v in self.network.state_dict().items()} | {
            "sketch_mean": torch.from_numpy(scale.mean),
            "sketch_std": torch.from_numpy(scale.std),
            "sketch_pixels": torch.tensor(self.morphology.pixels),
            "sketch_fractions": torch.from_numpy(self.fractions),
        }

    @staticmethod
    def restore(
        tensors: Mapping[str, Tensor],
        properties: int,
        settings: SketchSettings,
        path: Path,
        device: str,
    ) -> Sketch | None:
        """Rebuilt from ``tensors()``; None from a checkpoint of a flow that had none.

        Raises InvalidInputError for weights of other sizes.
        """
        if "sketch_mean" not in tensors:
            return None
        mean, std, fractions = (
            tensors[f"sketch_{name}"].cpu().numpy() for name in ("mean", "std", "fractions")
        )
        pixels = int(tensors["sketch_pixels"])
        morphology = Morphology(len(fractions) + 1, pixels, Standardiser(mean, std))
        sketch = Sketch.create(morphology, properties, settings)
        load_weights(sketch.network, tensors, "sketch.", path)
        sketch.network.to(device).eval()
        sketch.fractions = fractions
        return sketch


def sketch_network(morphology: Morphology, properties: int, settings: SketchSettings) -> VectorFlow:
    """The untrained network for so many properties."""
    return VectorFlow(
        size=morphology.size,
        context=0,
        properties=properties,
        width=settings.width,
        depth=settings.depth,
    )


def begun(own: Tensor, settings: SketchSettings, source: torch.Generator) -> Tensor:
    """What a drawing begins with: coordinates ``own`` (n, m), noised to ``settings.start``."""
    noise = torch.randn(own.shape, generator=source).to(own)
    return interpolate(own, noise, torch.full((len(own),), settings.start).to(own))


def same_fractions(fractions: FloatArray, values: FloatArray) -> NDArray[np.int64]:
    """(p - 1,) the property among ``values`` (n, k) that a phase's fraction (n, p - 1) is, or -1.

    Known from the rows, whatever properties are called; predicted rows have errors of their own.
    """
    found = np.full(fractions.shape[1], -1)
    for phase, own in enumerate(fractions.T):
        spread = own.std()
        for j, column in enumerate(values.T):
            known = np.isfinite(column)
            if known.sum() < 2 or not spread > 0:
                continue
            gap = np.quantile(np.abs(column - own)[known], 0.75)
            if gap < SAME * spread:
                found[phase] = j
    return found
