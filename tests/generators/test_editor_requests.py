"""Editing with something asked, and one part given the other, where the parts belong together."""

from __future__ import annotations

import copy
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from generators.editor import Editor
from generators.flow import JointFlow
from generators.superresolution import refine
from loop.candidate import Candidate
from loop.errors import InvalidInputError
from loop.images import SplitImages
from loop.library import Library
from loop.made_designs import MadeDesigns
from loop.process_labels import FREE
from loop.space import DesignSpace
from tests import libraries
from tests.generators.test_flow import TINY

PROCESS = {"temperature_K": (900.0, 1100.0)}
SPACE = DesignSpace(
    ("a", "b"),
    libraries.ELEMENTS,
    (32, 32),
    {"a": libraries.BOUNDS, "b": libraries.BOUNDS},
    process=PROCESS,
)
LOW, HIGH = 0.3, 0.7  # fractions of the library's images
IMAGES = 49


def aluminium(fractions: ArrayLike) -> NDArray[np.float64]:
    """Of both phases, by the image's fraction of the second."""
    return 0.05 + 0.2 * np.asarray(fractions, dtype=np.float64)


def image_of(fraction: float, seed: int) -> NDArray[np.uint8]:
    """(32, 32) blobs of that fraction, periodic."""
    rng = np.random.default_rng(seed)
    field = ndimage.gaussian_filter(rng.normal(size=(32, 32)), 3.0, mode="wrap")
    return (field > np.quantile(field, 1 - fraction)).astype(np.uint8)


def coupled() -> Library:
    """A library in which composition and temperature follow the image's fraction."""
    fractions = np.linspace(LOW, HIGH, IMAGES)
    images = np.stack([image_of(f, i) for i, f in enumerate(fractions)])
    own = np.repeat(np.arange(IMAGES), 4)
    rng = np.random.default_rng(0)
    rows = np.zeros((len(own), 2, 4))
    rows[..., 1] = aluminium(fractions[own])[:, None] + rng.normal(0, 0.004, (len(own), 2))
    rows[..., 2] = rng.uniform(0.08, 0.25, (len(own), 2))
    rows[..., 3] = rng.uniform(0.01, 0.05, (len(own), 2))
    rows[..., 0] = 1.0 - rows[..., 1:].sum(-1)
    process = 900.0 + 200.0 * fractions[own][:, None]
    made = MadeDesigns(images, own, rows, process, tuple(PROCESS))
    made.check(SPACE)
    split = SplitImages(
        {"train": tuple(images), "val": (), "test": ()},
        {"train": tuple(map(str, range(IMAGES))), "val": (), "test": ()},
        "made for tests",
    )
    return Library(SPACE, split, rows, augment=True, outside=0, data_hash="0" * 64, made=made)


@cache
def trained() -> JointFlow:
    settings = replace(
        TINY,
        first_steps=300,
        head_first_steps=800,
        plain_rows=300,
        learning_rate=6e-3,
        vae=replace(TINY.vae, steps=120, learning_rate=6e-3),
    )
    flow = JointFlow(
        SPACE, coupled(), libraries.targets(SPACE), libraries.properties(SPACE), settings
    )
    designs = flow.library.draw(160, rng=np.random.default_rng(0))
    return flow.fit(libraries.scored(designs), rng=np.random.default_rng(1))


@pytest.fixture(scope="module")
def editor() -> Editor:
    return Editor(trained(), guidance=2.0, steps=6)


def asked(n: int, **values: float) -> NDArray[np.float64]:
    rows = np.full((n, 2), np.nan)
    for name, value in values.items():
        rows[:, libraries.PROPERTIES.index(name)] = value
    return rows


def fractions_of(designs: list[Candidate]) -> NDArray[np.float64]:
    return np.array([c.phase_fractions()[1] for c in designs])


def aluminium_of(designs: list[Candidate]) -> NDArray[np.float64]:
    found = [c.phase_compositions for c in designs]
    return np.array([x[:, 1].mean() for x in found if x is not None])


def design(fraction: float, seed: int = 1000) -> Candidate:
    """One as the library's are, of an image that is not among them."""
    al = float(aluminium(fraction))
    row = np.array([[0.8 - al, al, 0.17, 0.03]] * 2)
    temperature = 900.0 + 200.0 * fraction + 0.123456789  # more digits than float32 has
    return Candidate(
        SPACE.phases, SPACE.elements, image_of(fraction, seed), row, {"temperature_K": temperature}
    )


def test_compositions_follow_the_image(editor: Editor) -> None:
    """Aluminium of drawn compositions, in the library 0.05 + 0.2 times the image's fraction."""
    found = []
    for fraction in (0.35, 0.65):
        image = image_of(fraction, 1000)
        designs = editor.compositions_for(image, 24, rng=np.random.default_rng(0))
        for c in designs:
            np.testing.assert_array_equal(c.microstructure, image)
            assert SPACE.violations(c) == []
        found.append((aluminium_of(designs).mean(), designs[0].process["temperature_K"]))
    (low, cold), (high, hot) = found
    assert high - low == pytest.approx(0.2 * 0.3, rel=0.35)
    assert hot > cold


def test_images_follow_the_composition(editor: Editor) -> None:
    """Fractions of drawn images, of which compositions in the library tell them."""
    found = []
    for fraction in (0.35, 0.65):
        start = replace_image(design(fraction))
        designs = editor.microstructures_for(start, 24, rng=np.random.default_rng(0))
        for c in designs:
            np.testing.assert_array_equal(c.phase_compositions, start.phase_compositions)
            assert c.process == start.process
        found.append(fractions_of(designs).mean())
    assert found[1] - found[0] == pytest.approx(0.3, rel=0.5)


