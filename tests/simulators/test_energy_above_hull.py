"""``hull`` as a simulator: hand-computed energies, wired inputs, the contract, wrong settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.optimize import linprog

from loop.candidate import Candidate, Outcome
from loop.errors import InvalidCampaignError, InvalidInputError
from loop.space import DesignSpace
from simulators.contract import CHECKS, Check
from simulators.energy_above_hull import ABOVE, EV, HullSimulator, create
from simulators.wiring import connect

ENTRIES: dict[str, float] = {
    "Al": -3.7,
    "Ni": -5.5,
    "Ni3Al": -5.5,
    "NiAl": -5.2,
    "NiAl3": -4.5,
}
AMOUNTS = {"Al": 1.0, "Ni": 0.0, "Ni3Al": 0.25, "NiAl": 0.5, "NiAl3": 0.75}  # of aluminium
PHASES = ("gamma", "gamma_prime")
SPACE = DesignSpace(phases=PHASES, elements=("Ni", "Al"), image_shape=(4, 4))
ALLOY = DesignSpace(phases=("alloy",), elements=("Ni", "Al"))
SOLUTION: dict[str, Any] = {
    "source": "made up",
    "interactions": {"Al-Ni": [[-60_000.0, 10.0], [5_000.0, 0.0]]},
    "references": {"Al": [1_000.0, -1.0]},
}
WIRED = ("gamma.formation_energy_eV_per_atom", "gamma_prime.formation_energy_eV_per_atom")


@pytest.fixture
def entries(tmp_path: Path) -> str:
    path = tmp_path / "entries.csv"
    path.write_text(
        "composition,energy_eV_per_atom\n" + "\n".join(f"{k},{v}" for k, v in ENTRIES.items())
    )
    return str(path)


def alloy(x: float) -> Candidate:
    return Candidate(
        phases=("alloy",), elements=("Ni", "Al"), phase_compositions=np.array([[1 - x, x]])
    )


def superalloy(gamma: float, prime: float, pixels: int) -> Candidate:
    image = (np.arange(16) < pixels).astype(np.uint8).reshape(4, 4)
    x = np.array([[1 - gamma, gamma], [1 - prime, prime]])
    return Candidate(
        phases=PHASES, elements=("Ni", "Al"), microstructure=image, phase_compositions=x
    )


def least_formation_energy(x: float) -> float:
    """By scipy's linear programme over the entries, against the elements."""
    share = np.array(list(AMOUNTS.values()))
    formation = np.array(list(ENTRIES.values())) - share * -3.7 - (1 - share) * -5.5
    found = linprog(formation, A_eq=np.stack((share, 1 - share)), b_eq=[x, 1 - x])
    assert found.fun is not None
    return float(found.fun)


@pytest.mark.parametrize("x", [0.0, 0.1, 0.25, 0.4, 0.6, 0.9, 1.0])
def test_solution_above_the_hull(entries: str, x: float) -> None:
    """The enthalpy at 0 K, x_Al (1 - x_Al) (L0 + L1 (x_Al - x_Ni)) and 1 kJ/mol for Al itself."""
    simulator = create(space=ALLOY, settings={"entries": entries, "solution": SOLUTION})
    assert simulator.outputs == {ABOVE: "eV/atom"}
    outcome = simulator.evaluate([alloy(x)])[0]
    enthalpy = x * (1 - x) * (-60_000 + 5_000 * (2 * x - 1)) + 1_000 * x
    truth = enthalpy / EV - least_formation_energy(x)
    assert outcome.values[ABOVE] == pytest.approx(truth, abs=1e-9)
    assert sum(outcome.diagnostics["decomposition"].values()) == pytest.approx(1.0)


def test_wired_energies(entries: str) -> None:
    """Half gamma of 10 % Al at -0.1, half gamma prime of 24 % at -0.4 eV per atom."""
    outputs = [ABOVE, f"gamma_{ABOVE}", f"gamma_prime_{ABOVE}"]
    simulator = create(space=SPACE, settings={"entries": entries, "outputs": outputs}, wired=WIRED)
    given = {WIRED[0]: -0.1, WIRED[1]: -0.4}
    values = simulator.evaluate_given([superalloy(0.1, 0.24, 8)], [given])[0].values
    assert values[ABOVE] == pytest.approx(-0.25 - least_formation_energy(0.17), abs=1e-9)
    assert values[outputs[1]] == pytest.approx(-0.1 - least_formation_energy(0.1), abs=1e-9)
    assert values[outputs[2]] == pytest.approx(-0.4 - least_formation_energy(0.24), abs=1e-9)
    with pytest.raises(InvalidInputError, match="as wired"):
        simulator.evaluate([superalloy(0.1, 0.24, 8)])


def test_energy_of_a_fixed_composition(entries: str) -> None:
    """Ni3Al itself, 10 meV above its entry, with a solution around it."""
    space = DesignSpace(
        phases=PHASES,
        elements=("Ni", "Al"),
        image_shape=(4, 4),
        bounds={"gamma_prime": {"Al": (0.25, 0.25)}},
    )
    formation = -5.5 + 0.75 * 5.5 + 0.25 * 3.7 + 0.01
    settings = {
        "entries": entries,
        "solution": SOLUTION,
        "formation_energies_eV_per_atom": {"gamma_prime": formation},
        "outputs": [f"gamma_prime_{ABOVE}"],
    }
    simulator = create(space=space, settings=settings)
    assert simulator.sources == {"gamma": "solution", "gamma_prime": "given"}
    values = simulator.evaluate([superalloy(0.1, 0.25, 8)])[0].values
    assert values == pytest.approx({f"gamma_prime_{ABOVE}": 0.01})
    with pytest.raises(InvalidCampaignError, match="gamma_prime has one formation energy for"):
        create(space=SPACE, settings=settings)


