"""Potentials by name: built in, of another package, ASE's own; what they cover."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk

from loop.errors import InvalidInputError
from simulators import calculators
from simulators.atomistic_phases import Atomistics, Sampling
from simulators.calculators import available, load_potential

PLUG_IN = """
from ase.calculators.lj import LennardJones


class Argon(LennardJones):
    supported_elements = ("Ar", "Ne")
    version = "7"


def create(*, settings, device):
    print("a greeting that must not reach the program's output")
    return Argon(epsilon=settings.get("epsilon", 0.0104), sigma=3.4, rc=8.5, smooth=True)


def failing(*, settings, device):
    raise RuntimeError("no licence")
"""


@pytest.fixture
def plug_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another package, installed as far as Python can tell."""
    (tmp_path / "spinodal_test_potential.py").write_text(PLUG_IN)
    metadata = tmp_path / "spinodal_test_potential-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: potential\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(
        "[spinodal.calculators]\n"
        "argon = spinodal_test_potential:create\n"
        "failing = spinodal_test_potential:failing\n"
        "broken = spinodal_test_absent:create\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))


def test_names() -> None:
    assert {"emt", "chgnet", "lj", "eam", "vasp"} <= set(available())
    with pytest.raises(InvalidInputError, match="unknown calculator 'chgnte'; did you mean 'chgn"):
        load_potential("chgnte")


def test_emt_covers_seven_metals_though_ase_has_more() -> None:
    emt = load_potential("emt")
    emt.check_elements(["Al", "Ni", "Cu", "Pd", "Ag", "Pt", "Au"])
    with pytest.raises(InvalidInputError, match="no parameters for C, H; it covers Ag, Al, Au"):
        emt.check_elements(["Ni", "H", "C"])


def test_cautions_name_every_pair() -> None:
    emt = load_potential("emt")
    assert emt.misjudged(["Ni", "Al", "Cu"]) == [("Al", "Cu"), ("Al", "Ni")]
    assert emt.misjudged(["Al"]) == []
    assert len(emt.cautions(["Ag", "Pd", "Au", "Cu"])) == 3


def test_chgnet_that_is_not_installed_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "chgnet", None)
    monkeypatch.setitem(sys.modules, "chgnet.model", None)
    with pytest.raises(InvalidInputError, match=r"not installed.*pip install 'spinodal\[mlip\]'"):
        load_potential("chgnet")
    with pytest.raises(InvalidInputError, match="unknown setting 'model'; did you mean 'model_n"):
        load_potential("chgnet", {"model": "0.3.0"})


@pytest.mark.usefixtures("plug_in")
def test_another_packages_calculator(capsys: pytest.CaptureFixture[str]) -> None:
    """Lennard-Jones argon: the fcc energy -8.6 epsilon is within the cut-off's few per cent."""
    assert "argon" in available()
    potential = load_potential("argon", {"epsilon": 0.0104})
    assert (potential.name, potential.version) == ("argon", "7")
    with pytest.raises(InvalidInputError, match="no parameters for Kr"):
        potential.check_elements(["Ar", "Kr"])
    a = Atomistics(potential, Sampling())
    cells = a.cells("fcc", np.array([1.0]), ["Ar"])
    assert a.lattice_parameter(cells).mean == pytest.approx(1.54 * 3.4, rel=0.02)
    assert capsys.readouterr().out == ""


@pytest.mark.usefixtures("plug_in")
@pytest.mark.parametrize(("name", "message"), [("failing", "no licence"), ("broken", "absent")])
def test_a_package_that_fails_is_named(name: str, message: str) -> None:
    with pytest.raises(InvalidInputError, match=rf"'{name}'.*cannot be made.*{message}"):
        load_potential(name)


def test_ases_own_calculators() -> None:
    potential = load_potential("lj", {"sigma": 3.4, "epsilon": 0.0104})
    assert potential.elements is None
    assert potential.cautions(["Ar"]) == ["calculator lj does not say which elements it covers"]
    atoms = bulk("Ar", a=5.3)
    atoms.calc = potential.fresh()
    assert atoms.get_potential_energy() < 0
    with pytest.raises(InvalidInputError, match=r"'eam' cannot be made with.*calculator_settings"):
        load_potential("eam", {"potential": "no such file"})


def test_identity_follows_settings_and_the_content_of_files(tmp_path: Path) -> None:
    file = tmp_path / "parameters"
    identities = []
    for text in ("one", "two", "one"):
        file.write_text(text)
        potential = calculators.Potential("x", "1", None, settings={"file": str(file), "n": 3})
        identities.append(potential.identity())
    assert identities[0] == identities[2] != identities[1]
    other = calculators.Potential("x", "1", None, settings={"file": str(file), "n": 4})
    assert other.identity() != identities[2]


def test_chgnets_elements() -> None:
    assert len(calculators.CHGNET_ELEMENTS) == 89
    assert {"Ni", "Al", "Cr", "Re", "Pu"} <= calculators.CHGNET_ELEMENTS
    assert not {"Rn", "Ra", "Am"} & calculators.CHGNET_ELEMENTS
