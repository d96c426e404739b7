"""``descriptors`` as a simulator: the published values, phases, limits, the contract, refusals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from loop.candidate import Candidate
from loop.descriptors import DESCRIPTORS, FINITE, descriptors
from loop.errors import InvalidCampaignError
from loop.space import DesignSpace
from simulators.alloy_descriptors import create
from simulators.contract import CHECKS, Check
from simulators.registry import available

CANTOR = ("Co", "Cr", "Fe", "Mn", "Ni")
ALLOY = DesignSpace(phases=("alloy",), elements=CANTOR)
PHASES = ("gamma", "gamma_prime")
SUPERALLOY = DesignSpace(phases=PHASES, elements=("Ni", "Al"), image_shape=(4, 4))


def alloy(*fractions: float, elements: tuple[str, ...] = CANTOR) -> Candidate:
    return Candidate(phases=("alloy",), elements=elements, phase_compositions=np.array([fractions]))


def two_phases(pixels: int = 8) -> Candidate:
    image = (np.arange(16) < pixels).astype(np.uint8).reshape(4, 4)
    x = np.array([[0.9, 0.1], [0.75, 0.25]])
    return Candidate(
        phases=PHASES, elements=("Ni", "Al"), microstructure=image, phase_compositions=x
    )


def test_equal_parts_of_five_elements() -> None:
    """R ln 5, (9 + 6 + 8 + 7 + 10)/5 valence electrons and -4.16 kJ/mol of CoCrFeMnNi.

    Guo et al. 2011, table I; Zhang et al. 2014, Prog. Mater. Sci. 61, 1, table 3.
    """
    (found,) = create(space=ALLOY, settings={}).evaluate([alloy(*[0.2] * 5)])
    assert found.status == "ok"
    assert set(found.values) == set(FINITE)
    assert found.values["mixing_entropy_J_per_molK"] == pytest.approx(13.381, abs=1e-3)
    assert found.values["valence_electrons_per_atom"] == pytest.approx(8.0)
    assert found.values["mixing_enthalpy_kJ_per_mol"] == pytest.approx(-4.16, abs=0.005)


def test_of_phases_and_of_the_whole() -> None:
    names = ["valence_electrons_per_atom", "gamma_prime_valence_electrons_per_atom"]
    names += ["gamma_mixing_enthalpy_kJ_per_mol", "omega"]
    simulator = create(space=SUPERALLOY, settings={"outputs": names})
    assert list(simulator.outputs) == names
    assert simulator.outputs["gamma_mixing_enthalpy_kJ_per_mol"] == "kJ/mol"
    whole, parts = [[0.825, 0.175]], [[0.9, 0.1], [0.75, 0.25]]
    (found,) = simulator.evaluate([two_phases()])
    expected = [
        descriptors(whole, ("Ni", "Al"), ["valence_electrons_per_atom"])[0, 0],
        descriptors(parts, ("Ni", "Al"), ["valence_electrons_per_atom"])[1, 0],
        descriptors(parts, ("Ni", "Al"), ["mixing_enthalpy_kJ_per_mol"])[0, 0],
        descriptors(whole, ("Ni", "Al"), ["omega"])[0, 0],
    ]
    np.testing.assert_allclose([found.values[name] for name in names], expected, rtol=1e-12)


def test_limits_hold_for_all_mixtures_and_are_reached() -> None:
    simulator = create(space=ALLOY, settings={"outputs": list(DESCRIPTORS)})
    rng = np.random.default_rng(0)
    rows = np.concatenate([rng.dirichlet([0.3] * 5, 300), np.full((1, 5), 0.2)])
    halves = [np.eye(5)[i] / 2 + np.eye(5)[j] / 2 for i in range(5) for j in range(i)]
    found = simulator.evaluate([alloy(*x) for x in (*rows, *halves)])
    assert "mixing_enthalpy_kJ_per_mol" not in simulator.limits
    for name, (least, most) in simulator.limits.items():
        values = [outcome.values[name] for outcome in found if outcome.status == "ok"]
        width = most - least if np.isfinite(most) else 1.0
        assert min(values) >= least - 1e-9 * width
        assert max(values) <= most + 1e-9 * width
        if name.endswith(("spread", "difference", "molK")):
            assert max(values) == pytest.approx(most)
    pure = simulator.evaluate([alloy(*x) for x in np.eye(5)])
    assert {o.status for o in pure} == {"failed"}
    assert "omega is infinite for this design" in pure[0].reason


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_contract(check: Check) -> None:
    check(create(space=SUPERALLOY, settings={}), [two_phases(n) for n in (2, 8, 12)])


@pytest.mark.parametrize(
    ("space", "settings", "message"),
    [
        (ALLOY, {"outputs": ["valence_electron_per_atom"]}, "did you mean 'valence_electrons"),
        (ALLOY, {"output": ["omega"]}, "did you mean 'outputs'"),
        (ALLOY, {"missing": "skip"}, "refuse"),
        (DesignSpace(("a",), (), (4, 4)), {}, "the space has no elements"),
        (DesignSpace(PHASES, ("Ni", "Al")), {}, "such as gamma_mixing_entropy_J_per_molK"),
        (
            DesignSpace(("alloy",), ("Ni", "H")),
            {},
            'with H: element H has no .*or set missing = "leave_out"',
        ),
    ],
)
def test_what_cannot_be_used(space: DesignSpace, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidCampaignError, match=message):
        create(space=space, settings=settings)


def test_an_element_without_a_datum_is_left_out_where_asked() -> None:
    space = DesignSpace(("alloy",), ("Ni", "H"))
    outputs = ["youngs_modulus_GPa"]
    simulator = create(space=space, settings={"missing": "leave_out", "outputs": outputs})
    designs = [alloy(0.9, 0.1, elements=("Ni", "H")), alloy(0.0, 1.0, elements=("Ni", "H"))]
    mixed, hydrogen = simulator.evaluate(designs)
    assert mixed.values["youngs_modulus_GPa"] == pytest.approx(200.0)
    assert hydrogen.status == "failed"
    assert "consists of elements without" in hydrogen.reason
    assert "descriptors" in available()