def replace_image(start: Candidate) -> Candidate:
    """The design without its image."""
    return Candidate(
        start.phases, start.elements, None, start.phase_compositions, dict(start.process)
    )


def test_variations_have_what_is_asked(editor: Editor) -> None:
    start = design(0.4)
    plain = editor.variations(start, 12, strength=0.5, rng=np.random.default_rng(0))
    wished = editor.variations(
        start, 12, strength=0.5, rng=np.random.default_rng(0), requests=asked(12, fraction=0.6)
    )
    errors = [np.abs(fractions_of(designs) - 0.6).mean() for designs in (plain, wished)]
    assert errors[1] < 0.02 < errors[0]
    assert wished[0].origin.details["requested"] == {"fraction": 0.6}
    assert "requested" not in plain[0].origin.details

    def density(designs: list[Candidate]) -> NDArray[np.float64]:
        return np.array([libraries.rule(c)["density"] for c in designs])

    target = float(density(plain).mean() + 2 * density(plain).std())
    led = editor.variations(
        start, 12, strength=0.5, rng=np.random.default_rng(0), requests=asked(12, density=target)
    )
    assert np.abs(density(led) - target).mean() < 0.5 * np.abs(density(plain) - target).mean()


def test_what_is_asked_takes_a_design_no_further_than_the_strength(editor: Editor) -> None:
    start = design(0.4)
    far = []
    for strength in (0.1, 0.9):
        found = editor.variations(
            start, 12, strength=strength, rng=rng(), requests=asked(12, density=7.6)
        )
        images = np.stack([c.microstructure for c in found if c.microstructure is not None])
        far.append([np.mean(images != start.microstructure), np.ptp(aluminium_of(found))])
    assert np.less(far[0], np.multiply(0.6, far[1])).all()


def test_guidance_is_of_what_is_asked() -> None:
    """Without requests it makes no difference, with them it does."""
    start, n = design(0.5), 4
    image = image_of(0.5, 1000)
    damaged = np.zeros((32, 32), dtype=bool)
    damaged[:, :20] = True
    for requests, alike in ((None, True), (asked(n, fraction=0.7), False)):
        edits = [
            (
                one.variations(start, n, strength=0.6, rng=rng(), requests=requests),
                one.repair(start, damaged, n, rng=rng(), requests=requests, resample=1),
                one.microstructures_for(start, n, rng=rng(), requests=requests),
                one.compositions_for(image, n, rng=rng(), requests=requests),
            )
            for one in (Editor(trained(), guidance=s, steps=3) for s in (1.0, 6.0))
        ]
        assert [a == b for a, b in zip(*edits, strict=True)] == [alike] * 4


def rng() -> np.random.Generator:
    return np.random.default_rng(5)


def test_a_repair_is_led_by_what_is_asked_and_keeps_all_else(editor: Editor) -> None:
    start = design(0.5)
    image = start.microstructure
    assert image is not None
    damaged = np.zeros((32, 32), dtype=bool)
    damaged[:, :24] = True
    means = []
    for wanted in (LOW, HIGH):
        found = editor.repair(
            start, damaged, 8, rng=rng(), requests=asked(8, fraction=wanted), resample=2
        )
        for c in found:
            assert c.microstructure is not None
            np.testing.assert_array_equal(c.microstructure[~damaged], image[~damaged])
            np.testing.assert_array_equal(c.phase_compositions, start.phase_compositions)
            assert c.process == start.process  # to the last digit
        means.append(fractions_of(found).mean())
    assert means[1] > means[0] + 0.05


def test_refined_designs_have_the_density_that_is_asked(editor: Editor) -> None:
    coarse = image_of(0.5, 1000).reshape(4, 8, 4, 8).mean((1, 3))
    plain, led = (
        refine(editor, coarse, 8, rng=rng(), steps=6, requests=requests)
        for requests in (None, asked(8, density=8.0))
    )
    errors = [
        np.abs([libraries.rule(c)["density"] - 8.0 for c in designs]).mean()
        for designs in (plain, led)
    ]
    assert errors[1] < 0.5 * errors[0]
    assert led[0].origin.details["requested"] == {"density": 8.0}
    assert led[0].origin.details["factor"] == 8


def test_labels_of_designs_that_are_kept_are_not_asked_for(editor: Editor) -> None:
    start = design(0.5)
    labelled = copy.copy(editor.flow)
    labelled.space = replace(SPACE, labels={"processing": ("CAST", "ANNEAL")})
    one = copy.copy(editor)
    one.flow = labelled
    marked = replace(start, labels={"processing": "ANNEAL"})
    for code, refused in ((float(FREE), False), (1.0, False), (0.0, True)):
        requests = np.column_stack([asked(2), [code, code]])
        if not refused:
            assert one._kept_labels(marked, requests) is requests
            continue
        with pytest.raises(
            InvalidInputError, match="processing = CAST is asked for, but the design"
        ):
            one._kept_labels(marked, requests)


def test_a_flow_of_images_alone_has_no_compositions_to_draw() -> None:
    flow = copy.copy(trained())
    flow.head = None
    with pytest.raises(InvalidInputError, match="images alone"):
        Editor(flow).compositions_for(image_of(0.5, 1), 1, rng=rng())
