"""The correlation simulator: its values, its reference, its contract, bad settings."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from loop.candidate import Candidate
from loop.errors import InvalidCampaignError, InvalidInputError
from loop.protocols import Differentiable
from loop.space import DesignSpace
from loop.statistics import two_point_radial
from simulators.contract import CHECKS, Check
from simulators.correlation_reference import read_reference, two_point_curves, write_statistics
from simulators.correlation_simulator import DISTANCE, Correlation, create
from simulators.realisability import two_point_distance
from simulators.soft_statistics import one_hot
from simulators.verification import stripes
from tests.simulators.conftest import ImageMaker

PHASES = ("gamma", "gamma_prime")
Labels = NDArray[np.uint8]


def simulator(shape: tuple[int, int] = (32, 32), **settings: Any) -> Correlation:
    return create(space=DesignSpace(phases=PHASES, image_shape=shape), settings=settings)


def design(image: NDArray[Any]) -> Candidate:
    return Candidate(phases=PHASES, microstructure=image.astype(np.uint8))


def save(folder: Path, images: NDArray[np.uint8], scale: int = 1) -> Path:
    folder.mkdir()
    for number, image in enumerate(images):
        Image.fromarray(image * np.uint8(scale)).save(folder / f"{number}.png")
    return folder


OUTPUTS = [
    "gamma_fraction",
    "gamma_prime_fraction",
    "gamma_prime_chord_length_px",
    "gamma_prime_specific_surface_per_px",
    "gamma_prime_lineal_path_3px",
    "gamma_prime_lineal_path_0px",
    "gamma_prime_two_point_2px",
    "gamma_two_point_0px",
]


def test_stripes() -> None:
    """Width 4 in 32: chords 4 px across, none along, so 2 x 512 / 128 = 8 px pooled."""
    (outcome,) = simulator(outputs=OUTPUTS).evaluate([design(stripes(32, 4)[0])])
    values = outcome.values
    assert list(values) == OUTPUTS
    assert values["gamma_fraction"] == values["gamma_prime_fraction"] == 0.5
    assert values["gamma_prime_chord_length_px"] == 8
    assert values["gamma_prime_specific_surface_per_px"] == pytest.approx(
        math.pi / 8 * (1 + 2 / math.sqrt(2)) / 4
    )
    assert values["gamma_prime_lineal_path_3px"] == 0.5 * (1 / 8 + 1 / 2)
    assert values["gamma_prime_lineal_path_0px"] == 0.5
    assert values["gamma_two_point_0px"] == 0.5
    # Lags that round to 2 px: (0, 2), (2, 0), (1, 2) and (2, 1) with signs; S2 = (4 - |dx|) / 8.
    ring = [2] * 2 + [4] * 2 + [2] * 4 + [3] * 4
    assert values["gamma_prime_two_point_2px"] == pytest.approx(np.mean(ring) / 8)
    assert outcome.diagnostics["periodic"] is True


def test_units_and_limits() -> None:
    found = simulator(outputs=OUTPUTS)
    units = dict(found.outputs)
    assert units.pop("gamma_prime_chord_length_px") == "px"
    assert units.pop("gamma_prime_specific_surface_per_px") == "1/px"
    assert set(units.values()) == {"1"}
    assert set(found.limits) == set(units)
    assert set(simulator().outputs) == {
        f"{phase}_{kind}"
        for phase in PHASES
        for kind in ("chord_length_px", "specific_surface_per_px")
    }


def test_without_periodicity(random_images: ImageMaker) -> None:
    image = random_images(1, (32, 32), seed=1)[0]
    names = ["gamma_prime_two_point_5px", "gamma_prime_chord_length_px"]
    (outcome,) = simulator(outputs=names, periodic=False).evaluate([design(image)])
    _, s2 = two_point_radial(image[None] == 1)
    assert outcome.values[names[0]] == pytest.approx(s2[0, 5], rel=1e-12)
    inside = image == 1
    begun = [inside & ~np.pad(inside, ((0, 0), (1, 0)))[:, :-1]]
    begun += [inside & ~np.pad(inside, ((1, 0), (0, 0)))[:-1]]
    chords = sum(int(entries.sum()) for entries in begun)
    assert outcome.values[names[1]] == pytest.approx(2 * inside.sum() / chords)
    wrapped = simulator(outputs=names).evaluate([design(image)])[0]
    assert all(wrapped.values[name] != outcome.values[name] for name in names)


def test_distance_to_a_folder_an_image_and_a_file(
    tmp_path: Path, random_images: ImageMaker
) -> None:
    images = random_images(5, (32, 32), seed=2)
    folder = save(tmp_path / "library", images[1:])
    candidate = design(images[0])
    expected = two_point_distance(images[:1], images[1:], 2)
    curves = np.mean([two_point_curves(image, 2) for image in images[1:]], axis=0)
    file = tmp_path / "statistics.json"
    write_statistics(file, curves, PHASES)
    for reference in (folder, file):
        found = simulator(reference=str(reference))
        assert DISTANCE in found.outputs
        assert found.evaluate([candidate])[0].values[DISTANCE] == pytest.approx(expected, rel=1e-12)
    one = simulator(reference=str(folder / "0.png"), outputs=[DISTANCE])
    itself, other = one.evaluate([design(images[1]), candidate])
    assert itself.values[DISTANCE] == 0 < other.values[DISTANCE]


def test_larger_references_and_their_labels(tmp_path: Path, random_images: ImageMaker) -> None:
    """Pixels 0, 1 named the other way, every pixel enlarged to 3 x 3, images larger than ours."""
    images = random_images(2, (48, 40), seed=3)
    big = (1 - images).repeat(3, 1).repeat(3, 2)
    folder = save(tmp_path / "library", big)
    found = simulator(reference=str(folder), labels=["gamma_prime", "gamma"], downsample=3)
    curves = np.mean([two_point_curves(image, 2)[:, :17] for image in images], axis=0)
    assert found.reference is not None
    np.testing.assert_allclose(found.reference, curves, atol=1e-12)


def test_statistics_come_back_from_their_file(tmp_path: Path, random_images: ImageMaker) -> None:
    curves = two_point_curves(random_images(1, (20, 24), seed=4)[0], 2)
    file = tmp_path / "statistics.json"
    write_statistics(file, curves, PHASES)
    np.testing.assert_array_equal(read_reference(file, phases=PHASES, lags=11), curves)
    np.testing.assert_array_equal(read_reference(file, phases=PHASES, lags=4), curves[:, :4])
    with pytest.raises(InvalidInputError, match="1 curves for the phases"):
        write_statistics(file, curves[:1], PHASES)
    with pytest.raises(InvalidInputError, match="not usable"):
        write_statistics(file, 2 * curves, PHASES)


@pytest.mark.parametrize("periodic", [True, False])
def test_labels_as_fields_have_the_same_values(
    periodic: bool, tmp_path: Path, random_images: ImageMaker
) -> None:
    images = random_images(4, (32, 32), seed=8)
    reference = str(save(tmp_path / "library", images[3:]))
    found = simulator(outputs=[*OUTPUTS, DISTANCE], periodic=periodic, reference=reference)
    assert isinstance(found, Differentiable)
    tensors = found.properties_of(one_hot(images, 2), None)
    assert list(tensors) == list(found.outputs)
    for number, outcome in enumerate(found.evaluate([design(image) for image in images])):
        for name, value in outcome.values.items():
            assert float(tensors[name][number]) == pytest.approx(value, rel=1e-10, abs=1e-12)


@pytest.mark.parametrize("periodic", [True, False])
def test_outputs_are_differentiable(
    periodic: bool, tmp_path: Path, random_images: ImageMaker
) -> None:
    images = random_images(1, (6, 6), seed=9)
    file = tmp_path / "statistics.json"
    write_statistics(file, two_point_curves(images[0], 2), PHASES)
    names = [*OUTPUTS, DISTANCE]
    found = simulator((6, 6), outputs=names, periodic=periodic, reference=str(file))

    def values(logits: torch.Tensor) -> torch.Tensor:
        return torch.stack(list(found.properties_of(torch.softmax(logits, 1), None).values()))

    noise = np.random.default_rng(0).standard_normal((2, 2, 6, 6))
    assert torch.autograd.gradcheck(values, torch.as_tensor(noise).requires_grad_())
    hard = one_hot(images, 2).requires_grad_()  # the reference itself: distance 0, a kink
    at_reference = found.properties_of(hard, None)
    (slope,) = torch.autograd.grad(torch.stack(list(at_reference.values())).sum(), hard)
    assert bool(torch.isfinite(slope).all())
    assert bool(slope.any())


def test_wrong_fields_are_named() -> None:
    found = simulator((6, 6))
    with pytest.raises(InvalidInputError, match=r"no fields; expected \(n, 2, 6, 6\)"):
        found.properties_of(None, None)
    with pytest.raises(InvalidInputError, match=r"expected \(n, 2, 6, 6\)"):
        found.properties_of(torch.full((1, 3, 6, 6), 1 / 3), None)
    with pytest.raises(InvalidInputError, match="sum to 1 only"):
        found.properties_of(torch.ones(1, 2, 6, 6), None)


@pytest.mark.parametrize("periodic", [True, False])
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_contract(check: Check, periodic: bool, tmp_path: Path, random_images: ImageMaker) -> None:
    images = random_images(4, (32, 32), seed=5)
    reference = str(save(tmp_path / "library", images[3:]))
    found = simulator(outputs=[*OUTPUTS, DISTANCE], periodic=periodic, reference=reference)
    check(found, [design(image) for image in (*images[:3], np.zeros((32, 32)))])


def test_designs_without_statistics_fail() -> None:
    found = simulator()
    space = DesignSpace(phases=PHASES, elements=("Ni",), image_shape=None)
    bare = Candidate(phases=PHASES, elements=space.elements, phase_compositions=np.ones((2, 1)))
    renamed = Candidate(phases=("a", "b"), microstructure=np.eye(32, dtype=np.uint8))
    reasons = [
        outcome.reason
        for outcome in found.evaluate(
            [
                design(np.zeros((32, 32))),
                design(np.ones((32, 32))),
                design(np.eye(16)),
                bare,
                renamed,
            ]
        )
    ]
    for reason, expected in zip(
        reasons,
        (
            "gamma fills the image: no chords",
            "gamma is absent from the image: no chords",
            r"image has shape (16, 16); expected (32, 32)",
            "candidate has no microstructure",
            "phases are a, b; expected gamma, gamma_prime",
        ),
        strict=True,
    ):
        assert expected in reason
    (constant,) = simulator(outputs=["gamma_fraction"]).evaluate([design(np.zeros((32, 32)))])
    assert constant.values == {"gamma_fraction": 1.0}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"output": ["gamma_fraction"]}, "did you mean 'outputs'"),
        ({"outputs": ["gama_fraction"]}, "did you mean 'gamma_fraction'"),
        ({"outputs": []}, r"outputs is \[\]"),
        ({"outputs": ["gamma_lineal_path_32px"]}, "lineal_path reaches to 31 px"),
        ({"outputs": ["gamma_two_point_17px"]}, "two_point reaches to 16 px"),
        ({"outputs": ["gamma_two_point_1.5px"]}, "unknown output"),
        ({"outputs": [DISTANCE]}, "two_point_distance needs a reference"),
        ({"periodic": "yes"}, "periodic is 'yes': input should be a valid boolean"),
        ({"downsample": 2}, "downsample is of a reference"),
        ({"reference": "x", "downsample": 0}, "greater than or equal to 1"),
        ({"reference": "x", "labels": ["gamma", "prime"]}, "labels: unknown phase 'prime'"),
    ],
)
def test_bad_settings(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidCampaignError, match=message):
        simulator(**settings)
    with pytest.raises(InvalidCampaignError, match="has no images"):
        create(space=DesignSpace(phases=PHASES, elements=("Ni",)), settings={})


def test_bad_references(tmp_path: Path, random_images: ImageMaker) -> None:
    small = save(tmp_path / "small", random_images(1, (30, 40), seed=6))
    grey = save(tmp_path / "grey", random_images(1, (32, 32), seed=6), scale=200)
    half = [0.5] * 17
    files = {
        "text.json": ("not json", "is not JSON"),
        "list.json": ("[1]", "lacks the table 'two_point'"),
        "missing.json": (json.dumps({"two_point": {"gamma": half}}), "gamma_prime is missing"),
        "short.json": (
            json.dumps({"two_point": {"gamma": half, "gamma_prime": half[:5]}}),
            "gamma_prime is not usable; expected at least 17 numbers",
        ),
        "greater.json": (
            json.dumps({"two_point": {"gamma": half, "gamma_prime": [1.5, *half]}}),
            "numbers from 0 to 1",
        ),
        "other.json": (json.dumps({"two_point": {"gama": half}}), "did you mean 'gamma'"),
    }
    for name, (content, message) in files.items():
        (tmp_path / name).write_text(content, encoding="utf-8")
        with pytest.raises(InvalidInputError, match=message):
            simulator(reference=str(tmp_path / name))
    for place, message in (
        (small, "is 30 x 40 pixels; two-point statistics up to 16 px need at least 32"),
        (grey, "pixel values 0, 200"),
        (tmp_path / "nowhere", "nowhere is not readable"),
        (tmp_path / "nowhere.json", "cannot read statistics file"),
    ):
        with pytest.raises(InvalidInputError, match=message):
            simulator(reference=str(place))


def test_the_version_tells_what_is_computed(tmp_path: Path, random_images: ImageMaker) -> None:
    images = random_images(2, (32, 32), seed=7)
    folders = [save(tmp_path / str(i), images[i : i + 1]) for i in range(2)]
    made = [
        simulator(),
        simulator(),
        simulator(periodic=False),
        simulator(outputs=["gamma_fraction"]),
        *(simulator(reference=str(folder)) for folder in folders),
    ]
    assert len({one.version for one in made}) == 5
