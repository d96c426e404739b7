"""Designs of a campaign with two phases along a tie-line: the same phases, more and more of one.

Every design has the two compositions in equilibrium, and a micrograph in which the phases have the
fractions of the lever rule. These are of atoms; in the image they are of area, which takes the
atomic volumes of the phases as equal (``Candidate.composition``). Images hold at least one pixel
of either phase, so the ends are as near to one phase as an image of two comes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from flows.paths import design_of
from flows.tie_line import TieLine, phase_names, temperature_variable
from generators.editor import Editor
from generators.flow import JointFlow
from generators.latent_search import LatentGenerator, TrainedPrior
from generators.random_field import LibraryCovariance
from generators.spectral_field import cut
from generators.student import JointStudent
from loop.campaign import Campaign
from loop.candidate import Candidate, Origin
from loop.composition import FloatArray
from loop.errors import InvalidInputError, LedgerError
from loop.library import Library
from loop.round import stage_rng
from loop.session import Session
from loop.summary import LOOP_ARM

Labels = NDArray[np.uint8]
POOL = 8  # images of which the one nearest to the fraction is taken


class FractionImages(Protocol):
    """Micrographs (h, w) of two phases with a given fraction of the second."""

    source: str  # in words
    library: Library

    def image(self, design: Candidate, fraction: float) -> Labels: ...


class TrainedImages:
    """Of a trained generator: its image that comes nearest, with the level moved to the fraction.

    Joint flows draw images to go with the design's compositions and process, and each generator
    is asked for the fraction where it knows that as a property (``<phase>_fraction``). The
    decoder's preference for the phase is then cut where the fraction is met to half a pixel.
    """

    def __init__(
        self, generator: LatentGenerator, session: Session, *, guidance: float, seed: int
    ) -> None:
        self.library = session.library
        self.source = f"the trained {generator.name}, cut at each fraction"
        self.generator, self.guidance = generator, guidance
        self.prior = TrainedPrior(generator, 1)
        self.seeds = session.campaign.seed, seed
        self._pools: dict[tuple[float | None, str], tuple[FloatArray, FloatArray]] = {}

    @torch.no_grad()
    def image(self, design: Candidate, fraction: float) -> Labels:
        """(h, w) labels; ``design``: with compositions and process, its image is not looked at."""
        known = self.prior.asked in self.generator.properties
        key = fraction if known else None, design.id
        if key not in self._pools:
            images = self._drawn(design, key[0])
            favoured = self.prior.margin(self.prior.code.encode(torch.from_numpy(images)))
            self._pools[key] = images.mean((1, 2)), favoured.double().cpu().numpy()
        fractions, margins = self._pools[key]
        nearest = int(np.abs(fractions - fraction).argmin())
        return cut(margins[nearest][None], fraction)[0]

    def _drawn(self, design: Candidate, fraction: float | None) -> Labels:
        """(POOL, h, w), of the same noise each time."""
        properties = self.generator.properties
        requests = np.full((POOL, len(properties)), np.nan)
        if fraction is not None:
            requests[:, properties.index(self.prior.asked)] = fraction
        rng = stage_rng(self.seeds[0], "tie-line", self.seeds[1], "microstructure")
        if isinstance(self.generator, JointFlow):
            editor = Editor(self.generator, guidance=self.guidance)
            made = editor.microstructures_for(design, POOL, rng=rng, requests=requests)
        else:
            guidance = 0.0 if fraction is None else self.guidance
            made = self.generator.generate(requests, guidance=guidance, rng=rng)
        return np.stack([c.microstructure for c in made if c.microstructure is not None])


class FieldImages:
    """Where nothing is trained: Gaussian fields with the library's two-point statistics.

    Of the same noise at every fraction, so that images change as little as fractions do. Raises
    InvalidInputError for a library whose images show one phase only.
    """

    source = (
        "random fields with the library's two-point statistics (no trained generator of images)"
    )

    def __init__(self, library: Library, campaign: Campaign, *, seed: int) -> None:
        self.library = library
        self.seeds = campaign.seed, seed
        self.covariance = LibraryCovariance.measure(library)

    def image(self, design: Candidate, fraction: float) -> Labels:
        """(h, w) labels; what the design is made of has no say."""
        assert design.phase_compositions is not None
        shape = self.library.space.image_shape
        assert shape is not None
        least = 1.0 / (shape[0] * shape[1])
        rng = stage_rng(self.seeds[0], "tie-line", self.seeds[1], "microstructure")
        field = self.covariance.field(min(max(fraction, least), 1.0 - least))
        return field.sample(1, rng)[0]


def images_of(session: Session, *, guidance: float = 1.0, seed: int = 0) -> FractionImages:
    """By the session's trained generator, by random fields where there is none."""
    try:
        generator = session.latest(LOOP_ARM)
    except LedgerError:
        return FieldImages(session.library, session.campaign, seed=seed)
    if isinstance(generator, JointStudent):
        generator = generator.flow
    if not isinstance(generator, LatentGenerator):
        return FieldImages(session.library, session.campaign, seed=seed)
    return TrainedImages(generator, session, guidance=guidance, seed=seed)


