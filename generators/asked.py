"""What generators over the joint state share: what they are asked for, and what they say of it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from generators.coding import JointCode
from generators.requests import draw_requests
from generators.resuming import Resuming
from loop.candidate import Candidate, Origin
from loop.errors import InvalidCampaignError, InvalidInputError
from loop.library import Library
from loop.scaling import PropertyScale
from loop.space import DesignSpace
from loop.targets import Targets

FloatArray = NDArray[np.float64]


class Asked(Resuming):
    """A generator of designs that is asked for property values, for each design its own."""

    name: str

    def __init__(
        self,
        space: DesignSpace,
        library: Library,
        targets: Targets,
        properties: Sequence[str],
        device: str,
        *,
        side: int,
    ) -> None:
        """``side``: what the sides of images are multiples of.

        Raises InvalidCampaignError for images of another size.
        """
        shape = space.image_shape
        if shape is not None and any(length % side for length in shape):
            raise InvalidCampaignError(
                f"{self.name} got images of {shape[0]} x {shape[1]} pixels; expected a multiple of "
                f"{side} (images.patch)"
            )
        self.space = space
        self.library = library
        self.targets = targets
        self.properties = tuple(properties)
        self.device = device
        self.code: JointCode | None = None
        self.property_scale: PropertyScale | None = None
        self.near: FloatArray = np.zeros((0, len(self.properties)))  # values of the best rows

    def propose(
        self,
        n: int,
        targets: Targets | None = None,
        *,
        guidance: float,
        rng: np.random.Generator,
    ) -> list[Candidate]:
        """n candidates whose compositions are feasible; guidance 0 or no targets: unconditional.

        Targets, values and ranges alike, become requested values (``draw_requests``).
        """
        if targets is None:
            requests = np.full((n, len(self.properties)), np.nan)
        else:
            requests = draw_requests(n, targets, self.properties, self.near, rng)
        return self.generate(requests, guidance=guidance, rng=rng)

    @abstractmethod
    def generate(
        self, requests: FloatArray, *, guidance: float, rng: np.random.Generator
    ) -> list[Candidate]:
        """One candidate per row of requested property values (n, k); NaN is not requested."""

    def conditions(self, requests: FloatArray) -> tuple[Tensor, Tensor]:
        """Standardised requests (n, k), 0 where nothing is asked, and which are asked."""
        assert self.property_scale is not None
        known = torch.from_numpy(np.isfinite(requests)).to(self.device)
        values = torch.from_numpy(np.nan_to_num(self.property_scale.forward(requests))).float()
        return values.to(self.device), known

    def untrained(self) -> InvalidInputError:
        """What is raised by whatever needs a fit, before the first one."""
        return InvalidInputError(f"{self.name} is not trained; call fit(records) first")

    def origin(self, request: FloatArray, guidance: float, **details: Any) -> Origin:
        """Where a design comes from that was asked for a row (k,)."""
        asked = zip(self.properties, request, strict=True)
        requested = {k: float(v) for k, v in asked if np.isfinite(v)}
        return Origin(self.name, guidance, {"requested": requested, **details})

    def held_out(self, n: int, rng: np.random.Generator) -> list[Candidate]:
        """n designs of the library's validation split where there is one."""
        made = self.library.made
        there = bool(len(made.rows("val"))) if made is not None else self.library.has_images("val")
        return self.library.draw(n, rng=rng, split="val" if there else "train")
