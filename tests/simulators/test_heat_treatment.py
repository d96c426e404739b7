"""``heat-treatment``: what a process gives, what it cannot, and the contract."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from loop.candidate import Candidate, Outcome
from loop.errors import InvalidCampaignError
from loop.space import DesignSpace
from simulators.annealing import Material, anneal
from simulators.contract import CHECKS, Check
from simulators.heat_treatment import HeatTreatment, create
from simulators.realisability import two_point_distance
from simulators.solution import Solution
from simulators.thermodynamics import equilibrium

INTERACTION = [[36061.88, -10.44288], [-4310.12, 0.0]]
DIFFUSION = {"Ag": [4.5e-5, 182e3], "Cu": [1.2e-4, 193e3]}
SETTINGS: dict[str, Any] = {
    "interactions": {"Ag-Cu": INTERACTION},
    "gradient_energy_J_m2_per_mol": 2.3e-15,
    "diffusion": DIFFUSION,
    "pixel_size_nm": 0.3,
    "seeds": 2,
    "tolerance": 0.1,
}
ALLOY = Material(
    Solution(("Ag", "Cu"), {("Ag", "Cu"): ((36061.88, -10.44288), (-4310.12, 0.0))}),
    2.3e-15,
    {"Ag": (4.5e-5, 182e3), "Cu": (1.2e-4, 193e3)},
)
N = 24
SPACE = DesignSpace(
    phases=("silver", "copper"),
    elements=("Ag", "Cu"),
    image_shape=(N, N),
    process={"temperature_K": (600.0, 1500.0), "time_s": (1e-9, 1e6)},
)


def seconds(temperature: float, units: float) -> float:
    """Time in which the faster element diffuses over ``units`` squared pixels."""
    return units * 0.3e-9**2 / float(ALLOY.diffusivities([temperature]).max())


def stripes(width: int, offset: int = 0) -> NDArray[np.uint8]:
    lines = ((np.arange(N) + offset) // width % 2).astype(np.uint8)
    return np.broadcast_to(lines, (N, N)).copy()


def design(
    image: NDArray[Any],
    temperature: float = 850.0,
    units: float = 60.0,
    *,
    copper: tuple[float, float] = (0.05, 0.95),
) -> Candidate:
    return Candidate(
        phases=("silver", "copper"),
        elements=("Ag", "Cu"),
        microstructure=image.astype(np.uint8),
        phase_compositions=np.array([[1 - copper[0], copper[0]], [1 - copper[1], copper[1]]]),
        process={"temperature_K": temperature, "time_s": seconds(temperature, units)},
    )


def simulator(space: DesignSpace = SPACE, **settings: Any) -> HeatTreatment:
    return create(space=space, settings={**SETTINGS, **settings})


def test_what_the_process_gives() -> None:
    """Fractions of the lever rule and those of ``anneal`` itself with the seeds named."""
    candidate = design(stripes(6))
    (outcome,) = simulator().evaluate([candidate])
    assert outcome.status == "ok", outcome.reason
    rest = equilibrium(ALLOY.solution, [0.5, 0.5], 850.0)
    assert outcome.values["recreated_copper_fraction"] == pytest.approx(rest.fractions[1], abs=0.1)
    fractions = [outcome.values[f"recreated_{phase}_fraction"] for phase in SPACE.phases]
    assert sum(fractions) == pytest.approx(1)
    np.testing.assert_allclose(outcome.diagnostics["equilibrium_fractions"], rest.fractions)
    assert outcome.diagnostics["composition_mismatch"] == pytest.approx(
        np.abs(rest.compositions - [[0.95, 0.05], [0.05, 0.95]]).max()
    )
    own = anneal(
        ALLOY,
        [[0.5, 0.5]] * 2,
        850.0,
        candidate.process["time_s"],
        shape=(N, N),
        spacing_m=0.3e-9,
        seeds=outcome.diagnostics["seeds"],
        tolerance=0.1,
        dtype=torch.float32,
    )
    assert candidate.microstructure is not None
    expected = two_point_distance(candidate.microstructure[None], own.labels, 2)
    assert outcome.values["realisability"] == pytest.approx(expected, rel=1e-12)
    assert fractions[1] == pytest.approx(float(own.labels.mean()), rel=1e-12)


def test_an_image_of_the_process_is_realisable_and_stripes_are_not() -> None:
    """Its phases have the compositions they have got, so that the lever rule gives the alloy's."""
    made = anneal(
        ALLOY,
        [[0.5, 0.5]],
        850.0,
        seconds(850.0, 60),
        shape=(N, N),
        spacing_m=0.3e-9,
        seeds=[7],
        tolerance=0.1,
    )
    copper = [float(made.fractions[0, 1][made.labels[0] == label].mean()) for label in (0, 1)]
    outcomes = simulator(seeds=4).evaluate(
        [design(image, copper=(copper[0], copper[1])) for image in (made.labels[0], stripes(12))]
    )
    scatter = outcomes[0].diagnostics["realisability_scatter"]
    assert outcomes[0].values["realisability"] < 3 * scatter
    assert outcomes[1].values["realisability"] > 3 * outcomes[0].values["realisability"]


