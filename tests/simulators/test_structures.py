"""Cells of random solid solutions and of L1_2: counted, and the same for the same design."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loop.errors import InvalidInputError
from simulators import structures
from simulators.structures import CubicCell, apportion, composition_of, cubic_cells


def cells(
    structure: str, x: dict[str, float], *, repeats: int = 2, samples: int = 2, seed: int = 0
) -> list[CubicCell]:
    return cubic_cells(
        structure,
        np.array(list(x.values())),
        list(x),
        repeats=repeats,
        samples=samples,
        seed=seed,
    )


def test_stoichiometric_ni3al_is_one_cube() -> None:
    (cell,) = cells("L1_2", {"Ni": 0.75, "Al": 0.25})
    assert cell.symbols == ("Al", "Ni", "Ni", "Ni")
    corner, *faces = cell.sites()
    np.testing.assert_array_equal(corner, 0)
    assert sorted(map(tuple, faces)) == [(0.0, 0.5, 0.5), (0.5, 0.0, 0.5), (0.5, 0.5, 0.0)]


def test_every_aluminium_in_ni3al_has_twelve_nickel_neighbours() -> None:
    (cell,) = cells("L1_2", {"Ni": 0.75, "Al": 0.25})
    atoms = cell.atoms(3.57).repeat(3)
    distances = atoms.get_all_distances(mic=True)
    near = np.abs(distances - 3.57 / 2**0.5) < 1e-9
    symbols = np.array(atoms.get_chemical_symbols())
    assert np.all(near.sum(1) == 12)
    assert np.all(near[symbols == "Al"][:, symbols == "Ni"].sum(1) == 12)


def test_minority_elements_take_the_corners() -> None:
    """27 cubes: the 27 corners hold Al and Ti, and of the rest 0.03 / 0.78 in proportion."""
    x = {"Ni": 0.70, "Cr": 0.08, "Al": 0.16, "Ti": 0.06}
    for cell in cells("L1_2", x, repeats=3):
        corner = np.array(cell.symbols)[0::4]
        face = np.concatenate([np.array(cell.symbols)[i::4] for i in (1, 2, 3)])
        assert len(corner) == 27
        assert set(face) == {"Ni", "Cr"}
        assert np.isin(corner, ["Al", "Ti"]).sum() in (23, 24)  # 0.22 / 0.25 of 27


def test_too_many_minority_atoms_go_to_the_faces() -> None:
    shares = structures.sublattices("L1_2", np.array([0.6, 0.4]), ["Ni", "Al"], ["Al"])
    np.testing.assert_allclose(shares, [[0.8, 0.2], [0.0, 1.0]], atol=1e-12)
    overall = 0.75 * shares[0] + 0.25 * shares[1]
    np.testing.assert_allclose(overall, [0.6, 0.4], atol=1e-12)


@given(
    st.lists(st.floats(0.0, 1.0), min_size=2, max_size=6).filter(lambda v: sum(v) > 0.1),
    st.integers(0, 1000),
)
def test_sublattices_add_up_to_the_composition(parts: list[float], seed: int) -> None:
    x = np.array(parts) / sum(parts)
    elements = ["Al", "Co", "Cr", "Ni", "Ti", "W"][: len(x)]
    minority = [e for i, e in enumerate(elements) if (seed >> i) & 1] or ["Al"]
    if x[np.isin(elements, minority)].sum() <= 1e-9:
        return
    shares = structures.sublattices("L1_2", x, elements, minority)
    np.testing.assert_allclose(0.75 * shares[0] + 0.25 * shares[1], x, atol=1e-9)
    assert np.all(shares >= 0)


@given(st.lists(st.floats(0, 50), min_size=1, max_size=8), st.integers(1, 500))
def test_apportion_gives_whole_numbers_nearest_to_the_quotas(
    amounts: list[float], total: int
) -> None:
    if sum(amounts) < 1e-3:
        amounts = [1.0, *amounts]
    wanted = np.array(amounts) / sum(amounts) * total
    counts = apportion(wanted, total)
    assert counts.sum() == total
    assert np.all(np.abs(counts - wanted) < 1 + 1e-9)  # quota rule of largest remainders


@given(
    st.lists(st.floats(0.0, 1.0), min_size=2, max_size=5).filter(lambda v: sum(v) > 0.1),
    st.integers(1, 6),
)
def test_cells_share_the_rounding(parts: list[float], samples: int) -> None:
    """What is carried from cell to cell stays below e atoms, whatever the number of cells."""
    x = np.array(parts) / sum(parts)
    elements = ["Ag", "Cu", "Ni", "Pd", "Pt"][: len(x)]
    found = cells("fcc", dict(zip(elements, x, strict=True)), samples=samples)
    if len(found[0].symbols) == 4:
        return  # a pure element
    off = np.abs(composition_of(found, elements) - x).max()
    assert off <= (len(x) - 1) / (32 * samples) + 1e-9


def test_more_cells_come_nearer_to_a_dilute_composition() -> None:
    x = {"Ni": 0.99, "W": 0.01}
    one, many = (composition_of(cells("fcc", x, samples=n), list(x))[1] for n in (1, 25))
    assert one == 0.0  # 0.32 atoms in 32
    assert many == pytest.approx(0.01, abs=1 / (32 * 25))


def test_the_order_of_the_elements_does_not_matter() -> None:
    x = {"Ni": 0.5, "Cu": 0.3, "Ag": 0.2}
    first = cells("fcc", x, seed=4)
    for names in itertools.permutations(x):
        assert cells("fcc", {name: x[name] for name in names}, seed=4) == first


def test_seeds_and_samples_differ() -> None:
    x = {"Ni": 0.5, "Cu": 0.5}
    a, b = cells("fcc", x)
    assert a != b
    assert cells("fcc", x, seed=1)[0] != a


def test_shuffled_sites_are_random() -> None:
    """Nearest neighbours of a kind in 50:50: 1/2 on average; 200 cells of 192 pairs."""
    x = {"Ni": 0.5, "Cu": 0.5}
    atoms = cells("fcc", x)[0].atoms(3.6)
    near = np.abs(atoms.get_all_distances(mic=True) - 3.6 / 2**0.5) < 1e-6
    i, j = np.nonzero(np.triu(near))
    alike = [
        np.mean(np.array(cell.symbols)[i] == np.array(cell.symbols)[j])
        for cell in cells("fcc", x, samples=200)
    ]
    # 16 of 32: two given sites are alike with probability 15/31. Pairs are nearly independent, so
    # the mean's standard deviation is about 0.5 / sqrt(192 * 200); five of them.
    assert np.mean(alike) == pytest.approx(15 / 31, abs=5 * 0.5 / np.sqrt(192 * 200))


@pytest.mark.parametrize(
    ("structure", "atoms", "neighbours"), [("fcc", 4, 12), ("bcc", 2, 8), ("L1_2", 4, 12)]
)
def test_lattices(structure: str, atoms: int, neighbours: int) -> None:
    cell = CubicCell(structure, 3, ("Cu",) * (27 * atoms))
    distances = cell.atoms(3.0).get_all_distances(mic=True)
    nearest = structures.NEAREST[structure] * 3.0
    assert np.all((np.abs(distances - nearest) < 1e-9).sum(1) == neighbours)
    assert np.all((distances > nearest - 1e-9) | (distances == 0))
    assert cell.lattice_parameter(27 * 3.0**3) == pytest.approx(3.0)


@pytest.mark.parametrize("symbol", ["Ni", "Al", "Cr", "Co", "Ti", "W", "Re", "Si"])
def test_references_have_their_own_structure(symbol: str) -> None:
    atoms = structures.reference_atoms(symbol)
    assert set(atoms.get_chemical_symbols()) == {symbol}
    assert 5 < atoms.get_volume() / len(atoms) < 30


def test_an_element_without_simple_structure_is_named() -> None:
    with pytest.raises(InvalidInputError, match=r"reference of Mn is .*reference_structures\.Mn"):
        structures.reference_atoms("Mn")
    assert len(structures.reference_atoms("Mn", "bcc")) == 1


def test_bad_structures() -> None:
    with pytest.raises(InvalidInputError, match="did you mean 'fcc'"):
        cells("FCC", {"Ni": 1.0})
    with pytest.raises(InvalidInputError, match="L1_2 with Cu, Ni has none of the elements Al"):
        cells("L1_2", {"Cu": 0.5, "Ni": 0.5})
