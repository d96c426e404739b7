"""What generators over the joint state share: what they are asked for, and what they say of it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from generators.coding import JointCode
from generators.labels import label_bits, label_widths
from generators.requests import draw_requests
from generators.resuming import Resuming
from loop.candidate import Candidate, Origin
from loop.errors import InvalidCampaignError, InvalidInputError, unknown_name
from loop.known_alloys import DIFFERENCE, KnownAlloys, known_alloys
from loop.library import Library
from loop.process_labels import FREE, Codes, label_codes
from loop.scaling import PropertyScale
from loop.space import DesignSpace
from loop.targets import Targets

FloatArray = NDArray[np.float64]
CALIBRATED = 1024  # designs by which it is told where the presence of an element begins


class Asked(Resuming):
    """A generator of designs that is asked for property values, for each design its own.

    Requests are rows (n, k), NaN for a property that is not requested, or (n, k + l) with the codes
    of the space's l labels (``loop.process_labels``) after them, NaN for a label left free.
    """

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
        labels: Mapping[str, str] | None = None,
    ) -> list[Candidate]:
        """n candidates whose compositions are feasible; guidance 0 or no targets: unconditional.

        Targets, values and ranges alike, become requested values (``draw_requests``). ``labels``:
        what labels they are to have, ``{"processing": "CAST"}``; they always do, and guidance above
        0 makes the rest go with it. Raises InvalidInputError for a label or value that is not the
        space's.
        """
        if targets is None:
            requests = np.full((n, len(self.properties)), np.nan)
        else:
            requests = draw_requests(n, targets, self.properties, self.near, rng)
        requests = self.with_labels(requests, labels or {})
        return self.generate(requests, guidance=guidance, rng=rng)

    @abstractmethod
    def generate(
        self, requests: FloatArray, *, guidance: float, rng: np.random.Generator
    ) -> list[Candidate]:
        """One candidate per row of requests (n, k) or (n, k + l); NaN is not requested."""

    # What is asked

    def with_labels(self, requests: FloatArray, labels: Mapping[str, str]) -> FloatArray:
        """Requests (n, k) that also ask for labels: (n, k + l), or as they are for none.

        Raises InvalidInputError for a label or a value that is not the space's.
        """
        if not labels:
            return requests
        known = self.space.labels
        for name, value in labels.items():
            if name not in known:
                raise InvalidInputError("labels: " + unknown_name("label", name, known))
            if value not in known[name]:
                raise InvalidInputError(
                    f"label {name}: " + unknown_name("value", value, known[name])
                )
        codes = [
            float(values.index(labels[name])) if name in labels else np.nan
            for name, values in known.items()
        ]
        return np.concatenate([requests, np.tile(codes, (len(requests), 1))], axis=1)

    def asked_values(self, requests: FloatArray) -> FloatArray:
        """(n, k) the property values of requests (n, k) or (n, k + l)."""
        return requests[:, : len(self.properties)]

    def asked_labels(self, requests: FloatArray) -> Codes:
        """(n, l) codes of the labels that requests ask for, ``FREE`` where they ask for none.

        Raises InvalidInputError for requests of another width.
        """
        k, widths = len(self.properties), np.array(label_widths(self.space), dtype=np.int64)
        if requests.ndim != 2 or requests.shape[1] not in (k, k + len(widths)):
            raise InvalidInputError(
                f"requests have shape {requests.shape}; expected (n, {k}), one column a property"
                + (f", or (n, {k + len(widths)}) with the labels" if len(widths) else "")
            )
        if requests.shape[1] == k:
            return np.full((len(requests), len(widths)), FREE)
        found = np.nan_to_num(requests[:, k:], nan=float(FREE))
        codes = found.astype(np.int64)
        if np.any((codes != found) | (codes < FREE) | (codes >= widths)):
            raise InvalidInputError(
                "requests have label codes that are not the space's; expected places of its "
                "values, counted from 0, or NaN"
            )
        return codes

    @property
    def widths(self) -> tuple[int, ...]:
        """Columns of each condition: one of a property, one for each value of a label."""
        return (1,) * len(self.properties) + label_widths(self.space)

    def learned_conditions(self, candidates: Sequence[Candidate], values: FloatArray) -> FloatArray:
        """(n, c) conditions of designs with properties (n, k): these standardised, and the labels.

        NaN where a property is not known.
        """
        assert self.property_scale is not None
        scaled = self.property_scale.forward(values)
        if not self.space.labels:
            return scaled
        return np.concatenate(
            [scaled, label_bits(self.space, label_codes(self.space, candidates))], axis=1
        )

    def wanted(self) -> list[bool]:
        """Of each condition, whether the campaign has a target for it."""
        of_properties = [k in self.targets.properties for k in self.properties]
        return of_properties + [False] * len(self.space.labels)

    def requests_for(self, n: int, requests: FloatArray | None) -> FloatArray:
        """Requests of n designs, NaN where nothing is asked, as they all are for None.

        Raises InvalidInputError for requests of another shape.
        """
        k, labels = len(self.properties), len(self.space.labels)
        if requests is None:
            return np.full((n, k), np.nan)
        if requests.shape not in ((n, k), (n, k + labels)):
            raise InvalidInputError(
                f"requests have shape {requests.shape}; expected ({n}, {k})"
                + (f", or ({n}, {k + labels}) with labels" if labels else "")
            )
        return requests

    def conditions(self, requests: FloatArray) -> tuple[Tensor, Tensor]:
        """Standardised requests (n, c), 0 where nothing is asked, and which are asked.

        c is k and, in a space with labels, one column for each of their values.
        """
        assert self.property_scale is not None
        values = self.property_scale.forward(self.asked_values(requests))
        if self.space.labels:
            bits = label_bits(self.space, self.asked_labels(requests))
            values = np.concatenate([values, bits], axis=1)
        known = torch.from_numpy(np.isfinite(values)).to(self.device)
        return torch.from_numpy(np.nan_to_num(values)).float().to(self.device), known

    def untrained(self) -> InvalidInputError:
        """What is raised by whatever needs a fit, before the first one."""
        return InvalidInputError(f"{self.name} is not trained; call fit(records) first")

    def origin(self, request: FloatArray, guidance: float, **details: Any) -> Origin:
        """Where a design comes from that was asked for a row (k,) or (k + l,)."""
        asked = zip(self.properties, request, strict=False)
        requested = {k: float(v) for k, v in asked if np.isfinite(v)}
        labels = {
            name: values[code]
            for (name, values), code in zip(
                self.space.labels.items(), self.asked_labels(request[None])[0].tolist(), strict=True
            )
            if code != FREE
        }
        if labels:
            details = {"requested_labels": labels, **details}
        return Origin(self.name, guidance, {"requested": requested, **details})

    def origins(
        self,
        requests: FloatArray,
        guidance: float,
        compositions: FloatArray | None,
        details: Sequence[Mapping[str, Any]] | None = None,
    ) -> list[Origin]:
        """Of designs with compositions (n, p, e), asked for rows of requests.

        Of alloys of one phase without images also ``difference_from_known``: to the nearest alloy
        of the library, the sum of absolute differences of atomic fractions, 0 to 2.
        """
        more = [dict(one) for one in details] if details else [{} for _ in requests]
        if compositions is not None and self._known_alloys is not None:
            found = self._known_alloys.nearest(compositions[:, 0]).difference
            for one, difference in zip(more, found.tolist(), strict=True):
                one[DIFFERENCE] = difference
        return [self.origin(row, guidance, **one) for row, one in zip(requests, more, strict=True)]

    @cached_property
    def _known_alloys(self) -> KnownAlloys | None:
        return known_alloys(self.library)

    def held_out(self, n: int, rng: np.random.Generator) -> list[Candidate]:
        """n designs of the library's validation split where there is one."""
        made = self.library.made
        there = bool(len(made.rows("val"))) if made is not None else self.library.has_images("val")
        return self.library.draw(n, rng=rng, split="val" if there else "train")