def test_phases_are_told_by_their_compositions() -> None:
    """The same design with its two phases named the other way round."""
    image = stripes(6)
    turned = DesignSpace(
        phases=("copper", "silver"), elements=SPACE.elements, image_shape=(N, N),
        process=SPACE.process,
    )  # fmt: skip
    own = design(image)
    other = Candidate(
        phases=("copper", "silver"),
        elements=own.elements,
        microstructure=1 - image,
        phase_compositions=np.array([[0.05, 0.95], [0.95, 0.05]]),
        process=own.process,
    )
    (a,), (b,) = simulator().evaluate([own]), simulator(turned).evaluate([other])
    assert dict(b.values) == pytest.approx(dict(a.values), rel=1e-12)


def test_longer_is_coarser() -> None:
    short, long = simulator().evaluate([design(stripes(6), units=units) for units in (30.0, 400.0)])
    name = "recreated_copper_chord_length_px"
    assert long.values[name] > 1.2 * short.values[name]


def test_what_cannot_be_made_is_infeasible() -> None:
    mixed, metastable = simulator().evaluate(
        [design(stripes(6), 1490.0), design(stripes(6), 850.0, copper=(0.02, 0.12))]
    )
    assert (mixed.status, metastable.status) == ("infeasible", "infeasible")
    assert "one phase at 1490 K" in mixed.reason
    assert "outside the spinodal at 850 K" in metastable.reason
    (coarse,) = simulator(pixel_size_nm=2.0).evaluate([design(stripes(6))])
    assert coarse.status == "infeasible"
    assert "waves that grow fastest" in coarse.reason
    # Before anything has grown every pixel is next to the phase rich in the overall element.
    early = design(stripes(6), units=0.01, copper=(0.05, 0.75))
    (young,) = simulator().evaluate([early])
    assert young.status == "infeasible"
    assert "too short to unmix" in young.reason


def test_what_does_not_finish_is_failed() -> None:
    (outcome,) = simulator(max_steps=5).evaluate([design(stripes(6))])
    assert outcome.status == "failed"
    assert "ran out of its 5 steps" in outcome.reason


def test_candidates_without_parts_fail() -> None:
    lone = Candidate(phases=SPACE.phases, microstructure=stripes(6))
    part = Candidate(
        phases=SPACE.phases, elements=SPACE.elements, microstructure=stripes(6),
        phase_compositions=np.array([[0.9, 0.1], [0.1, 0.9]]),
    )  # fmt: skip
    outcomes = simulator().evaluate([lone, part])
    assert [o.status for o in outcomes] == ["failed", "failed"]
    assert "expected silver, copper and Ag, Cu" in outcomes[0].reason
    assert "process variable temperature_K is missing" in outcomes[1].reason


def test_a_fixed_treatment() -> None:
    space = DesignSpace(phases=SPACE.phases, elements=SPACE.elements, image_shape=(N, N))
    fixed = simulator(space, temperature_K=850.0, time_s=seconds(850.0, 60.0))
    designed: Outcome = simulator().evaluate([design(stripes(6))])[0]
    assert dict(fixed.evaluate([design(stripes(6))])[0].values) == dict(designed.values)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_contract(check: Check) -> None:
    small = [stripes(6), stripes(4), stripes(3, offset=1)]
    candidates = [
        design(image, temperature, 20.0)
        for image, temperature in zip(small, (850.0, 880.0, 850.0), strict=True)
    ]
    check(simulator(), [*candidates, design(stripes(6), 1490.0)])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"pixel_size": 3.0}, "did you mean 'pixel_size_nm'"),
        ({"pixel_size_nm": 0.0}, "pixel_size_nm is 0.0: input should be greater than 0"),
        ({"interactions": {"Ag-Au": INTERACTION}}, "unknown element 'Au'"),
        ({"interactions": {"AgCu": INTERACTION}}, "expected two elements as 'Ag-Cu'"),
        ({"diffusion": {"Ag": [1e-5, 1e5]}}, "diffusion data of Cu are missing"),
        ({"diffusion": {"Ag": [1e-5], "Cu": [1e-5, 1e5]}}, r"expected \[D0 in m2/s"),
        ({"temperature": "hold_K"}, "temperature: unknown process variable 'hold_K'"),
        ({"temperature_K": 900.0}, "is a process variable of the space; keep one"),
        ({"outputs": ["realizability"]}, "did you mean 'realisability'"),
        ({"seeds": 1}, "seeds is 1: input should be greater than or equal to 2"),
    ],
)
def test_bad_settings(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidCampaignError, match=message):
        simulator(**settings)


def test_spaces_that_do_not_fit() -> None:
    with pytest.raises(InvalidCampaignError, match="needs images of two phases"):
        simulator(DesignSpace(phases=("a", "b"), elements=("Ag", "Cu")))
    with pytest.raises(InvalidCampaignError, match=r"interactions is missing; .*Ag-Cu"):
        create(space=SPACE, settings={})


def test_the_version_tells_the_settings() -> None:
    assert simulator().version == simulator().version
    assert simulator().version != simulator(seeds=3).version
