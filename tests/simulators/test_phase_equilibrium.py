"""``phase-equilibrium``: closed forms, the contract, the database's tie-line, wrong settings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from loop.candidate import Candidate
from loop.errors import InvalidCampaignError, InvalidInputError
from loop.space import DesignSpace
from simulators import verification_thermodynamics
from simulators.contract import CHECKS, Check
from simulators.phase_equilibrium import PhaseEquilibrium, create
from simulators.phase_equilibrium_settings import FRACTION, MISMATCH, MISSING
from simulators.thermodynamics import equilibrium
from simulators.verification_thermodynamics import gap_temperature
from tests.simulators.test_calphad import NICKEL_ALUMINIUM
from tests.simulators.test_thermodynamics import SILVER_COPPER

PHASES = ("silver", "copper")
SPACE = DesignSpace(
    phases=PHASES,
    elements=("Ag", "Cu"),
    image_shape=(4, 4),
    process={"temperature_K": (600.0, 1050.0)},
)
TABLE: dict[str, Any] = {
    "source": "Hayes et al. 1986",
    "interactions": {"Ag-Cu": [[36061.88, -10.44288], [-4310.12, 0]]},
}
ALLOY = DesignSpace(
    phases=("gamma", "gamma_prime"), elements=("Ni", "Al", "Cr"), image_shape=(4, 4)
)
BINARY = DesignSpace(phases=("gamma", "gamma_prime"), elements=("Ni", "Al"), image_shape=(4, 4))
NAMES = {"gamma": "FCC_A1", "gamma_prime": "FCC_L12"}
TDB: dict[str, Any] = {
    "database": str(NICKEL_ALUMINIUM),
    "phases": NAMES,
    "temperature_K": 1273.0,
}
# Ends of the tie-line at 1273 K, x of Al, as in test_calphad by common tangents.
GAMMA, PRIME = 0.156015, 0.228909


def image(fraction: float) -> NDArray[np.uint8]:
    labels = np.zeros(16, dtype=np.uint8)
    labels[: round(16 * fraction)] = 1
    return labels.reshape(4, 4)


def candidate(
    x: list[float], space: DesignSpace = SPACE, fraction: float = 0.25, t: float | None = 900.0
) -> Candidate:
    """A binary whose phases hold x of the second element."""
    second = np.array(x)
    return Candidate(
        phases=space.phases,
        elements=space.elements,
        microstructure=image(fraction) if space.image_shape else None,
        phase_compositions=np.stack((1 - second, second), axis=1),
        process={} if t is None else {"temperature_K": t},
    )


@pytest.fixture
def database() -> PhaseEquilibrium:
    pytest.importorskip("pycalphad")
    return create(space=BINARY, settings=TDB)


def test_closed_forms_hold() -> None:
    assert all(case.passed for case in verification_thermodynamics.cases())


def test_equilibrium_itself_has_no_mismatch() -> None:
    simulator = create(space=SPACE, settings={"solution": TABLE})
    for t in (700.0, 900.0, 1040.0):
        rest = equilibrium(SILVER_COPPER, [0.6, 0.4], t)
        outcome = simulator.evaluate([candidate(list(rest.compositions[:, 1]), t=t)])[0]
        assert outcome.values[MISMATCH] < 1e-9
        assert outcome.values[MISSING] == 0
        assert outcome.values[FRACTION.format(phase="copper")] == pytest.approx(0.25, abs=1e-9)
        assert outcome.values[FRACTION.format(phase="silver")] == pytest.approx(0.75, abs=1e-9)
        assert outcome.diagnostics["temperature_K"] == t
        assert len(outcome.diagnostics["equilibrium"]) == 2


def test_phases_are_told_apart_by_their_composition() -> None:
    """The copper-rich phase is matched to "copper" whichever stands first."""
    turned = DesignSpace(phases=PHASES[::-1], elements=("Ag", "Cu"), image_shape=(4, 4))
    settings = {"solution": TABLE, "temperature_K": 900.0}
    forth = create(space=SPACE, settings=settings).evaluate([candidate([0.1, 0.9])])[0]
    back = create(space=turned, settings=settings).evaluate(
        [candidate([0.9, 0.1], turned, fraction=0.75)]
    )[0]
    assert forth.values == pytest.approx(dict(back.values))


def test_a_mixture_where_it_is_one_phase() -> None:
    """z = 0.02 + 0.25 (0.06 - 0.02) = 0.03 mixes at 1040 K: both are 0.03 and 0.01 off."""
    simulator = create(space=SPACE, settings={"solution": TABLE})
    outcome = simulator.evaluate([candidate([0.02, 0.06], t=1040.0)])[0]
    assert outcome.values[MISMATCH] == pytest.approx(0.03)
    assert outcome.values[MISSING] == 1
    assert outcome.values[FRACTION.format(phase="silver")] == 1
    assert outcome.values[FRACTION.format(phase="copper")] == 0


def test_tie_line_of_the_database(database: PhaseEquilibrium) -> None:
    exact, off = database.evaluate(
        [candidate([GAMMA, PRIME], BINARY), candidate([GAMMA - 0.02, PRIME + 0.01], BINARY)]
    )
    assert exact.values[MISMATCH] < 2e-6
    assert exact.values[MISSING] == 0
    assert exact.values["gamma_prime_equilibrium_fraction"] == pytest.approx(0.25, abs=1e-4)
    assert off.values[MISMATCH] == pytest.approx(0.02, abs=2e-6)
    z = 0.75 * (GAMMA - 0.02) + 0.25 * (PRIME + 0.01)
    share = (z - GAMMA) / (PRIME - GAMMA)
    assert off.values["gamma_prime_equilibrium_fraction"] == pytest.approx(max(share, 0), abs=1e-4)


def test_other_phases_may_form_or_not(database: PhaseEquilibrium) -> None:
    """At x_Al = 0.4 the whole database has BCC_B2 alone, the two phases asked for have L1_2."""
    rich = candidate([0.35, 0.41], BINARY, fraction=0.75)
    free = database.evaluate([rich])[0]
    assert [found["phase"] for found in free.diagnostics["equilibrium"]] == ["BCC_B2"]
    assert free.values[MISSING] == 3
    assert free.values["gamma_prime_equilibrium_fraction"] == 0
    alone = create(space=BINARY, settings=TDB | {"may_form": []})
    held = alone.evaluate([rich])[0]
    assert [found["phase"] for found in held.diagnostics["equilibrium"]] == ["FCC_L12"]
    assert held.values[MISSING] == 1
    assert alone.version != database.version


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_contract_of_a_solution(check: Check) -> None:
    """One has a phase that is not in its image, one has no temperature."""
    candidates = [
        candidate([0.05, 0.9]),
        candidate([0.1, 0.95], t=800.0),
        candidate([0.2, 0.7], fraction=0.0),
        candidate([0.01, 0.9], t=None),
    ]
    simulator = create(space=SPACE, settings={"solution": TABLE})
    check(simulator, candidates)
    assert [o.status for o in simulator.evaluate(candidates)] == ["ok", "ok", "failed", "failed"]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_contract_of_a_database(check: Check, database: PhaseEquilibrium) -> None:
    check(database, [candidate([x, x + 0.1], BINARY) for x in (0.05, 0.12, 0.2, 0.3)])


def test_reasons() -> None:
    simulator = create(space=SPACE, settings={"solution": TABLE})
    for given, reason in (
        (candidate([0.2, 0.7], fraction=1.0), "silver is absent from the image"),
        (candidate([0.2, 0.7], t=None), "no process variable temperature_K"),
        (candidate([0.2, 0.7], BINARY), "expected silver, copper of Ag, Cu"),
        (Candidate(phases=PHASES, elements=("Ag", "Cu"), microstructure=image(0.5)), "no phase co"),
    ):
        outcome = simulator.evaluate([given])[0]
        assert outcome.status == "failed"
        assert reason in outcome.reason


def test_version_tells_settings_and_content(tmp_path: Path) -> None:
    path = tmp_path / "agcu.toml"

    def version(interaction: float, **more: Any) -> str:
        path.write_text(
            f"""source = "x"
            [interactions]
            Ag-Cu = [[{interaction}, 0]]
            Ag-Ni = [[1, 0]]"""
        )
        return create(space=SPACE, settings={"solution": str(path)} | more).version

    versions = [
        version(30_000.0),
        version(30_001.0),
        version(30_000.0, temperature_K=900.0),
        version(30_000.0, temperature_K=901.0),
        version(30_000.0, outputs=[MISMATCH]),
    ]
    assert len(set(versions)) == len(versions)
    assert version(30_000.0) == versions[0]


def test_version_of_a_database_tells_its_content(
    tmp_path: Path, database: PhaseEquilibrium
) -> None:
    copy = tmp_path / "moved.tdb"
    copy.write_bytes(NICKEL_ALUMINIUM.read_bytes())
    assert create(space=BINARY, settings=TDB | {"database": str(copy)}).version == database.version
    copy.write_text(NICKEL_ALUMINIUM.read_text().replace("-162407.75", "-162407.76"))
    assert create(space=BINARY, settings=TDB | {"database": str(copy)}).version != database.version


def test_diagnostics_are_plain() -> None:
    simulator = create(space=SPACE, settings={"solution": TABLE, "outputs": [MISMATCH]})
    outcome = simulator.evaluate([candidate([0.05, 0.9])])[0]
    assert set(outcome.values) == {MISMATCH}
    assert simulator.limits == {MISMATCH: (0.0, 1.0)}
    assert "equilibrium" in json.loads(json.dumps(dict(outcome.diagnostics)))


def test_one_phase_needs_no_image() -> None:
    space = DesignSpace(phases=("alloy",), elements=("Ag", "Cu"))
    simulator = create(
        space=space, settings={"solution": TABLE, "temperature_K": gap_temperature(0.1)}
    )
    outcome = simulator.evaluate([candidate([0.4], space)])[0]
    assert outcome.values[MISSING] == 1


SOLUTION: dict[str, Any] = {"solution": TABLE}


@pytest.mark.parametrize(
    ("space", "settings", "message"),
    [
        (SPACE, {}, "expected one of solution .* and database"),
        (SPACE, SOLUTION | {"database": "x.tdb"}, "expected one of solution"),
        (SPACE, SOLUTION | {"temprature_K": 1.0}, "did you mean 'temperature_K'"),
        (SPACE, SOLUTION | {"temperature_K": 0.0}, "temperature_K is 0.0"),
        (SPACE, SOLUTION | {"temperature_K": "900"}, "temperature_K is '900'"),
        (SPACE, SOLUTION | {"temperature": "aging_K"}, "'aging_K' is none"),
        (SPACE, SOLUTION | {"temperature_K": 9.0, "temperature": "temperature_K"}, "keep one"),
        (BINARY, SOLUTION, "no temperature; give temperature_K"),
        (SPACE, SOLUTION | {"may_form": ["LIQUID"]}, "may_form goes with database"),
        (SPACE, SOLUTION | {"outputs": ["mismatch"]}, "unknown output 'mismatch'"),
        (SPACE, {"solution": {"interactions": {}}}, "source is missing"),
        (SPACE, {"solution": TABLE | {"interactions": {}}}, "Ag-Cu is missing"),
        (SPACE, {"solution": TABLE | {"interactions": {"AgCu": []}}}, "as in 'Ag-Cu'"),
        (SPACE, {"solution": TABLE | {"interactions": {"Ag-Cv": []}}}, "did you mean 'Cu'"),
        (SPACE, {"solution": TABLE | {"interactions": {"Ag-Cu": [[1.0]]}}}, r"expected \[a, b\]"),
        (SPACE, {"solution": TABLE | {"intractions": {}}}, "did you mean 'interactions'"),
        (SPACE, {"solution": "absent.toml"}, "cannot be read"),
        (DesignSpace(phases=PHASES, image_shape=(4, 4)), SOLUTION, "has no elements"),
        (DesignSpace(phases=PHASES, elements=("Ag", "Cu")), SOLUTION, "amounts are unknown"),
        (
            DesignSpace(phases=("a",), elements=("Ag", "Cu"), process={"temperature_K": (0, 9)}),
            SOLUTION,
            "goes down to 0 K",
        ),
        (BINARY, TDB | {"phases": {}}, "phases.gamma is missing"),
        (BINARY, TDB | {"phases": NAMES | {"beta": "BCC_B2"}}, "unknown phase 'beta'"),
    ],
)
def test_wrong_settings_are_named(
    space: DesignSpace, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidCampaignError, match=message):
        create(space=space, settings=settings)


def test_what_the_database_lacks_is_named() -> None:
    pytest.importorskip("pycalphad")
    with pytest.raises(InvalidInputError, match="unknown element 'Cr'; known: Al, Ni"):
        create(space=ALLOY, settings=TDB)
    with pytest.raises(InvalidCampaignError, match=r"unknown phase of .* 'FCC'"):
        create(space=BINARY, settings=TDB | {"phases": NAMES | {"gamma": "FCC"}})
    with pytest.raises(InvalidInputError, match="unknown phase 'SIGMA'"):
        create(space=BINARY, settings=TDB | {"may_form": ["SIGMA"]})
    with pytest.raises(InvalidInputError, match="cannot be read"):
        create(space=BINARY, settings=TDB | {"database": "absent.tdb"})
