"""The simulator ``atomistic``: its contract, its cache, its settings, what it refuses."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from loop.candidate import Candidate
from loop.errors import InvalidCampaignError, InvalidInputError
from loop.protocols import Simulator
from loop.space import DesignSpace
from simulators import registry
from simulators.atomistic import (
    AtomisticSimulator,
    create,
    lattice_misfit_percent,
    misfit_error,
)
from simulators.atomistic_cache import ResultCache
from simulators.atomistic_phases import Atomistics, Estimate, Sampling
from simulators.calculators import load_potential
from simulators.contract import CHECKS, Check
from simulators.relaxation import Relaxation
from simulators.structures import CubicCell


def copper(a: Atomistics) -> list[CubicCell]:
    return a.cells("fcc", np.array([1.0]), ["Cu"])


# Derived properties


def test_polycrystal_and_density_from_the_crystal() -> None:
    """Hill's average of the elastic constants; four atoms in a cube of the lattice parameter."""
    space = DesignSpace(phases=("fcc",), elements=("Cu",))
    names = ["C11_GPa", "C12_GPa", "C44_GPa", "shear_modulus_GPa", "density_g_per_cm3"]
    names.append("lattice_parameter_angstrom")
    simulator = create(space=space, settings={"outputs": [f"fcc_{name}" for name in names]})
    design = Candidate(phases=("fcc",), elements=("Cu",), phase_compositions=np.ones((1, 1)))
    (outcome,) = simulator.evaluate([design])
    c11, c12, c44, shear, density, a = (outcome.values[f"fcc_{name}"] for name in names)
    voigt = (c11 - c12 + 3 * c44) / 5
    reuss = 1 / (4 / 5 / (c11 - c12) + 3 / 5 / c44)
    assert reuss < shear < voigt
    assert shear == pytest.approx((voigt + reuss) / 2, rel=1e-12)
    assert density == pytest.approx(4 * 63.546 / 6.02214076e23 / (a * 1e-8) ** 3, rel=1e-6)


# The cache


def test_a_cache_folder_serves_the_next_process(tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    runs = []
    for _ in range(2):
        cache = ResultCache(folder)
        a = Atomistics(load_potential("emt"), Sampling(), cache)
        runs.append((a.lattice_parameter(copper(a)), cache.made, cache.found))
    assert runs[0][0] == runs[1][0]
    assert [run[1:] for run in runs] == [(1, 0), (0, 1)]


def test_other_settings_are_another_result(tmp_path: Path) -> None:
    cache = ResultCache(tmp_path)
    for sampling in (Sampling(), Sampling(relaxation=Relaxation(1e-6)), Sampling(strain=0.004)):
        a = Atomistics(load_potential("emt"), sampling, cache)
        a.elastic_constants(copper(a))
    assert cache.made == 5  # relaxed twice, strained three times


def test_a_damaged_file_is_computed_again(tmp_path: Path) -> None:
    def run() -> tuple[float, int]:
        a = Atomistics(load_potential("emt"), Sampling(), ResultCache(tmp_path))
        return a.lattice_parameter(copper(a)).mean, a.cache.made

    truth, _ = run()
    (file,) = tmp_path.rglob("*.json")
    good = file.read_text()
    for damaged in (good[:40], "", "[]", good.replace('"key": "', '"key": "0')):
        file.write_text(damaged)
        assert run() == (truth, 1)
    assert run() == (truth, 0)
    assert not list(tmp_path.rglob("*.part"))


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidInputError, match="cannot be made"):
        ResultCache(tmp_path / "file" / "cache")
    cache = ResultCache(tmp_path / "cache")
    (tmp_path / "cache").rmdir()
    assert cache.get({"a": 1}, lambda: {"b": 2}) == {"b": 2}
    assert "cannot be written" in cache.problem


