"""Precipitation strengthening: limits, order of growth, hand-computed values, images."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from loop.candidate import Candidate
from loop.errors import InvalidCampaignError, InvalidInputError
from loop.space import DesignSpace
from simulators.contract import CHECKS, Check
from simulators.strength import RADIUS, SPACING, STRESS, PrecipitationStrength, create
from simulators.strengthening import (
    Material,
    orowan,
    precipitation_strengthening,
    strongly_coupled,
    weakly_coupled,
)
from tests.simulators.conftest import ImageMaker

NICKEL = Material(shear_modulus=80.0, burgers_vector=0.25, apb_energy=0.2)
SETTINGS: dict[str, Any] = {
    "pixel_size_nm": 5.0,
    "shear_modulus_GPa": 80.0,
    "burgers_vector_nm": 0.25,
    "apb_energy_J_per_m2": 0.2,
}
PHASES = ("gamma", "gamma_prime")
fractions = st.floats(0.02, 0.7)
radii = st.floats(1.0, 500.0)


def test_by_hand() -> None:
    """G = 80 GPa, b = 0.25 nm, gamma = 0.2 J/m2, f = 0.4, r = 20 nm, worked out on paper.

    T = 2.5 nN; 6 gamma f r / (pi T) = 9.6 / 7.853982 = 1.222310, root 1.105581, less 0.4 is
    0.705581; times gamma / 2 b = 400 MPa: 282.232.
    Strong: pair width 80 x 0.0625 / (0.2 pi) = 7.957747 nm; 40 / 7.957747 - 1 = 4.026548, root
    2.006626; sqrt(1.5) / pi^1.5 = 0.219948; G b / r = 1 GPa; sqrt(0.4) = 0.632456: 279.137.
    Orowan: 2 r_s = 32.659863 nm; sqrt(pi / 1.6) - 1 = 0.401249, gap 13.104733 nm; ln 130.639452 =
    4.872442; 0.4 x 20 / (pi sqrt(0.7)) = 3.043647 GPa nm: 1131.64.
    """
    assert float(weakly_coupled(0.4, 20.0, NICKEL)) == pytest.approx(282.232, abs=2e-3)
    assert NICKEL.pair_width == pytest.approx(7.957747, abs=1e-6)
    assert float(strongly_coupled(0.4, 20.0, NICKEL)) == pytest.approx(279.137, abs=2e-3)
    assert float(orowan(0.4, 20.0, NICKEL)) == pytest.approx(1131.64, abs=0.05)
    found = precipitation_strengthening(0.4, 20.0, NICKEL)
    assert found.mechanism == "strong"
    assert float(found.stress) == pytest.approx(3.06 * 279.137, abs=0.01)


@given(fractions, st.floats(0.05, 0.5))
def test_strong_pairs_peak_at_the_force_of_a_full_diameter(f: float, gamma: float) -> None:
    """There 2 tau b L = 2 r gamma, so tau = (gamma / b) sqrt(3 f / 2 pi); falling above."""
    material = Material(80.0, 0.25, gamma)
    peak = material.pair_width
    value = 1e3 * gamma / 0.25 * math.sqrt(1.5 * f / math.pi)
    found = strongly_coupled(f, np.array([0.1, 0.5, 1.0, 1.001, 4.0]) * peak, material)
    np.testing.assert_allclose(found[:3], value, rtol=1e-12)
    assert np.all(np.diff(found[2:]) < 0)
    # The maximum of the formula itself, whose slope there is zero: second order in the step.
    assert found[3] == pytest.approx(value, rel=1e-5)


@given(fractions, radii)
def test_strong_pairs_in_large_particles(f: float, r: float) -> None:
    """For r much larger than the pair the stress falls as r^(-1/2)."""
    big = 1e6 * r
    ratio = strongly_coupled(f, 4 * big, NICKEL) / strongly_coupled(f, big, NICKEL)
    assert float(ratio) == pytest.approx(0.5, rel=1e-5)


@given(fractions, radii, st.floats(1.01, 3.0))
def test_weak_pairs_grow_with_the_particles(f: float, r: float, factor: float) -> None:
    small, large = weakly_coupled(f, np.array([r, factor * r]), NICKEL)
    assert large > small or (large == 0 and small == 0)


@given(fractions, st.floats(3.0, 500.0), st.floats(1.01, 3.0))
def test_passing_gets_easier_with_the_particles(f: float, r: float, factor: float) -> None:
    """ln(x) / x falls above x = e."""
    small, large = orowan(f, np.array([r, factor * r]), NICKEL)
    assert large < small


@given(st.floats(0.02, 0.35), st.floats(20.0, 500.0), st.floats(1.01, 2.0))
def test_more_particles_are_stronger(f: float, r: float, factor: float) -> None:
    """Weak coupling grows with f up to 6 gamma r / (4 pi T): 0.76 at 20 nm; the others always."""
    few, many = precipitation_strengthening(np.array([f, factor * f]), r, NICKEL).stress
    assert many > few


@given(fractions, radii, st.floats(0.1, 10.0))
def test_only_ratios_of_lengths_and_stresses_matter(f: float, r: float, scale: float) -> None:
    """Moduli in another unit scale the stress; lengths in another unit do not."""
    stiff = Material(80.0 * scale, 0.25, 0.2 * scale)
    large = Material(80.0, 0.25 * scale, 0.2 * scale)
    plain = precipitation_strengthening(f, r, NICKEL).stress
    np.testing.assert_allclose(
        precipitation_strengthening(f, r, stiff).stress, scale * plain, rtol=1e-9, atol=1e-6
    )
    np.testing.assert_allclose(
        precipitation_strengthening(f, r * scale, large).stress, plain, rtol=1e-9, atol=1e-6
    )


def test_one_peak_where_the_mechanisms_cross() -> None:
    """Weak before, strong after; the stress is continuous and has one maximum."""
    r = np.geomspace(2, 2000, 4000)
    found = precipitation_strengthening(0.4, r, NICKEL)
    top = int(np.argmax(found.stress))
    assert np.all(np.diff(found.stress[:top]) >= 0)
    assert np.all(np.diff(found.stress[top:]) <= 0)
    assert set(found.mechanism[:top]) == {"weak"}
    assert "weak" not in set(found.mechanism[top + 1 :])
    assert np.abs(np.diff(found.stress)).max() < 0.01 * found.stress[top]


def test_vanishing_particles_bring_nothing() -> None:
    found = precipitation_strengthening(1e-9, 20.0, NICKEL)
    assert 0 < found.stress < 0.1
    assert precipitation_strengthening(0.4, 0.1, NICKEL).stress == 0


def test_touching_particles_cannot_be_passed() -> None:
    assert orowan(0.8, 20.0, NICKEL) == np.inf
    assert precipitation_strengthening(0.8, 20.0, NICKEL).mechanism != "orowan"
    with pytest.raises(InvalidInputError, match="touch in the slip plane"):
        precipitation_strengthening(0.8, 20.0, NICKEL, ("orowan",))


@pytest.mark.parametrize(
    ("f", "r"), [(0.0, 10.0), (1.0, 10.0), (-0.1, 10.0), (0.3, 0.0), (0.3, np.nan), (np.nan, 1.0)]
)
def test_bad_geometry(f: float, r: float) -> None:
    with pytest.raises(InvalidInputError, match=r"fraction|radius"):
        precipitation_strengthening(f, r, NICKEL)


def test_bad_constants() -> None:
    with pytest.raises(InvalidInputError, match="shear_modulus is -1"):
        Material(-1.0, 0.25)
    with pytest.raises(InvalidInputError, match=r"poissons_ratio is 0\.5"):
        Material(80.0, 0.25, poissons_ratio=0.5)
    with pytest.raises(InvalidInputError, match="cutting needs apb_energy"):
        weakly_coupled(0.3, 10.0, Material(80.0, 0.25))
    with pytest.raises(InvalidInputError, match="mechanisms are none"):
        precipitation_strengthening(0.3, 10.0, NICKEL, ())


# Images


def simulator(shape: tuple[int, int] = (32, 32), **settings: Any) -> PrecipitationStrength:
    space = DesignSpace(phases=PHASES, image_shape=shape)
    return create(space=space, settings={**SETTINGS, **settings})


def design(image: NDArray[Any]) -> Candidate:
    return Candidate(phases=PHASES, microstructure=image.astype(np.uint8))


def squares(side: int, period: int, n: int) -> NDArray[np.int64]:
    inside = np.arange(n) % period < side
    return (inside[:, None] & inside[None, :]).astype(np.int64)


def test_size_and_spacing_of_squares() -> None:
    """Side 8 px every 16 px: chords of 8 px, f = 1/4; outside 8 px x (3/4) / (1/4) = 24 px."""
    (outcome,) = simulator().evaluate([design(squares(8, 16, 32))])
    assert outcome.values[RADIUS] == pytest.approx(0.75 * 8 * 5)
    assert outcome.values[SPACING] == pytest.approx(24 * 5)
    truth = precipitation_strengthening(0.25, 30.0, NICKEL)
    assert outcome.values[STRESS] == pytest.approx(float(truth.stress))
    notes = outcome.diagnostics
    assert notes["mechanism"] == truth.mechanism
    assert any("spheres" in text for text in notes["assumptions"])
    assert notes["constants"]["pixel_size_nm"] == 5.0
    least = min(v for v in notes["shear_stress_MPa"].values() if v is not None)
    assert 3.06 * least == pytest.approx(outcome.values[STRESS])


def test_radius_of_spheres_cut_at_random() -> None:
    """Sections of equal spheres at random heights give back the radius of the spheres.

    Radius 12 px, 1,600 sections that do not touch. The mean chord is a ratio of means whose
    spread per section is below 0.5: 1600^(-1/2) x 0.5 = 1.3 %, three of them, and 1 % for pixels.
    """
    rng = np.random.default_rng(0)
    n, r, step = 1200, 12.0, 30
    image = np.zeros((n, n), dtype=bool)
    y, x = np.mgrid[0.5:step, 0.5:step]
    for corner in np.ndindex(n // step, n // step):
        cy, cx = rng.uniform(r + 0.5, step - r - 0.5, 2)
        cut = math.sqrt(r**2 - rng.uniform(-r, r) ** 2)
        i, j = (step * k for k in corner)
        image[i : i + step, j : j + step] = np.hypot(y - cy, x - cx) <= cut
    (outcome,) = simulator((n, n)).evaluate([design(image)])
    assert outcome.values[RADIUS] == pytest.approx(r * 5, rel=0.05)


def test_the_pixel_size_scales_the_lengths(random_images: ImageMaker) -> None:
    candidates = [design(image) for image in random_images(3, (32, 32))]
    for small, large in zip(
        simulator().evaluate(candidates),
        simulator(pixel_size_nm=10.0).evaluate(candidates),
        strict=True,
    ):
        for name in (RADIUS, SPACING):
            assert large.values[name] == pytest.approx(2 * small.values[name])


def test_images_without_precipitates_fail() -> None:
    empty, full = simulator().evaluate([design(np.zeros((32, 32))), design(np.ones((32, 32)))])
    assert "gamma_prime is absent from the image" in empty.reason
    assert "gamma_prime fills the image" in full.reason


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_contract(check: Check, random_images: ImageMaker) -> None:
    images = random_images(3, (32, 32), seed=2)
    check(simulator(), [design(image) for image in (*images, np.zeros((32, 32)))])


def test_particles_that_cannot_be_cut() -> None:
    settings = {k: v for k, v in SETTINGS.items() if k != "apb_energy_J_per_m2"}
    space = DesignSpace(phases=PHASES, image_shape=(32, 32))
    with pytest.raises(InvalidCampaignError, match=r"apb_energy_J_per_m2 is missing.*orowan"):
        create(space=space, settings=settings)
    only = create(space=space, settings={**settings, "mechanisms": ["orowan"]})
    (outcome,) = only.evaluate([design(squares(8, 16, 32))])
    truth = 3.06 * orowan(0.25, 30.0, NICKEL)
    assert outcome.values[STRESS] == pytest.approx(float(truth))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"pixel_size": 3.0}, "did you mean 'pixel_size_nm'"),
        ({"pixel_size_nm": 0.0}, "pixel_size_nm is 0.0: input should be greater than 0"),
        ({"mechanisms": ["strng"]}, "mechanisms"),
        ({"precipitate": "gammaprime"}, "did you mean 'gamma_prime'"),
        ({"outputs": ["strength_MPa"]}, "unknown output 'strength_MPa'"),
        ({"poissons_ratio": 0.7}, "poissons_ratio is 0.7"),
    ],
)
def test_bad_settings(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidCampaignError, match=message):
        simulator(**settings)


def test_a_missing_constant_is_named_with_an_example() -> None:
    space = DesignSpace(phases=PHASES, image_shape=(8, 8))
    with pytest.raises(InvalidCampaignError, match=r"shear_modulus_GPa is missing.*= 80"):
        create(space=space, settings={"pixel_size_nm": 1.0})
    with pytest.raises(InvalidCampaignError, match="has no images"):
        create(space=DesignSpace(phases=PHASES, elements=("Ni",)), settings=SETTINGS)


def test_the_version_tells_the_constants() -> None:
    versions = {simulator(apb_energy_J_per_m2=gamma).version for gamma in (0.1, 0.2, 0.2)}
    assert len(versions) == 2
