"""The contact-alloy example: its figures agree with each other and with what SOURCE.md says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from loop.campaign import Campaign, load_campaign
from loop.checks import check_outputs, check_targets
from simulators import library_sources, registry
from simulators.annealing import LEAST_WAVELENGTH, Material
from simulators.free_energy import darken_mobility
from simulators.miscibility import binodal
from simulators.phase_field import fastest_wavelength
from simulators.solution import GAS_CONSTANT, Solution
from simulators.solution_settings import load_solution
from simulators.thermodynamics import equilibrium

EXAMPLE = Path(__file__).parents[2] / "examples" / "contact-alloy"
WIDENING = 50.0  # SOURCE.md: factor of the interfaces' width


@pytest.fixture(scope="module")
def campaign() -> Campaign:
    return load_campaign(EXAMPLE)


@pytest.fixture(scope="module")
def settings(campaign: Campaign) -> dict[str, Any]:
    assert campaign.library is not None
    return campaign.library.settings


@pytest.fixture(scope="module")
def solution(campaign: Campaign, settings: dict[str, Any]) -> Solution:
    return load_solution(settings["solution"], campaign.space.elements)


def test_targets_can_be_met_by_what_the_simulators_give(campaign: Campaign) -> None:
    simulators = [
        registry.create(
            name, space=campaign.space, settings=campaign.simulators.settings.get(name, {})
        )
        for name in campaign.simulators.use
    ]
    check_outputs(simulators)
    check_targets(campaign.targets, simulators)
    assert campaign.library is not None
    library_sources.create(
        campaign.library.source, space=campaign.space, settings=campaign.library.settings
    )


def test_one_solution_makes_the_library_and_judges_the_designs(
    campaign: Campaign, settings: dict[str, Any]
) -> None:
    judging = campaign.simulators.settings["phase-equilibrium"]["solution"]
    assert judging["interactions"] == settings["solution"]["interactions"]


def test_known_solubilities(solution: Solution) -> None:
    """At the Ag-Cu eutectic, 1052 K: 14.1 at.% Cu in silver, 4.9 at.% Ag in copper (measured).

    At the Ag-Ni eutectic, 1233 K: about 0.3 at.% Ni in silver, which set the parameter.
    """
    ((low, high),) = binodal(solution.subset(["Ag", "Cu"]), 1052.0)
    assert low == pytest.approx(0.141, abs=0.015)
    assert 1 - high == pytest.approx(0.049, abs=0.006)
    ((nickel, _),) = binodal(solution.subset(["Ag", "Ni"]), 1233.0)
    assert nickel == pytest.approx(0.003, abs=0.0005)


def test_palladium_goes_to_copper(solution: Solution) -> None:
    phases = equilibrium(solution, [0.5, 0.4, 0.02, 0.08], 980.0).compositions
    assert phases[1, 3] > 1.5 * phases[0, 3]
    assert phases[1, 2] > 20 * phases[0, 2]  # nickel all but wholly


def test_widened_interfaces_are_consistent(settings: dict[str, Any]) -> None:
    """K is the regular solution's L a^2 times 50^2; D0 is divided by 50 (SOURCE.md)."""
    physical = 33819.1 * 0.2889e-9**2
    assert settings["gradient_energy_J_m2_per_mol"] == pytest.approx(
        WIDENING**2 * physical, rel=0.01
    )
    handbook = {"Ag": 0.395e-4, "Cu": 1.23e-4, "Ni": 21.9e-4, "Pd": 9.57e-4}
    for element, value in handbook.items():
        assert settings["diffusion"][element][0] == pytest.approx(value / WIDENING, rel=0.005)


def test_nearly_all_alloys_unmix_in_waves_that_the_image_resolves(
    campaign: Campaign, settings: dict[str, Any], solution: Solution
) -> None:
    material = Material(solution, settings["gradient_energy_J_m2_per_mol"], settings["diffusion"])
    rng = np.random.default_rng(0)
    ranges = np.array([settings["compositions"][e] for e in campaign.space.elements])
    seen = total = 0
    while total < 200:
        x = rng.uniform(ranges[:, 0], ranges[:, 1])
        x[0] = 1 - x[1:].sum()
        if not ranges[0, 0] <= x[0] <= ranges[0, 1]:
            continue
        total += 1
        t = rng.uniform(*campaign.space.process["temperature_K"])
        rt, speeds = GAS_CONSTANT * t, material.diffusivities(t)
        stiff = settings["gradient_energy_J_m2_per_mol"] / (rt * settings["spacing_m"] ** 2)
        wavelength = fastest_wavelength(
            solution.curvature(x, t) / rt,
            stiff * np.eye(3),
            darken_mobility(x[None], speeds[None] / speeds.max())[0],
        )
        seen += LEAST_WAVELENGTH <= wavelength <= 16
    assert seen > 0.8 * total
