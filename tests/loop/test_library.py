"""The Library: crops, compositions and designs of a campaign; nothing leaks between splits."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from loop.campaign import load_campaign
from loop.errors import InvalidCampaignError, InvalidInputError
from loop.images import SplitImages
from loop.library import Library, transform

EXAMPLE = Path(__file__).parents[2] / "examples" / "superalloy"
CAMPAIGN = """
[campaign]
name = "test"
[space]
phases = ["a", "b"]
{space}
{data}
[targets.density_g_per_cm3]
minimise = true
[simulators]
use = ["composite-chain"]
"""
IMAGES = '[images]\nfolder = "labels"\nlabels = ["a", "b"]\npatch = 16\n'
TABLE = '[compositions]\nfile = "table.csv"\n'
ELEMENTS = 'elements = ["Ni", "Al"]\n'
ROWS = "a:Ni,a:Al,b:Ni,b:Al\n0.9,0.1,0.75,0.25\n1,0,0.76,0.24\n0.95,0.05,0.74,0.26\n"


def _image(path: Path, labels: NDArray[np.uint8]) -> None:
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(labels).save(path)


def _write(folder: Path, *, space: str = ELEMENTS, data: str = IMAGES + TABLE) -> Library:
    (folder / "campaign.toml").write_text(CAMPAIGN.format(space=space, data=data))
    if not (folder / "table.csv").exists():
        (folder / "table.csv").write_text(ROWS)
    return Library.load(load_campaign(folder))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(3)
    for name in ("x", "y", "z"):
        _image(tmp_path / "labels" / f"{name}.png", rng.integers(0, 2, (40, 50), dtype=np.uint8))
    return tmp_path


@pytest.fixture(scope="module")
def superalloy() -> Library:
    return Library.load(load_campaign(EXAMPLE))


def _views(patch: NDArray[np.uint8]) -> set[bytes]:
    return {transform(patch[None], g).tobytes() for g in range(8)}


# The example


def test_example_draws_valid_designs(superalloy: Library) -> None:
    designs = superalloy.draw(200, rng=np.random.default_rng(1))
    assert len({d.id for d in designs}) == 200
    assert all(superalloy.space.violations(d) == [] for d in designs)
    assert {d.origin.source for d in designs} == {"library"}
    assert superalloy.outside == 0
    absent = np.mean([np.any(d.composition() == 0) for d in designs])
    assert 0.5 < absent < 1  # sparse designs, and some that hold every element


def test_example_fractions_are_those_of_the_labels(superalloy: Library) -> None:
    """Mean over many crops against the mean over crop positions, which leave out the rims."""
    crops = superalloy.patches(4000, rng=np.random.default_rng(2))
    assert crops.dtype == np.uint8
    assert crops.shape == (4000, 64, 64)
    exact = []
    for image in superalloy.images("train"):
        sums = np.cumsum(np.cumsum(np.pad(image == 1, ((1, 0), (1, 0))).astype(float), 0), 1)
        windows = sums[64:, 64:] - sums[:-64, 64:] - sums[64:, :-64] + sums[:-64, :-64]
        exact.append(windows.ravel() / 64**2)
    shares = np.concatenate(exact)
    # four standard errors of the mean of 4000 independent crops
    allowed = 4 * shares.std() / np.sqrt(4000)
    assert abs(crops.mean() - shares.mean()) < allowed


def _block_hashes(image: NDArray[np.uint8], edge: int) -> NDArray[np.uint64]:
    """A 64-bit hash of every edge x edge block: polynomials in two odd numbers, modulo 2^64."""
    h = image.astype(np.uint64) + np.uint64(1)
    for axis, base in ((0, 0x9E3779B97F4A7C15), (1, 0xC2B2AE3D27D4EB4F)):
        length = h.shape[axis] - edge + 1
        total = np.zeros_like(np.take(h, range(length), axis=axis))
        for step in range(edge):
            total = total * np.uint64(base) + np.take(h, range(step, step + length), axis=axis)
        h = total
    return h


def _varied_blocks(image: NDArray[np.uint8], edge: int) -> NDArray[np.bool_]:
    """Blocks of a grid with steps along both axes; those with one straight edge may coincide."""
    windows = np.lib.stride_tricks.sliding_window_view
    across = windows(np.diff(image, axis=1) != 0, (edge, edge - 1))[::edge, ::edge].sum(axis=(2, 3))
    down = windows(np.diff(image, axis=0) != 0, (edge - 1, edge))[::edge, ::edge].sum(axis=(2, 3))
    return np.minimum(across, down) > edge // 2


def test_no_block_of_a_held_out_spot_is_in_train(superalloy: Library) -> None:
    """32 x 32 blocks of val and test on a grid, in all eight views, against every train block."""
    edge = 32
    held = []
    for split in ("val", "test"):
        for image in superalloy.images(split):
            for g in range(8):
                view = np.ascontiguousarray(transform(image[None], g)[0])
                keep = _varied_blocks(view, edge)
                held.append(_block_hashes(view, edge)[::edge, ::edge][keep])
    blocks = np.concatenate(held)
    assert len(np.unique(blocks)) > 7000
    train = [_block_hashes(image, edge) for image in superalloy.images("train")]
    assert not np.isin(np.concatenate([h.ravel() for h in train]), blocks).any()
    # the comparison does find what is there: a block of train itself
    assert np.isin(_block_hashes(superalloy.images("train")[0][40:80, 7:60], edge), train[0]).all()
    assert superalloy.split_images is not None
    names = superalloy.split_images.names
    spots = {s: {n.split("_")[0] for n in names[s]} for s in ("train", "val", "test")}
    assert not spots["train"] & (spots["val"] | spots["test"])


def test_hash_depends_on_contents_only(tmp_path: Path, superalloy: Library) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(EXAMPLE, copy, ignore=shutil.ignore_patterns("images"))
    assert Library.load(load_campaign(copy)).data_hash == superalloy.data_hash
    table = copy / "compositions.csv"
    lines = table.read_text().splitlines(keepends=True)
    table.write_text("".join(lines[:-1]))
    assert Library.load(load_campaign(copy)).data_hash != superalloy.data_hash


# Symmetry


def test_augmentation_group_has_exactly_eight_elements() -> None:
    patch = np.arange(16, dtype=np.uint8).reshape(1, 4, 4)
    images = [transform(patch, g).tobytes() for g in range(8)]
    assert len(set(images)) == 8
    # closed: any two in a row are again one of the eight, so there are no more
    for g in range(8):
        for h in range(8):
            assert transform(transform(patch, g), h).tobytes() in images


def test_augmented_crops_are_the_eight_views_equally_often(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 2, (16, 16), dtype=np.uint8)
    for name in ("a", "b", "c"):
        _image(tmp_path / "labels" / f"{name}.png", image)
    crops = _write(tmp_path).patches(1600, rng=np.random.default_rng(5))
    views, counts = np.unique(crops.reshape(1600, -1), axis=0, return_counts=True)
    assert len(views) == 8
    # five standard deviations of a binomial count of 1600 with p = 1/8
    assert np.all(np.abs(counts - 200) < 5 * np.sqrt(1600 * 7 / 64))
    plain = _write(tmp_path, data=IMAGES + "augment = false\n" + TABLE)
    assert np.array_equal(plain.patches(3, rng=np.random.default_rng(5)), np.stack([image] * 3))


# Crops


def test_crops_are_parts_of_the_images_of_their_split(folder: Path) -> None:
    library = _write(folder)
    rng = np.random.default_rng(0)
    for split in ("train", "val", "test"):
        windows = {
            window.tobytes()
            for image in library.images(split)
            for row in np.lib.stride_tricks.sliding_window_view(image, (16, 16))
            for window in row
        }
        for crop in library.patches(40, rng=rng, split=split):
            assert _views(crop) & windows


def test_every_position_can_be_drawn(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    for name in ("a", "b", "c"):
        _image(tmp_path / "labels" / f"{name}.png", rng.integers(0, 2, (17, 18), dtype=np.uint8))
    library = _write(tmp_path, data=IMAGES + "augment = false\n" + TABLE)
    crops = library.patches(300, rng=rng)
    assert len(np.unique(crops.reshape(300, -1), axis=0)) == 2 * 3


def test_even_crops_come_from_every_position_equally_often(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    for name, width in (("a", 18), ("b", 17), ("c", 19)):
        image = rng.integers(0, 2, (17, width), dtype=np.uint8)
        _image(tmp_path / "labels" / f"{name}.png", image)
    library = _write(tmp_path, data=IMAGES + "augment = false\n" + TABLE)
    positions = sum((17 - 15) * (image.shape[1] - 15) for image in library.images("train"))
    crops = library.patches(100 * positions, rng=rng, even=True)
    _, counts = np.unique(crops.reshape(len(crops), -1), axis=0, return_counts=True)
    assert len(counts) == positions
    # Independent ones scatter by 10; the recurrence's discrepancy is of the order log(n)/n.
    assert np.abs(counts - 100).max() <= 10
    first, second = (library.patches(64, rng=np.random.default_rng(s), even=True) for s in (1, 2))
    assert not np.array_equal(first, second)


def test_means_over_even_crops_scatter_less(superalloy: Library) -> None:
    rng = np.random.default_rng(2)
    scatter = {}
    for even in (False, True):
        means = [superalloy.patches(400, rng=rng, even=even).mean() for _ in range(20)]
        scatter[even] = np.std(means, ddof=1)
    # The ratio of variances is 6 or more; by the F distribution with 19 and 19 degrees of freedom
    # it is then found above 2 with a probability of 0.99.
    assert scatter[True] ** 2 < scatter[False] ** 2 / 2


def test_same_generator_state_same_draws(folder: Path) -> None:
    library = _write(folder)
    first = [d.id for d in library.draw(20, rng=np.random.default_rng(7))]
    assert first == [d.id for d in library.draw(20, rng=np.random.default_rng(7))]
    assert first != [d.id for d in library.draw(20, rng=np.random.default_rng(8))]


def test_constant_crops_are_drawn_anew(tmp_path: Path) -> None:
    image = np.zeros((200, 200), dtype=np.uint8)
    image[100:110, 100:110] = 1
    for name in ("a", "b", "c"):
        _image(tmp_path / "labels" / f"{name}.png", image)
    crops = _write(tmp_path).patches(300, rng=np.random.default_rng(0))
    assert np.all((crops.min(axis=(1, 2)) == 0) & (crops.max(axis=(1, 2)) == 1))


@pytest.mark.parametrize(("constant", "split"), [("abc", "train"), ("a", "train"), ("b", "val")])
def test_a_split_of_constant_images_is_an_error(tmp_path: Path, constant: str, split: str) -> None:
    for name in "abc":
        image = np.zeros((40, 40), dtype=np.uint8)
        image[20:] = name not in constant
        _image(tmp_path / "labels" / f"{name}.png", image)
    with pytest.raises(InvalidInputError, match=rf"the {split} images \(.\.png\) show one phase"):
        _write(tmp_path)


def test_constant_images_have_no_crops_to_draw(folder: Path) -> None:
    constant = SplitImages({"train": (np.zeros((40, 40), dtype=np.uint8),)}, {"train": ("a",)}, "")
    library = replace(_write(folder), split_images=constant)
    with pytest.raises(
        InvalidInputError, match="every crop of the train images shows one phase only"
    ):
        library.draw(8, rng=np.random.default_rng(0))


def test_drawing_nothing(folder: Path) -> None:
    library = _write(folder)
    assert library.draw(0, rng=np.random.default_rng(0)) == []
    assert library.patches(0, rng=np.random.default_rng(0)).shape == (0, 16, 16)


def test_downsampling_before_cropping(tmp_path: Path) -> None:
    small = np.random.default_rng(0).integers(0, 2, (16, 16), dtype=np.uint8)
    for name in ("a", "b", "c"):
        large = np.kron(small, np.ones((3, 3), dtype=np.uint8))
        _image(tmp_path / "labels" / f"{name}.png", large)
    library = _write(tmp_path, data=IMAGES + "downsample = 3\n" + TABLE)
    assert np.array_equal(library.images("train")[0], small)


@pytest.mark.parametrize(
    ("shape", "extra", "message"),
    [
        ((40, 12), "", r"x\.png has 12 x 40 pixels, smaller than the patch of 16 x 16"),
        ((40, 40), "downsample = 3\n", r"13 x 13 pixels after downsampling by 3, smaller"),
    ],
)
def test_image_smaller_than_the_patch(
    folder: Path, shape: tuple[int, int], extra: str, message: str
) -> None:
    _image(folder / "labels" / "x.png", np.zeros(shape, dtype=np.uint8))
    with pytest.raises(InvalidInputError, match=message):
        _write(folder, data=IMAGES + extra + TABLE)


def test_label_without_phase(folder: Path) -> None:
    _image(folder / "labels" / "y.png", np.full((40, 40), 2, dtype=np.uint8))
    with pytest.raises(
        InvalidInputError, match=r"y\.png has pixel values 2; expected labels 0 to 1"
    ):
        _write(folder)


def test_unknown_or_empty_split(folder: Path) -> None:
    library = _write(folder)
    with pytest.raises(InvalidInputError, match="unknown split 'tset'; did you mean 'test'"):
        library.patches(1, rng=np.random.default_rng(0), split="tset")
    (folder / "index.csv").write_text("name,split\nx,train\n")
    library = _write(folder, data=IMAGES + 'index = "index.csv"\n' + TABLE)
    with pytest.raises(InvalidInputError, match="no val images"):
        library.patches(1, rng=np.random.default_rng(0), split="val")


# Compositions


def test_rows_come_once_before_any_comes_twice(folder: Path) -> None:
    library = _write(folder)
    rows = library.compositions(7, rng=np.random.default_rng(0))
    assert rows.shape == (7, 2, 2)
    keys = [row.tobytes() for row in rows]
    assert len(set(keys[:3])) == 3
    assert len(set(keys[3:6])) == 3


def test_rows_outside_the_bounds_are_left_out(folder: Path) -> None:
    library = _write(folder, space=ELEMENTS + "[space.bounds.a]\nAl = [0.0, 0.06]\n")
    assert library.outside == 1
    assert library.table is not None
    assert len(library.table) == 2
    for design in library.draw(10, rng=np.random.default_rng(0)):
        assert library.space.violations(design) == []
    with pytest.raises(
        InvalidInputError, match=r"none of the 3 rows lies within \[space\.bounds\]"
    ):
        _write(folder, space=ELEMENTS + "[space.bounds.b]\nAl = [0.9, 1.0]\n")


def test_unknown_element_of_the_space(folder: Path) -> None:
    with pytest.raises(InvalidCampaignError, match=r"space\.elements: unknown element 'Xx'"):
        _write(folder, space='elements = ["Ni", "Xx"]\n')


# Campaigns with one part only


def test_images_only(folder: Path) -> None:
    library = _write(folder, space="", data=IMAGES)
    design = library.draw(1, rng=np.random.default_rng(0))[0]
    assert design.phase_compositions is None
    assert design.microstructure is not None
    assert library.space.violations(design) == []
    with pytest.raises(InvalidInputError, match="has no compositions"):
        library.compositions(1, rng=np.random.default_rng(0))


def test_compositions_only_with_process(tmp_path: Path) -> None:
    space = ELEMENTS + "[space.process]\ntemperature_K = [900.0, 1300.0]\n"
    library = _write(tmp_path, space=space, data=TABLE)
    designs = library.draw(50, rng=np.random.default_rng(0))
    assert all(d.microstructure is None for d in designs)
    assert all(library.space.violations(d) == [] for d in designs)
    temperatures = [d.process["temperature_K"] for d in designs]
    assert len(set(temperatures)) == 50
    with pytest.raises(InvalidInputError, match="has no images"):
        library.patches(1, rng=np.random.default_rng(0))


def test_single_phase_images_may_be_constant(tmp_path: Path) -> None:
    text: dict[str, Any] = {"space": "", "data": IMAGES.replace(', "b"', "")}
    _image(tmp_path / "labels" / "x.png", np.zeros((20, 20), dtype=np.uint8))
    campaign = CAMPAIGN.format(**text).replace('["a", "b"]', '["a"]')
    (tmp_path / "campaign.toml").write_text(campaign)
    library = Library.load(load_campaign(tmp_path))
    assert library.patches(2, rng=np.random.default_rng(0)).max() == 0