def start_of(
    line: TieLine, campaign: Campaign, process: Mapping[str, float], labels: Mapping[str, str]
) -> Candidate:
    """A design with the line's ends as phases, in its order, with no image yet.

    ``process``: a variable that is the temperature takes that of the line. Raises
    InvalidInputError for a campaign of other than two phases with images, a temperature that
    contradicts the line, and process variables and labels that ``design_of`` refuses.
    """
    space = campaign.space
    if len(space.phases) != 2 or space.image_shape is None:
        raise InvalidInputError(
            "designs on a tie-line are micrographs of its two phases, and campaign "
            f"{campaign.name!r} has {', '.join(space.phases)}"
            + ("" if space.image_shape is not None else " without micrographs")
        )
    process = process_on(line, campaign, process)
    return design_of(space, line.compositions[[0, -1]], process, labels=labels)


def designs_on(
    line: TieLine,
    campaign: Campaign,
    images: FractionImages,
    process: Mapping[str, float],
    labels: Mapping[str, str],
) -> list[Candidate]:
    """A design for each point of a tie-line, in order, of a campaign with two phases and images.

    Raises as ``start_of`` does.
    """
    start = start_of(line, campaign, process, labels)
    order = matched(line, campaign, images.library)
    start = dataclasses.replace(start, phase_compositions=line.compositions[[0, -1]][list(order)])
    # The second phase of the campaign is the line's second, or its first.
    second = line.t if order == (0, 1) else 1.0 - line.t
    found = []
    for t, fraction in zip(line.t.tolist(), second.tolist(), strict=True):
        about = {"tie_line": list(line.phases), "t": t, "images": images.source}
        image = images.image(start, fraction)
        origin = Origin("interpolation", details=about)
        found.append(dataclasses.replace(start, microstructure=image, origin=origin))
    return found


def process_on(
    line: TieLine, campaign: Campaign, process: Mapping[str, float]
) -> Mapping[str, float]:
    """Process variables with the line's temperature among them, where it is one.

    Raises InvalidInputError for another temperature.
    """
    name = temperature_variable(campaign)
    if name is None:
        return process
    given = process.get(name, line.temperature_K)
    if given != line.temperature_K:
        raise InvalidInputError(
            f"--process {name} is {given:g}, but the tie-line is that at {line.temperature_K:g} K; "
            "leave one of the two out"
        )
    return {**process, name: line.temperature_K}


def matched(line: TieLine, campaign: Campaign, library: Library) -> tuple[int, int]:
    """Which end of the line, 0 or 1, each of the campaign's two phases is.

    By their names in the database, and where these do not tell by composition: the nearest to the
    library's means, or to the middle of the bounds where it has no compositions.
    """
    low, high = campaign.space.bound_arrays()
    usual = (low + high) / 2 if library.table is None else library.table.mean(0)
    ends = line.compositions[[0, -1]]
    orders: Sequence[tuple[int, int]] = ((0, 1), (1, 0))
    names = phase_names(campaign)
    named = [o for o in orders if names == tuple(line.phases[i] for i in o)]
    return min(named or orders, key=lambda o: float(np.abs(ends[list(o)] - usual).sum()))
