"""Heat treatments end to end, and how a proposed image is compared with them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from loop.errors import InvalidInputError
from simulators.annealing import Material, anneal
from simulators.free_energy import DarkenMobility, SolutionEnergy, darken_mobility
from simulators.phase_field import evolve
from simulators.realisability import realisability, two_point_distance
from simulators.solution import GAS_CONSTANT, Solution
from tests.simulators.test_thermodynamics import SILVER_COPPER

# Gradient energy about L a^2; tracer diffusivities like those of the pure metals.
ALLOY = Material(SILVER_COPPER, 2.3e-15, {"Ag": (4.5e-5, 182e3), "Cu": (1.2e-4, 193e3)})
SPACING = 0.3e-9


def seconds(temperature: float, units: float) -> float:
    """Time in which the faster element diffuses over ``units`` squared pixels."""
    return units * SPACING**2 / float(ALLOY.diffusivities([temperature]).max())


def test_diffusivities_are_arrhenius() -> None:
    d = ALLOY.diffusivities([900.0])
    expected = [4.5e-5 * np.exp(-182e3 / (GAS_CONSTANT * 900)),
                1.2e-4 * np.exp(-193e3 / (GAS_CONSTANT * 900))]  # fmt: skip
    np.testing.assert_allclose(d, [expected], rtol=1e-14)


def test_process_to_microstructure() -> None:
    """Phases of the binodal, in the lever rule's amounts, coarser after longer."""
    times = [seconds(850.0, 100), seconds(850.0, 800)]
    found = anneal(
        ALLOY,
        [[0.6, 0.4], [0.6, 0.4]],
        850.0,
        times,
        shape=(64, 64),
        spacing_m=SPACING,
        seeds=[0, 0],
        tolerance=0.05,
        dtype=torch.float32,
    )
    assert found.finished.all()
    assert set(np.unique(found.labels)) == {0, 1}
    np.testing.assert_allclose(found.fractions.sum(1), 1, atol=1e-6)
    np.testing.assert_allclose(found.fractions.mean((2, 3)), [[0.6, 0.4]] * 2, atol=1e-6)
    copper = found.fractions[1, 1]
    # Label 0 is the phase rich in the first element. Interfaces are not thin here: they and
    # capillarity (0.03 at domains of 3 nm) account for the differences.
    for label, phase in enumerate(found.rest[1].compositions):
        assert np.median(copper[found.labels[1] == label]) == pytest.approx(phase[1], abs=0.04)
    assert found.labels[1].mean() == pytest.approx(found.rest[1].fractions[1], abs=0.03)
    edges = [(np.diff(image, axis=1) != 0).sum() for image in found.labels]
    assert edges[1] < 0.8 * edges[0]
    assert found.rest[1].energy < found.energies[1] < found.energies[0]
    assert found.energies[0] < SILVER_COPPER.gibbs_energy([0.6, 0.4], 850.0)


def test_units_are_those_stated() -> None:
    """The same run in SI units straight through ``evolve``, energies in J/mol."""
    t = 850.0
    duration = seconds(t, 10)
    found = anneal(
        ALLOY, [[0.6, 0.4]], [t], [duration], shape=(32, 32), spacing_m=SPACING, seeds=[3]
    )
    noise = np.random.default_rng(3).standard_normal((1, 1, 32, 32)) * 0.005
    start = 0.4 + noise - noise.mean()
    direct = evolve(
        start,
        SolutionEnergy(SILVER_COPPER, [t], unit_J_per_mol=1.0),
        times=[duration],
        gradient=2.3e-15,
        mobility=DarkenMobility(ALLOY.diffusivities([t]) / (GAS_CONSTANT * t)),
        spacing=SPACING,
    )
    np.testing.assert_allclose(found.fractions[0, 1], direct.fields[0, 0, 0], atol=1e-6)
    assert found.energies[0] == pytest.approx(direct.energies[0, 0], rel=1e-9)


def test_above_the_gap_nothing_happens() -> None:
    found = anneal(
        ALLOY,
        [[0.6, 0.4]],
        1500.0,
        seconds(1500.0, 50),
        shape=(16, 16),
        spacing_m=SPACING,
        seeds=[0],
    )
    assert found.labels.max() == 0
    assert np.ptp(found.fractions[0, 1]) < 0.005
    assert len(found.rest[0].fractions) == 1