def test_a_relative_folder_lies_in_the_campaigns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever the program is started; an absolute one is where it says, and the values are the
    same as without any.
    """
    campaign, elsewhere = tmp_path / "campaign", tmp_path / "elsewhere"
    for folder in (campaign, elsewhere):
        folder.mkdir()
    monkeypatch.chdir(elsewhere)
    space = DesignSpace(phases=("fcc",), elements=("Cu",))
    one = Candidate(phases=("fcc",), elements=("Cu",), phase_compositions=np.ones((1, 1)))
    found = []
    for cache in (None, "kept/atoms", str(tmp_path / "absolute"), "kept/atoms"):
        settings = {"outputs": ["fcc_lattice_parameter_angstrom"], "repeats": 1}
        if cache is not None:
            settings["cache"] = cache
        made = registry.create("atomistic", space=space, settings=settings, folder=campaign)
        assert isinstance(made, AtomisticSimulator)
        (outcome,) = made.evaluate([one])
        found.append((made.version, outcome, made.atomistics.cache.made))
    assert [computed for *_, computed in found] == [1, 1, 1, 0]
    assert all(rest[:2] == found[0][:2] for rest in found)
    for folder in (campaign / "kept" / "atoms", tmp_path / "absolute"):
        assert len(list(folder.rglob("*.json"))) == 1
    assert list(elsewhere.iterdir()) == []


def test_without_a_campaigns_folder_it_starts_where_we_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    create(space=DesignSpace(phases=("fcc",), elements=("Cu",)), settings={"cache": "atoms"})
    assert (tmp_path / "atoms").is_dir()


def test_a_campaigns_cache_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "atoms").write_text("")
    space = DesignSpace(phases=("fcc",), elements=("Cu",))
    with pytest.raises(InvalidInputError, match=r"atoms cannot be made: .*; name a folder"):
        create(space=space, settings={"cache": "atoms"}, folder=tmp_path)


def test_a_potentials_file_lies_beside_the_campaign(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pair potential between neighbours alone, least at r_0: fcc has a = √2 r_0.

    As a table in LAMMPS's format (setfl), of spacing 2.5e-3 angstrom. A text that names no file
    there is left for the calculator.
    """
    campaign, elsewhere = tmp_path / "campaign", tmp_path / "elsewhere"
    for folder in (campaign, elsewhere):
        folder.mkdir()
    monkeypatch.chdir(elsewhere)
    nearest, count, end = 2.6, 1600, 4.0
    r = np.arange(count) * end / count
    away = np.clip(np.abs(r - nearest) / (0.3 * nearest), 0, 1)
    pair = -0.5 * (1 + np.cos(np.pi * away))
    sizes = f"{count} 0.01 {count} {end / count} {end}"
    rows = np.concatenate([np.zeros(2 * count), r * pair])  # embedding, density, r times the pair's
    numbers = "\n".join(f"{x:.16e}" for x in rows)
    text = f"a\nb\nc\n1 Cu\n{sizes}\n29 63.546 3.6 fcc\n{numbers}\n"
    (campaign / "pair.eam.alloy").write_text(text)
    space = DesignSpace(phases=("fcc",), elements=("Cu",))
    one = Candidate(phases=("fcc",), elements=("Cu",), phase_compositions=np.ones((1, 1)))
    name = "fcc_lattice_parameter_angstrom"
    versions = set()
    for given in ("pair.eam.alloy", str(campaign / "pair.eam.alloy")):
        settings = {
            "calculator": "eam",
            "calculator_settings": {"potential": given, "form": "alloy"},
            "outputs": [name],
            "repeats": 1,
        }
        made = registry.create("atomistic", space=space, settings=settings, folder=campaign)
        (outcome,) = made.evaluate([one])
        assert outcome.values[name] == pytest.approx(2**0.5 * nearest, rel=1e-4)
        versions.add(made.version)
    assert len(versions) == 1  # that of the file's content
    settings["calculator_settings"] = {"potential": "other.eam.alloy"}
    with pytest.raises(InvalidInputError, match=r"'eam' cannot be made with .*other\.eam\.alloy"):
        registry.create("atomistic", space=space, settings=settings, folder=campaign)