class Potential:
    """Gives both phases' formation energies, -0.4 x_Al eV per atom."""

    name, version = "potential", "1"
    outputs: Mapping[str, str] = {f"{p}_formation_energy_eV_per_atom": "eV/atom" for p in PHASES}

    def evaluate(self, candidates: Sequence[Candidate]) -> list[Outcome]:
        found = []
        for candidate in candidates:
            assert candidate.phase_compositions is not None
            energies = (-0.4 * candidate.phase_compositions[:, 1]).tolist()
            found.append(Outcome("ok", dict(zip(self.outputs, energies, strict=True))))
        return found


def wired(entries: str) -> Any:
    wires = {"hull": dict(zip(WIRED, Potential.outputs, strict=True))}
    made = create(space=SPACE, settings={"entries": entries}, wired=WIRED)
    (one,) = connect([made, Potential()], wires)
    return one


def test_wires_of_a_campaign(entries: str) -> None:
    outcome = wired(entries).evaluate([superalloy(0.1, 0.24, 8)])[0]
    truth = -0.4 * 0.17 - least_formation_energy(0.17)
    assert outcome.values[ABOVE] == pytest.approx(truth, abs=1e-9)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_contract(check: Check, entries: str) -> None:
    """Alone and wired; one candidate has other phases."""
    simulator = create(space=ALLOY, settings={"entries": entries, "solution": SOLUTION})
    strange = Candidate(
        phases=("other",), elements=("Ni", "Al"), phase_compositions=np.array([[0.5, 0.5]])
    )
    check(simulator, [alloy(0.1), strange, alloy(0.3), alloy(0.8)])
    check(wired(entries), [superalloy(0.1, 0.24, n) for n in (3, 8, 12)])


def test_version_tells_settings_and_content(entries: str) -> None:
    def version(**more: Any) -> str:
        return create(
            space=ALLOY, settings={"entries": entries, "solution": SOLUTION} | more
        ).version

    first = version()
    other = version(solution=SOLUTION | {"interactions": {"Al-Ni": [[-60_001.0, 10.0]]}})
    path = Path(entries)
    path.write_text(path.read_text().replace("-5.2", "-5.21"))
    assert len({first, other, version()}) == 3


def test_single_phases_need_no_image(entries: str) -> None:
    space = DesignSpace(phases=PHASES, elements=("Ni", "Al"))
    settings = {"entries": entries, "solution": SOLUTION, "solution_phases": ["gamma"]}
    with pytest.raises(InvalidCampaignError, match="amounts are unknown"):
        create(space=space, settings=settings)
    simulator: HullSimulator = create(
        space=space, settings=settings | {"outputs": [f"gamma_{ABOVE}"]}
    )
    x = np.array([[0.9, 0.1], [0.75, 0.25]])
    only = Candidate(phases=PHASES, elements=("Ni", "Al"), phase_compositions=x)
    assert simulator.sources == {"gamma": "solution"}  # the other's energy is not needed
    outcome = simulator.evaluate([only])[0]
    (alone,) = create(space=ALLOY, settings={"entries": entries, "solution": SOLUTION}).evaluate(
        [alloy(0.1)]
    )
    assert outcome.values[f"gamma_{ABOVE}"] == pytest.approx(alone.values[ABOVE], abs=1e-12)


@pytest.mark.parametrize(
    ("settings", "wired_names", "message"),
    [
        ({"entries": None}, (), "entries is None"),
        ({"entry": "x"}, (), "did you mean 'entries'"),
        ({}, (), "gamma has no formation energy"),
        (
            {"solution": SOLUTION},
            (WIRED[0], "gama.formation_energy_eV_per_atom"),
            "did you mean",
        ),
        (
            {"solution": SOLUTION, "solution_phases": ["gamma"]},
            WIRED,
            r"more than one formation energy \(wired, solution\)",
        ),
        ({"solution": SOLUTION, "solution_phases": ["beta"]}, (), "unknown phase 'beta'"),
        ({"solution_phases": ["gamma"]}, (), "solution_phases without solution"),
        ({"solution": {}}, (), "source is missing"),
        ({"outputs": ["above"]}, (), "unknown output 'above'"),
        ({"formation_energies_eV_per_atom": {"gamma": "low"}}, (), "is 'low'"),
    ],
)
def test_wrong_settings_are_named(
    entries: str, settings: dict[str, Any], wired_names: tuple[str, ...], message: str
) -> None:
    with pytest.raises(InvalidCampaignError, match=message):
        create(space=SPACE, settings={"entries": entries} | settings, wired=wired_names)


def test_wrong_entries_are_named(entries: str) -> None:
    chromium = DesignSpace(phases=("alloy",), elements=("Ni", "Cr"))
    solution = SOLUTION | {"interactions": {"Ni-Cr": []}, "references": {}}
    with pytest.raises(InvalidCampaignError, match="no entry with Cr"):
        create(space=chromium, settings={"entries": entries, "solution": solution})
    with pytest.raises(InvalidInputError, match="cannot be read"):
        create(space=ALLOY, settings={"entries": "absent.csv", "solution": SOLUTION})