def test_uniform_mobility_is_the_cheaper_choice() -> None:
    """Equal while the waves are small: mobilities differ by the waves' own size."""
    fields = [
        anneal(
            ALLOY,
            [[0.6, 0.4]],
            850.0,
            seconds(850.0, 5),
            shape=(16, 16),
            spacing_m=SPACING,
            seeds=[0],
            local_mobility=local,
            fluctuation=1e-4,
        ).fractions
        for local in (True, False)
    ]
    np.testing.assert_allclose(fields[0] - 0.6, fields[1] - 0.6, atol=2e-6)


def test_ternary_unmixes_into_the_phases_of_its_equilibrium() -> None:
    rt = GAS_CONSTANT * 1000.0
    solution = Solution(
        ("A", "B", "C"),
        dict.fromkeys((("A", "B"), ("A", "C"), ("B", "C")), ((3.6 * rt, 0.0),)),
    )
    alloy = Material(
        solution, np.array([[2.0, 1.0], [1.0, 2.0]]) * rt * 2e-18,
        dict.fromkeys("ABC", (1e-5, 150e3)),
    )  # fmt: skip
    fastest = float(alloy.diffusivities([1000.0]).max())
    found = anneal(
        alloy,
        [[0.34, 0.33, 0.33]],
        1000.0,
        2000 * 1e-18 / fastest,
        shape=(32, 32),
        spacing_m=1e-9,
        seeds=[1],
        tolerance=0.05,
    )
    assert len(found.rest[0].fractions) == 3
    assert set(np.unique(found.labels)) == {0, 1, 2}
    for label in range(3):
        inside = found.fractions[0][:, found.labels[0] == label]
        assert inside.mean(1).argmax() == found.rest[0].compositions[label].argmax()


def test_four_elements_unmix_along_their_tie_line() -> None:
    """Ag-Cu-Ni-Pd: every element kept, the energy falling to above its least, phases near rest.

    Interaction parameters of the size that assessments give; what is checked is the arithmetic.
    Domains are four interfaces wide: the phases are still on their way along the tie-line.
    """
    elements = ("Ag", "Cu", "Ni", "Pd")
    solution = Solution(
        elements,
        {
            ("Ag", "Cu"): ((34e3, -8.0),),
            ("Ag", "Ni"): ((60e3, 0.0),),
            ("Cu", "Ni"): ((10e3, 0.0),),
            ("Ag", "Pd"): ((-5e3, 0.0),),
            ("Cu", "Pd"): ((-15e3, 0.0),),
        },
    )
    stiff = 2e-15 * (np.eye(3) + 1)
    diffusion = {"Ag": (4.5e-5, 182e3), "Cu": (1.2e-4, 193e3), "Ni": (1e-4, 200e3),
                 "Pd": (1e-4, 200e3)}  # fmt: skip
    alloy = Material(solution, stiff, diffusion)
    t, spacing, x = 1000.0, 0.35e-9, np.array([0.5, 0.38, 0.06, 0.06])
    times = np.array([40.0, 200.0]) * spacing**2 / float(alloy.diffusivities([t]).max())
    found = anneal(
        alloy,
        [x, x],
        t,
        times,
        shape=(32, 32),
        spacing_m=spacing,
        seeds=[1, 1],
        tolerance=0.1,
        dtype=torch.float32,
    )
    assert found.finished.all()
    np.testing.assert_allclose(found.fractions.mean((2, 3)), [x, x], atol=1e-6)
    rest = found.rest[0]
    assert rest.energy < found.energies[1] < found.energies[0] < solution.gibbs_energy(x, t)
    assert len(rest.fractions) == 2
    assert set(np.unique(found.labels[1])) == {0, 1}
    line = rest.compositions[1] - rest.compositions[0]
    for label in range(2):
        inside = np.median(found.fractions[1][:, found.labels[1] == label], axis=1)
        away = inside - rest.compositions[0]
        along = float(away @ line / (line @ line))
        assert along == pytest.approx(label, abs=0.15)
        assert np.abs(away - along * line).max() < 0.03
    assert found.labels[1].mean() == pytest.approx(rest.fractions[1], abs=0.05)