# The simulator

PHASES = ("gamma", "gamma_prime")
SPACE = DesignSpace(phases=PHASES, elements=("Ni", "Cu", "Ag"))
ORDERED = {
    "structures": {"gamma_prime": "L1_2"},
    "minority": {"gamma_prime": ["Ag"]},
    "repeats": 1,  # cells of four atoms: enough to see what the simulator does with them
}


def design(*rows: tuple[float, ...], elements: tuple[str, ...] = SPACE.elements) -> Candidate:
    return Candidate(phases=PHASES, elements=elements, phase_compositions=np.array(rows))


@pytest.fixture(scope="module")
def simulator() -> Simulator:
    return create(space=SPACE, settings=ORDERED)


@pytest.fixture(scope="module")
def candidates() -> list[Candidate]:
    return [
        design((0.2, 0.8, 0.0), (0.75, 0.0, 0.25)),
        design((0.5, 0.5, 0.0), (0.25, 0.5, 0.25)),
        design((1.0, 0.0, 0.0), (1.0, 0.0, 0.0)),  # no silver for the corners: fails
    ]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_contract(check: Check, simulator: Simulator, candidates: list[Candidate]) -> None:
    check(simulator, candidates)


def test_outcomes_tell_cells_and_errors(simulator: Simulator, candidates: list[Candidate]) -> None:
    ok, _, failed = simulator.evaluate(candidates)
    notes = json.loads(json.dumps(dict(ok.diagnostics)))
    assert notes["calculator"].startswith("emt (ase ")
    assert notes["gamma"]["atoms_per_cell"] == 4
    assert notes["gamma"]["cells"] == 2
    assert notes["gamma_prime"]["atoms_per_cell"] == 4
    assert notes["gamma"]["largest_composition_error"] <= 1 / 8
    # One atom in four is nickel: the two cells are one by symmetry, apart from rounding.
    assert notes["misfit_standard_error_percent"] == pytest.approx(0.0, abs=1e-9)
    a_p, a_m = (ok.values[f"{p}_lattice_parameter_angstrom"] for p in PHASES[::-1])
    assert ok.values["lattice_misfit_percent"] == lattice_misfit_percent(a_p, a_m)
    assert "cautions" not in notes
    assert failed.status == "failed"
    assert "none of the elements Ag" in failed.reason


def test_errors_of_both_phases_are_in_that_of_the_misfit() -> None:
    """By differences of the misfit itself: two independent errors add in squares."""
    p, m, step = Estimate(3.58, 0.002), Estimate(3.52, 0.003), 1e-5

    def slope(i: int) -> float:
        high, low = ([p.mean, m.mean] for _ in range(2))
        high[i], low[i] = high[i] + step, low[i] - step
        return (lattice_misfit_percent(*high) - lattice_misfit_percent(*low)) / (2 * step)

    expected = math.hypot(slope(0) * 0.002, slope(1) * 0.003)
    assert misfit_error(p, m) == pytest.approx(expected, rel=1e-6)
    alone = misfit_error(Estimate(3.58, None), m)  # ordered: nothing to average
    assert alone == pytest.approx(abs(slope(1)) * 0.003, rel=1e-6)
    assert misfit_error(Estimate(3.58, None), Estimate(3.52, None)) is None


def test_elastic_outputs_are_asked_for() -> None:
    wanted = [f"gamma_{name}_GPa" for name in ("C11", "C12", "C44", "bulk_modulus")]
    space = DesignSpace(phases=("gamma",), elements=("Cu", "Ni"))
    simulator = create(space=space, settings={"outputs": wanted})
    x = np.array([[1.0, 0.0]])
    (outcome,) = simulator.evaluate(
        [Candidate(phases=("gamma",), elements=space.elements, phase_compositions=x)]
    )
    assert list(outcome.values) == wanted
    c11, c12, _, modulus = outcome.values.values()
    assert (c11 + 2 * c12) / 3 == pytest.approx(modulus, rel=0.015)


