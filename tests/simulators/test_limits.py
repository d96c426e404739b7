"""Limits of the chain's outputs: exact extremes, attained ones, and none passed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import linprog

from loop.candidate import Candidate
from loop.protocols import Limited
from loop.space import DesignSpace
from simulators import elemental
from simulators.chain import CompositeChain
from simulators.contract import check_limits
from simulators.elasticity import youngs_modulus
from simulators.limits import Compositions
from simulators.registry import create
from tests.simulators.conftest import ImageMaker
from tests.simulators.designs import (
    COMPOSITE,
    ELEMENTS,
    ORDERED,
    PHASES,
    composite,
    composites,
    superalloys,
)

FloatArray = NDArray[np.float64]
BOUNDS = {
    "gamma": {"Ni": (0.3, 0.8), "W": (0.0, 0.1), "Ti": (0.0, 0.05)},
    "gamma_prime": {"Ni": (0.6, 0.8), "Al": (0.1, 0.25), "Cr": (0.0, 0.0), "W": (0.0, 0.05)},
}


def chain(space: DesignSpace, **given_: Any) -> CompositeChain:
    made = create("composite-chain", space=space, settings=given_)
    assert isinstance(made, CompositeChain)
    assert isinstance(made, Limited)
    return made


def charnes_cooper(
    values: FloatArray, weights: FloatArray, low: FloatArray, high: FloatArray
) -> tuple[float, float]:
    """Extremes of (x w) v / (x w), sum x = 1, as linear programs in y = t x and t.

    A. Charnes and W. W. Cooper, Naval Research Logistics Quarterly 9, 181 (1962).
    """
    n = len(values)
    equal = np.vstack([np.append(weights, 0.0), np.append(np.ones(n), -1.0)])
    below = np.vstack([np.column_stack([np.eye(n), -high]), np.column_stack([-np.eye(n), low])])
    found = []
    for sign in (1.0, -1.0):
        solved = linprog(
            sign * np.append(weights * values, 0.0),
            A_ub=below, b_ub=np.zeros(2 * n), A_eq=equal, b_eq=[1.0, 0.0],
        )  # fmt: skip
        assert solved.success, solved.message
        found.append(sign * float(solved.fun or 0.0))
    return found[0], found[1]


@settings(max_examples=60)
@given(st.integers(0, 2**32 - 1), st.integers(1, 7))
def test_extreme_means_are_those_of_linear_programs(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    inside = rng.dirichlet(np.ones(n))  # so that there is a composition at all
    low = inside * rng.uniform(0, 1, n)
    high = np.minimum(inside + rng.uniform(0, 0.5, n) * (rng.random(n) < 0.7), 1.0)
    values, weights = 10 ** rng.uniform(-1, 2, n), 10 ** rng.uniform(-1, 1, n)
    found = Compositions(low, high).mean(values, weights)
    exact = charnes_cooper(values, weights, low, high)
    # HiGHS meets its constraints within 1e-7.
    assert found == pytest.approx(exact, rel=1e-5)
    assert found[0] <= (inside * weights) @ values / (inside @ weights) <= found[1] + 1e-12


def test_a_binary_by_hand() -> None:
    """What falls or rises along a binary is extreme at its ends: those ends are the limits."""
    space = DesignSpace(("fcc",), ("Ni", "Al"), bounds={"fcc": {"Al": (0.05, 0.2)}})
    simulator = chain(space)
    ends = [
        Candidate(("fcc",), ("Ni", "Al"), phase_compositions=np.array([[1 - x, x]]))
        for x in (0.05, 0.2)
    ]
    rich, poor = (outcome.values for outcome in simulator.evaluate(ends))
    for name in ("density_g_per_cm3", "material_cost_USD_per_kg", "youngs_modulus_GPa"):
        low, high = simulator.limits[name]
        expected = sorted((rich[name], poor[name]))
        assert [low, high] == pytest.approx(expected, rel=2e-6)
        assert low < expected[0] < expected[1] < high


def test_without_bounds_the_elements_themselves_are_the_limits() -> None:
    simulator = chain(DesignSpace(PHASES, ELEMENTS, (16, 16)))
    table = elemental.element_table(ELEMENTS)
    pure = np.eye(len(ELEMENTS))
    exact = {
        "density_g_per_cm3": elemental.density(pure, table),
        "material_cost_USD_per_kg": elemental.material_cost(pure, table),
    }
    for name, values in exact.items():
        assert simulator.limits[name] == pytest.approx((values.min(), values.max()), rel=1e-4)
    best = elemental.thermal_conductivity(pure, table).max()
    assert simulator.limits["thermal_conductivity_W_per_mK"][1] == pytest.approx(best, rel=1e-4)
    bulk, shear = elemental.elastic_moduli(pure, table)
    stiffest = youngs_modulus(bulk.max(), shear.max())  # tungsten
    assert simulator.limits["youngs_modulus_GPa"] == pytest.approx(
        (float(youngs_modulus(bulk, shear).min()), float(stiffest)), rel=1e-4
    )


def test_a_laminate_attains_the_ratio() -> None:
    image = np.zeros((16, 16), dtype=np.uint8)
    image[:8] = 1
    simulator = chain(composite(), phase_properties=COMPOSITE, tolerance=1e-10)
    low, high = simulator.limits["conductivity_ratio"]
    assert high == pytest.approx((60 + 1) ** 2 / (4 * 60), rel=1e-5)
    turned = np.stack([image, np.rot90(image)])
    along, across = simulator.evaluate(composites(turned))
    assert along.values["conductivity_ratio"] == pytest.approx(high, rel=1e-5)
    assert across.values["conductivity_ratio"] == pytest.approx(low, rel=1e-5)


def test_what_is_counted_in_the_image_is_attained() -> None:
    simulator = chain(composite(), phase_properties=COMPOSITE)
    checks = (np.indices((16, 16)).sum(0) % 2).astype(np.uint8)
    hole = np.ones((16, 16), dtype=np.uint8)
    hole[3, 5] = 0
    fine, full = (o.values for o in simulator.evaluate(composites(np.stack([checks, hole]))))
    assert simulator.limits["interface_density_per_px"] == (0.0, fine["interface_density_per_px"])
    assert simulator.limits["precipitate_chord_length_px"] == (
        fine["precipitate_chord_length_px"],
        full["precipitate_chord_length_px"],
    )
    assert simulator.limits["fibre_fraction"] == (0.0, 1.0)


def bounded(images: NDArray[np.uint8], space: DesignSpace, seed: int) -> list[Candidate]:
    """Candidates within the bounds, most of them at a corner."""
    rng = np.random.default_rng(seed)
    found = []
    for image in images:
        inside = [Compositions(*both) for both in zip(*space.bound_arrays(), strict=True)]
        x = np.stack([phase.most(rng.normal(size=len(ELEMENTS))) for phase in inside])
        found.append(Candidate(PHASES, ELEMENTS, image, x / x.sum(1, keepdims=True)))
    return found


def test_no_design_passes_them(random_images: ImageMaker) -> None:
    space = DesignSpace(PHASES, ELEMENTS, (16, 16), BOUNDS)
    images = random_images(24, (16, 16), seed=8)
    check_limits(chain(space, **ORDERED), bounded(images, space, 0))
    free = DesignSpace(PHASES, ELEMENTS, (16, 16))
    check_limits(chain(free), bounded(images, free, 1))
    check_limits(chain(free), superalloys(images))


def test_three_given_phases(random_images: ImageMaker) -> None:
    properties = {**COMPOSITE, "pore": {**COMPOSITE["matrix"], "youngs_modulus_GPa": 0.1}}
    space = DesignSpace(("matrix", "fibre", "pore"), image_shape=(16, 16))
    images = random_images(8, (16, 16), phases=3, seed=2)
    simulator = chain(space, phase_properties=properties)
    check_limits(simulator, [Candidate(space.phases, microstructure=image) for image in images])
    assert simulator.limits["density_g_per_cm3"] == pytest.approx((1.2, 1.8), rel=1e-4)
    assert simulator.limits["youngs_modulus_GPa"][0] == pytest.approx(0.1, rel=1e-4)


def test_a_given_phase_and_a_computed_one() -> None:
    given_ = {"gamma_prime": {"density_g_per_cm3": 30.0}}
    simulator = chain(DesignSpace(PHASES, ELEMENTS, (16, 16)), phase_properties=given_)
    assert simulator.limits["density_g_per_cm3"][1] == pytest.approx(30.0, rel=1e-4)


def test_only_what_is_asked_for_is_needed() -> None:
    """Gallium has no moduli in the table; the limits of its density need none."""
    space = DesignSpace(PHASES, ("Ni", "Ga"), (16, 16))
    simulator = chain(space, outputs=["density_g_per_cm3", "gamma_prime_fraction"])
    assert set(simulator.limits) == {"density_g_per_cm3", "gamma_prime_fraction"}