def test_batch_equals_singles_and_seeds_matter() -> None:
    compositions = np.array([[0.6, 0.4], [0.5, 0.5], [0.6, 0.4]])
    temperatures = np.array([850.0, 900.0, 850.0])
    times = np.array([seconds(850.0, 30), seconds(900.0, 10), seconds(850.0, 30)])

    def run(rows: list[int]) -> np.ndarray:
        return anneal(
            ALLOY,
            compositions[rows],
            temperatures[rows],
            times[rows],
            shape=(16, 16),
            spacing_m=SPACING,
            seeds=[10 + i for i in rows],
        ).fractions

    batch = run([0, 1, 2])
    for i in range(3):
        np.testing.assert_array_equal(run([i])[0], batch[i])
    assert np.abs(batch[0] - batch[2]).max() > 0.02


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"spacing_m": 2e-9}, "waves that grow fastest .* take a spacing of"),
        ({"compositions": [[0.5, 0.6]]}, "does not sum to 1"),
        ({"temperature_K": -1.0}, "temperature -1 K"),
        ({"temperature_K": [900.0, 900.0]}, r"expected a number or \(1,\)"),
        ({"time_s": 0.0}, "expected finite values > 0"),
        ({"seeds": [1, 2]}, "expected 1 seeds"),
        ({"shape": (2, 2)}, "at least 4 x 4"),
    ],
)
def test_wrong_input_is_named(change: dict[str, object], message: str) -> None:
    given: dict[str, object] = {
        "compositions": [[0.6, 0.4]],
        "temperature_K": 850.0,
        "time_s": 1.0,
        "shape": (16, 16),
        "spacing_m": SPACING,
        "seeds": [0],
    }
    with pytest.raises(InvalidInputError, match=message):
        anneal(ALLOY, **(given | change))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("diffusion", "message"),
    [
        ({"Ag": (1e-5, 1e5)}, "diffusion data of Cu are missing"),
        ({"Ag": (1e-5, 1e5), "Cu": (0.0, 1e5)}, "expected D0 > 0"),
        ({"Ag": (1e-5, 1e5), "Cu": (1e-5, 1e5), "Au": (1e-5, 1e5)}, "unknown element 'Au'"),
    ],
)
def test_wrong_material_is_named(diffusion: dict[str, tuple[float, float]], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        Material(SILVER_COPPER, 2e-15, diffusion)


# Realisability


def stripes(width: int, n: int = 48) -> np.ndarray:
    return np.broadcast_to(np.arange(n) // width % 2, (n, n)).astype(np.uint8)


def test_distance_of_two_point_statistics() -> None:
    a, b = stripes(4)[None], stripes(8)[None]
    assert two_point_distance(a, a, 2) == 0
    assert two_point_distance(a, b, 2) == two_point_distance(b, a, 2) > 0.02
    # All of one phase against all of the other: S2 differs by 1 at every lag, for both.
    blank = np.zeros((1, 16, 16), dtype=np.uint8)
    assert two_point_distance(blank, 1 - blank, 2) == pytest.approx(1.0)
    # Uncorrelated pixels of fraction f against none: the other's curves are f at 0 and f^2 beyond.
    speckle = (np.random.default_rng(0).random((20, 48, 48)) < 0.3).astype(np.uint8)
    none = np.zeros((1, 48, 48), dtype=np.uint8)
    lags = 25
    squares = 0.3**2 + 0.3**4 * (lags - 1) + 0.3**2 + (1 - 0.49) ** 2 * (lags - 1)
    expected = np.sqrt(squares / (2 * lags))
    assert two_point_distance(speckle, none, 2) == pytest.approx(expected, rel=0.02)


def test_what_the_process_gives_is_realisable() -> None:
    """An image of the process scores its scatter; another scale or fraction scores far more."""
    n = 7
    found = anneal(
        ALLOY,
        [[0.6, 0.4]] * n,
        850.0,
        seconds(850.0, 100),
        shape=(48, 48),
        spacing_m=SPACING,
        seeds=range(n),
        tolerance=0.05,
        dtype=torch.float32,
    ).labels
    own = realisability(found[0], found[1:], 2)
    assert own.distance < 2 * own.scatter
    assert realisability(stripes(12), found[1:], 2).distance > 3 * own.scatter
    assert realisability(1 - found[0], found[1:], 2).distance > 3 * own.scatter


@pytest.mark.parametrize(
    ("proposed", "recreated", "message"),
    [
        (np.zeros((8, 8), dtype=int), np.zeros((1, 8, 8), dtype=int), "k of at least 2"),
        (np.zeros((8, 8), dtype=int), np.zeros((2, 9, 8), dtype=int), "one image size"),
        (np.full((8, 8), 2), np.zeros((2, 8, 8), dtype=int), "expected 0 to 1"),
        (np.zeros((8, 8)), np.zeros((2, 8, 8), dtype=int), "expected integer"),
    ],
)
def test_wrong_images_are_named(proposed: np.ndarray, recreated: np.ndarray, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        realisability(proposed, recreated, 2)


def test_mobility_of_the_mean_is_darkens() -> None:
    d = ALLOY.diffusivities([850.0])
    m = darken_mobility([0.6, 0.4], d[0])[0, 0]
    assert m == pytest.approx(0.6 * 0.4 * (0.6 * d[0, 1] + 0.4 * d[0, 0]), rel=1e-12)