def test_wrong_signs_are_refused_or_flagged() -> None:
    space = DesignSpace(phases=PHASES, elements=("Ni", "Al"))
    ordered = {"structures": {"gamma_prime": "L1_2"}}
    with pytest.raises(InvalidCampaignError, match=r"gamma may hold Al-Ni.*wrong_signs = 'flag'"):
        create(space=space, settings=ordered)
    apart = DesignSpace(
        phases=PHASES,
        elements=("Ni", "Al"),
        bounds={"gamma": {"Al": (0, 0)}, "gamma_prime": {"Ni": (0, 0)}},
    )
    strict = create(space=apart, settings={})
    mixed = design((1.0, 0.0), (0.75, 0.25), elements=("Ni", "Al"))
    (outcome,) = strict.evaluate([mixed])
    assert outcome.status == "failed"
    assert "gamma_prime may hold Al-Ni" in outcome.reason
    flagging = create(space=space, settings={**ordered, "wrong_signs": "flag"})
    (outcome,) = flagging.evaluate([mixed])
    assert outcome.status == "ok"
    (caution,) = outcome.diagnostics["cautions"]
    assert "wrong sign of the enthalpy of mixing of Al-Ni" in caution


def test_elements_without_parameters_are_named() -> None:
    space = DesignSpace(phases=("gamma",), elements=("Ni", "Cr", "W"))
    with pytest.raises(InvalidInputError, match=r"'emt' has no parameters for Cr, W; it covers Ag"):
        create(space=space, settings={})
    simulator = create(space=DesignSpace(phases=("gamma",), elements=("Ni",)), settings={})
    (outcome,) = simulator.evaluate(
        [Candidate(phases=("gamma",), elements=("Cr",), phase_compositions=np.ones((1, 1)))]
    )
    assert "no parameters for Cr" in outcome.reason


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"calculater": "emt"}, "did you mean 'calculator'"),
        ({"calculator": "emtt"}, "unknown calculator 'emtt'; did you mean 'emt'"),
        ({"structures": {"gama": "fcc"}}, "did you mean 'gamma'"),
        ({"structures": {"gamma": "L12"}}, "structures.gamma: unknown structure 'L12'; did you"),
        ({"minority": {"gamma": ["Ag"]}}, "only L1_2 has a minority sublattice"),
        ({"repeats": 0}, "repeats is 0"),
        ({"samples": 2.5}, "samples is 2.5"),
        ({"outputs": ["gamma_C13_GPa"]}, "did you mean 'gamma_C1"),
        ({"matrix": "gamma_prime"}, "both gamma_prime"),
        ({"reference_structures": {"Ni": "hpc"}}, "did you mean 'hcp'"),
        ({"wrong_signs": "ignore"}, "wrong_signs is 'ignore'"),
        ({"calculator_settings": {"cutoff": 3}}, "unknown setting 'cutoff'"),
        ({"cache": ""}, "cache is ''"),
        ({"cache": 3}, "cache is 3"),
    ],
)
def test_bad_settings(settings: dict[str, Any], message: str) -> None:
    with pytest.raises((InvalidCampaignError, InvalidInputError), match=message):
        create(space=SPACE, settings=settings)


def test_the_version_tells_what_decides_the_values() -> None:
    space = DesignSpace(phases=("gamma",), elements=("Ni", "Cu"))
    settings: list[dict[str, Any]] = [
        {},
        {"seed": 1},
        {"samples": 3},
        {"structures": {"gamma": "bcc"}},
    ]
    versions = [create(space=space, settings=s).version for s in settings]
    assert len(set(versions)) == len(versions)
    assert create(space=space, settings={}).version == versions[0]
