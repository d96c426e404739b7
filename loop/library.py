"""Library: the images and compositions of a campaign, and random designs drawn from them.

Micrographs and tables are independent: any crop goes with any row, and process variables lie
anywhere within their bounds. Labels that are columns of the table belong to its rows, others take
any of their values. Where no table is given its rows are drawn from what the space allows. Designs
that a simulator made are coupled: an image belongs to the compositions and the heat treatment that
gave it, so these are drawn together.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from loop.campaign import Campaign
from loop.candidate import Candidate, Origin
from loop.errors import InvalidInputError, unknown_name
from loop.images import SPLITS, LabelImage, Split, SplitImages
from loop.library_files import (
    broken_constraints,
    checked_variety,
    hash_files,
    load_images,
    load_table,
)
from loop.library_sampled import sampled_hash
from loop.made_designs import MadeDesigns
from loop.process_labels import Codes, drawn_codes, named_labels
from loop.space import DesignSpace

REDRAWS = 8
# Steps of the additive recurrence that fills a square most evenly: 1/ρ and 1/ρ² with ρ³ = ρ + 1
# (Roberts 2018, "The unreasonable effectiveness of quasirandom sequences").
STEPS = np.array([0.7548776662466927, 0.5698402909980532])


def transform(patches: NDArray[np.uint8], element: int) -> NDArray[np.uint8]:
    """Element 0–7 of the symmetry group of the square, on (n, h, h): rotation, then mirror.

    Element g rotates by (g mod 4) · 90° and mirrors left to right when g >= 4. Area fractions
    stay; properties along x and y change places under odd rotations.
    """
    turned = np.rot90(patches, k=element % 4, axes=(1, 2))
    return turned[:, :, ::-1] if element >= 4 else turned


def _varied_places(image: LabelImage, shape: tuple[int, int]) -> NDArray[np.int64]:
    """Numbers of the crop positions at which more than one phase shows."""
    steps = [(image[1:] != image[:-1], 0), (image[:, 1:] != image[:, :-1], 1)]
    varied = np.zeros((image.shape[0] - shape[0] + 1, image.shape[1] - shape[1] + 1), dtype=bool)
    for step, axis in steps:  # a crop varies when a step between neighbours lies in it
        size = (shape[0] - (axis == 0), shape[1] - (axis == 1))
        sums = np.pad(np.cumsum(np.cumsum(step, 0, dtype=np.int64), 1), ((1, 0), (1, 0)))
        h, w = size
        varied |= (sums[h:, w:] - sums[:-h, w:] - sums[h:, :-w] + sums[:-h, :-w]) > 0
    return np.flatnonzero(varied)


@dataclass(frozen=True, slots=True, eq=False)
class Parts:
    """n designs of a library as arrays.

    ``images``: (n, h, w) uint8 or None. ``compositions``: (n, p, e) or None. ``process``: (n, q)
    in the order of the space's process variables. ``labels``: (n, l) codes, see
    ``loop.process_labels``.
    """

    images: NDArray[np.uint8] | None
    compositions: NDArray[np.float64] | None
    process: NDArray[np.float64]
    labels: Codes


@dataclass(frozen=True, slots=True, eq=False)
class Library:
    """Images and compositions of a campaign; either may be absent.

    ``split_images``: phase images by split. ``table``: (n, p, e) compositions that lie in the
    space; ``outside``: how many rows of the file were left aside because they do not.
    ``data_hash``: SHA-256 over the files used, or over the made designs. ``made``: designs whose
    parts belong together; then the images are whole periodic patches. ``table_labels``: (n, l)
    codes of the labels of the table's rows, ``FREE`` in columns that it does not have.
    ``sampled``: the table was drawn from what the space allows, and says nothing of what is usual.
    """

    space: DesignSpace
    split_images: SplitImages | None
    table: NDArray[np.float64] | None
    augment: bool
    outside: int
    data_hash: str
    made: MadeDesigns | None = None
    table_labels: Codes | None = None
    sampled: bool = False

    @classmethod
    def load(cls, campaign: Campaign) -> Library:
        """Read and check all data of a campaign, or draw its compositions.

        Raises InvalidInputError naming file and place.
        """
        if campaign.library is not None:
            raise InvalidInputError(
                "this campaign's library is made by a simulator, not read; `spinodal run` makes it"
            )
        files: list[Path] = []
        images = load_images(campaign, files)
        table, labels, outside = load_table(campaign, files)
        sampled = campaign.compositions is not None and campaign.compositions.file is None
        read = hash_files(files)
        return cls(
            space=campaign.space,
            split_images=images,
            table=table,
            augment=campaign.images.augment if campaign.images else False,
            outside=outside,
            data_hash=sampled_hash(campaign, read) if sampled else read,
            table_labels=labels,
            sampled=sampled,
        )

    @classmethod
    def of_made(cls, campaign: Campaign, made: MadeDesigns) -> Library:
        """The library of designs that a simulator made, without those that break constraints.

        Every 7th image is for validation; designs on one image are in one split. Raises
        InvalidInputError outside the space, and where constraints leave no design.
        """
        made.check(campaign.space)
        data_hash, n = made.digest(), len(made.image)
        breaks = broken_constraints(campaign.space, made.compositions)
        if breaks:
            kept = ~np.any(list(breaks.values()), axis=0)
            if not kept[made.rows("train")].any():
                worst = max(breaks, key=lambda text: int(breaks[text].sum()))
                raise InvalidInputError(
                    f"none of the {n} designs that were made for [library] and are to be learned "
                    f"from meets all of space.constraints; {worst!r} turns away "
                    f"{int(breaks[worst].sum())}: loosen it"
                )
            made = dataclasses.replace(
                made,
                image=made.image[kept],
                compositions=made.compositions[kept],
                process=made.process[kept],
            )
        places: dict[Split, NDArray[np.int64]] = {
            split: np.unique(made.image[made.rows(split)]) for split in SPLITS
        }
        images = SplitImages(
            images={split: tuple(made.images[i] for i in places[split]) for split in SPLITS},
            names={split: tuple(f"image {i}" for i in places[split]) for split in SPLITS},
            note="made by a simulator, every 7th for validation",
        )
        return cls(
            space=campaign.space,
            split_images=checked_variety(images, campaign.space.phases),
            table=made.compositions,
            augment=campaign.library.augment if campaign.library else False,
            outside=n - len(made.image),
            data_hash=data_hash,
            made=made,
        )

    @property
    def coupled(self) -> bool:
        """Whether images, compositions and process variables belong together."""
        return self.made is not None

    def images(self, split: str = "train") -> tuple[LabelImage, ...]:
        """Whole phase images of a split, each (h, w) uint8 (after downsampling)."""
        if self.split_images is None:
            raise InvalidInputError("this campaign has no images; add an [images] section")
        if split not in SPLITS:
            raise InvalidInputError(unknown_name("split", split, SPLITS))
        found = self.split_images.images[split]
        if not found:
            raise InvalidInputError(
                f"the library has no {split} images ({self.split_images.note})"
                + ("" if self.coupled else "; name some in an index CSV")
            )
        return found

    def has_images(self, split: str) -> bool:
        """Whether a split has images."""
        if self.split_images is None:
            return False
        return any(name == split and found for name, found in self.split_images.images.items())

    def patches(
        self, n: int, *, rng: np.random.Generator, split: str = "train", even: bool = False
    ) -> NDArray[np.uint8]:
        """Random crops, (n, h, w) uint8 phase labels, every position of a split equally likely.

        ``even``: spread over the images instead of independent of one another, so that means over
        them scatter less (crops of 64 px of the superalloy's: the fraction's by a quarter).

        Turned by a random element of the square's symmetry group where the campaign augments.
        Crops with one phase only are drawn anew (a design space of several phases excludes them).
        Made images are periodic, so that a crop is one of them moved by any way.
        Raises InvalidInputError when there are no images or no crop has two phases.
        """
        images = self.images(split)
        if self.made is not None:
            return self._views(np.stack(images)[rng.integers(len(images), size=n)], rng)
        positions: list[NDArray[np.int64] | None] = [None] * len(images)
        patches = self._crops(images, positions, n, rng, even)
        if len(self.space.phases) == 1 or n == 0:
            return patches
        for attempt in range(REDRAWS + 1):
            flat = patches.reshape(n, -1)
            constant = np.flatnonzero(flat.min(axis=1) == flat.max(axis=1))
            if constant.size == 0:
                break
            if attempt == REDRAWS:  # rare ones: look for every usable position instead
                varied = [_varied_places(image, self._shape()) for image in images]
                if not any(map(len, varied)):
                    raise InvalidInputError(
                        f"every crop of the {split} images shows one phase only; enlarge "
                        "images.patch or give images in which phases meet"
                    )
                positions = list(varied)
            patches[constant] = self._crops(images, positions, constant.size, rng)
        return patches

    def _shape(self) -> tuple[int, int]:
        assert self.space.image_shape is not None
        return self.space.image_shape

    def _views(self, images: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
        """Periodic images (n, h, w), each moved at random and turned where that is allowed."""
        n, h, w = images.shape
        y = (np.arange(h) + rng.integers(h, size=(n, 1))) % h
        x = (np.arange(w) + rng.integers(w, size=(n, 1))) % w
        moved = images[np.arange(n)[:, None, None], y[:, :, None], x[:, None, :]]
        return self._turned(moved, rng)

    def _turned(self, out: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
        """Each of (n, h, w) by a random element of the square's group; changes ``out``."""
        if self.augment:
            chosen = rng.integers(8, size=len(out))
            for element in range(1, 8):
                mine = np.flatnonzero(chosen == element)
                out[mine] = transform(out[mine], element)
        return out

    def _crops(
        self,
        images: Sequence[LabelImage],
        positions: Sequence[NDArray[np.int64] | None],
        n: int,
        rng: np.random.Generator,
        even: bool = False,
    ) -> NDArray[np.uint8]:
        """Crops at random ones of the given positions of each image (None: at all)."""
        h, w = self._shape()
        counts = np.array(
            [
                (image.shape[0] - h + 1) * (image.shape[1] - w + 1)
                if places is None
                else len(places)
                for image, places in zip(images, positions, strict=True)
            ]
        )
        ends = np.cumsum(counts)
        flat = _evenly(counts, images, w, n, rng) if even else rng.integers(ends[-1], size=n)
        which = np.searchsorted(ends, flat, side="right")
        out = np.empty((n, h, w), dtype=np.uint8)
        for number, image in enumerate(images):
            mine = np.flatnonzero(which == number)
            place = flat[mine] - (ends - counts)[number]
            places = positions[number]
            if places is not None:
                place = places[place]
            y, x = np.divmod(place, image.shape[1] - w + 1)
            out[mine] = np.lib.stride_tricks.sliding_window_view(image, (h, w))[y, x]
        return self._turned(out, rng)

    def compositions(self, n: int, *, rng: np.random.Generator) -> NDArray[np.float64]:
        """Random rows of the table, (n, p, e); none comes twice before all have come once."""
        if self.table is None:
            raise InvalidInputError(
                "this campaign has no compositions; add a [compositions] section"
            )
        drawn: NDArray[np.float64] = self.table[_shuffled(n, np.arange(len(self.table)), rng)]
        return drawn

    def alloys(
        self, n: int, *, rng: np.random.Generator
    ) -> tuple[NDArray[np.float64] | None, Codes]:
        """Random rows (n, p, e) as ``compositions`` with their labels (n, l).

        Labels that the table does not have are drawn. No compositions without a table.
        """
        if self.table is None:
            return None, drawn_codes(self.space, n, rng)
        rows = _shuffled(n, np.arange(len(self.table)), rng)
        known = None if self.table_labels is None else self.table_labels[rows]
        return self.table[rows], drawn_codes(self.space, n, rng, known)

    def parts(
        self, n: int, *, rng: np.random.Generator, split: str = "train", even: bool = False
    ) -> Parts:
        """n random designs as arrays: as they were made, or of independent parts."""
        space, made = self.space, self.made
        if made is not None:
            rows = made.rows(split)
            if not len(rows):
                raise InvalidInputError(f"the made library has no {split} designs")
            chosen = _shuffled(n, rows, rng)
            images = self._views(made.images[made.image[chosen]], rng)
            labels = drawn_codes(space, n, rng)
            return Parts(images, made.compositions[chosen], made.process[chosen], labels)
        patches = self.patches(n, rng=rng, split=split, even=even) if self.split_images else None
        compositions, labels = self.alloys(n, rng=rng)
        process = [rng.uniform(*limits, size=n) for limits in space.process.values()]
        return Parts(patches, compositions, np.array(process).reshape(len(process), n).T, labels)

    def draw(
        self, n: int, *, rng: np.random.Generator, split: str = "train", even: bool = False
    ) -> list[Candidate]:
        """n random designs: a crop, a row of compositions, process variables within bounds, labels.

        All are valid in the space, but that known alloys from which a campaign starts may break
        its constraints. In a campaign without images, more draws than rows repeat designs. Coupled
        ones come with their own parts, the image moved and turned at random.
        """
        space, parts = self.space, self.parts(n, rng=rng, split=split, even=even)
        origin = Origin("library")
        return [
            Candidate(
                phases=space.phases,
                elements=space.elements,
                microstructure=None if parts.images is None else parts.images[i],
                phase_compositions=None if parts.compositions is None else parts.compositions[i],
                process=dict(zip(space.process, parts.process[i].tolist(), strict=True)),
                labels=named_labels(space, parts.labels[i]),
                origin=origin,
            )
            for i in range(n)
        ]


def _shuffled(n: int, rows: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    """n of the rows at random; none comes twice before all have come once."""
    rounds = -(-n // len(rows))
    order = [rng.permutation(rows) for _ in range(rounds)]
    return np.concatenate(order)[:n] if order else np.empty(0, dtype=np.int64)


def _evenly(
    counts: NDArray[np.int64],
    images: Sequence[LabelImage],
    width: int,
    n: int,
    rng: np.random.Generator,
) -> NDArray[np.int64]:
    """(n,) indices of positions, in random order: images in proportion to how many they have.

    ``counts``: positions of each image, all of them. Each position is equally likely.
    """
    ends = np.cumsum(counts)
    numbers = np.diff(np.floor(n * ends / ends[-1] + rng.random()), prepend=0).astype(np.int64)
    found = []
    for image, count, end, number in zip(images, counts, ends, numbers, strict=True):
        columns = image.shape[1] - width + 1
        shift = rng.random(2)
        points = (shift + np.arange(number)[:, None] * STEPS) % 1.0
        y, x = (points * (count // columns, columns)).astype(np.int64).T
        found.append(end - count + y * columns + x)
    order: NDArray[np.int64] = rng.permutation(np.concatenate(found))
    return order
