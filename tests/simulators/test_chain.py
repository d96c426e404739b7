"""``composite-chain``: values, bounds, what fails and how, settings."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from loop.candidate import Candidate, Outcome
from loop.errors import InvalidCampaignError, InvalidInputError
from loop.space import DesignSpace
from simulators import elemental
from simulators.conductivity import effective_conductivity
from simulators.elasticity import effective_stiffness, youngs_modulus
from simulators.exact import laminate_conductivity
from simulators.registry import create
from tests.simulators.conftest import ImageMaker
from tests.simulators.designs import (
    COMPOSITE,
    ELEMENTS,
    MIDDLE,
    ORDERED,
    PHASES,
    composite,
    composites,
    superalloy,
    superalloys,
)

ROOT = Path(__file__).resolve().parents[2]


def chain(space: DesignSpace, **settings: Any) -> Any:
    return create("composite-chain", space=space, settings=settings)


def striped(n: int = 16) -> np.ndarray:
    image = np.zeros((n, n), dtype=np.uint8)
    image[:, : n // 4] = 1
    return image


def test_outputs_carry_units() -> None:
    assert dict(chain(superalloy()).outputs) == {
        "youngs_modulus_GPa": "GPa",
        "thermal_conductivity_W_per_mK": "W/(m K)",
        "density_g_per_cm3": "g/cm3",
        "material_cost_USD_per_kg": "USD/kg",
        "conductivity_ratio": "1",
        "gamma_prime_fraction": "1",
        "precipitate_chord_length_px": "px",
        "interface_density_per_px": "1/px",
    }


def test_a_laminate_by_hand() -> None:
    simulator = chain(composite(), phase_properties=COMPOSITE, tolerance=1e-12)
    values = simulator.evaluate(composites(striped()[None]))[0].values
    across, along = laminate_conductivity([0.75, 0.25], [0.2, 12.0])
    assert values["thermal_conductivity_W_per_mK"] == pytest.approx(
        0.5 * (across + along), rel=1e-9
    )
    assert values["conductivity_ratio"] == pytest.approx(across / along, rel=1e-9)
    assert values["density_g_per_cm3"] == pytest.approx(0.75 * 1.2 + 0.25 * 1.8, rel=1e-12)
    mass = 0.25 * 1.8 / 1.35
    assert values["material_cost_USD_per_kg"] == pytest.approx(
        4 * (1 - mass) + 25 * mass, rel=1e-12
    )
    assert values["fibre_fraction"] == 0.25
    assert values["precipitate_chord_length_px"] == 8  # 4 px across, endless along: 2 x 4
    assert values["interface_density_per_px"] == 2 / 16


def test_turning_the_image_inverts_the_ratio() -> None:
    simulator = chain(composite(), phase_properties=COMPOSITE, tolerance=1e-12)
    image = striped()
    straight, turned = simulator.evaluate(composites(np.stack([image, np.rot90(image)])))
    ratio = straight.values["conductivity_ratio"]
    assert ratio < 0.2
    assert turned.values["conductivity_ratio"] == pytest.approx(1 / ratio, rel=1e-9)
    for name in set(straight.values) - {"conductivity_ratio"}:
        assert turned.values[name] == pytest.approx(straight.values[name], rel=1e-9)


def test_composition_and_image_together(random_images: ImageMaker) -> None:
    """The chain is its links: elemental rules, then homogenisation."""
    images = random_images(3, (24, 24))
    candidates = superalloys(images)
    outcomes = chain(superalloy(), **ORDERED).evaluate(candidates)
    table = elemental.element_table(ELEMENTS)
    for image, candidate, outcome in zip(images, candidates, outcomes, strict=True):
        x = candidate.phase_compositions
        assert x is not None
        k = effective_conductivity(image[None], elemental.thermal_conductivity(x, table, [0, 0.8]))
        c = effective_stiffness(image[None], *elemental.elastic_moduli(x, table))
        fractions = candidate.phase_fractions()
        values = outcome.values
        assert values["thermal_conductivity_W_per_mK"] == 0.5 * (k.xx[0] + k.yy[0])
        assert values["youngs_modulus_GPa"] == c.youngs[0].mean()
        assert values["gamma_prime_fraction"] == fractions[1]
        assert values["density_g_per_cm3"] == pytest.approx(fractions @ elemental.density(x, table))


def test_bounds_hold_the_values_and_the_finer_grid(random_images: ImageMaker) -> None:
    images = random_images(6, (16, 16), seed=1)
    simulator = chain(composite(), phase_properties=COMPOSITE)
    coarse = simulator.evaluate(composites(images))
    fine = simulator.evaluate(composites(images.repeat(4, 1).repeat(4, 2)))
    for a, b in zip(coarse, fine, strict=True):
        assert set(a.bounds) == {
            "thermal_conductivity_W_per_mK",
            "conductivity_ratio",
            "youngs_modulus_GPa",
        }
        for name, (low, high) in a.bounds.items():
            assert low <= a.values[name] <= high
            assert low <= b.values[name] <= high


def test_a_uniform_alloy_without_images() -> None:
    space = DesignSpace(phases=("fcc",), elements=ELEMENTS)
    simulator = chain(space)
    candidates = [
        Candidate(phases=("fcc",), elements=ELEMENTS, phase_compositions=x[None]) for x in MIDDLE
    ]
    table = elemental.element_table(ELEMENTS)
    for candidate, outcome in zip(candidates, simulator.evaluate(candidates), strict=True):
        x = candidate.phase_compositions
        assert x is not None
        assert dict(outcome.values) == {
            "youngs_modulus_GPa": youngs_modulus(*elemental.elastic_moduli(x, table))[0],
            "thermal_conductivity_W_per_mK": elemental.thermal_conductivity(x, table)[0],
            "density_g_per_cm3": elemental.density(x, table)[0],
            "material_cost_USD_per_kg": elemental.material_cost(x, table)[0],
        }


def test_given_properties_replace_those_from_composition(random_images: ImageMaker) -> None:
    candidates = superalloys(random_images(2, (24, 24)))
    given = {phase: {"thermal_conductivity_W_per_mK": 20.0} for phase in PHASES}
    for outcome in chain(superalloy(), phase_properties=given).evaluate(candidates):
        assert outcome.values["thermal_conductivity_W_per_mK"] == pytest.approx(20.0, rel=1e-12)
        assert outcome.values["density_g_per_cm3"] > 6


def test_image_only_offers_what_is_given(random_images: ImageMaker) -> None:
    given = {name: {"thermal_conductivity_W_per_mK": 1.0 + i} for i, name in enumerate(COMPOSITE)}
    simulator = chain(composite(), phase_properties=given)
    assert set(simulator.outputs) == {
        "thermal_conductivity_W_per_mK",
        "conductivity_ratio",
        "fibre_fraction",
        "precipitate_chord_length_px",
        "interface_density_per_px",
    }
    outcome = simulator.evaluate(composites(random_images(1, (16, 16))))[0]
    assert set(outcome.values) == set(simulator.outputs)


def test_only_the_wanted_outputs(random_images: ImageMaker) -> None:
    simulator = chain(superalloy(), outputs=["density_g_per_cm3", "gamma_prime_fraction"])
    outcome = simulator.evaluate(superalloys(random_images(1, (24, 24))))[0]
    assert set(outcome.values) == {"density_g_per_cm3", "gamma_prime_fraction"}
    assert not outcome.bounds


def test_wanted_outputs_decide_which_data_are_needed() -> None:
    """Zirconium lacks a bulk modulus: it matters only to the stiffness."""
    elements = (*ELEMENTS[:-1], "Zr")
    space = DesignSpace(phases=PHASES, elements=elements, image_shape=(24, 24))
    with pytest.raises(InvalidInputError, match=r"element Zr has no bulk modulus"):
        chain(space)
    chain(space, element_data={"Zr": {"bulk_modulus_GPa": 91.1}})
    chain(space, outputs=["thermal_conductivity_W_per_mK"])


def test_three_phases(random_images: ImageMaker) -> None:
    names = ("matrix", "fibre", "void")
    space = DesignSpace(phases=names, image_shape=(16, 16))
    properties = {**COMPOSITE, "void": {"thermal_conductivity_W_per_mK": 0.025}}
    simulator = chain(space, phase_properties=properties, precipitate="void")
    images = random_images(2, (16, 16), phases=3)
    outcomes = simulator.evaluate([Candidate(phases=names, microstructure=i) for i in images])
    for image, outcome in zip(images, outcomes, strict=True):
        assert outcome.values["void_fraction"] == (image == 2).mean()


def failing(random_images: ImageMaker) -> list[tuple[Candidate, str]]:
    image = random_images(1, (24, 24))[0]
    good = superalloys(image[None])[0]
    x = good.phase_compositions
    constant = np.zeros((24, 24), dtype=np.uint8)

    def like(**changes: Any) -> Candidate:
        parts = {
            "phases": PHASES,
            "elements": ELEMENTS,
            "microstructure": image,
            "phase_compositions": x,
        }
        return Candidate(**{**parts, **changes})

    return [
        (like(microstructure=constant), "image is constant: only gamma is present"),
        (like(microstructure=constant + 1), "only gamma_prime is present"),
        (like(microstructure=None), "2 phases and no microstructure"),
        (like(phase_compositions=None), "no phase compositions"),
        (like(phases=("gamma", "delta")), "phases are gamma, delta; expected gamma, gamma_prime"),
        (like(elements=("Ni", "Al", "Cr", "Co", "Ti", "Hf")), "contains Hf"),
    ]


def test_a_bad_candidate_fails_alone(random_images: ImageMaker) -> None:
    simulator = chain(superalloy())
    good = superalloys(random_images(3, (24, 24), seed=4))
    expected = simulator.evaluate(good)
    for bad, reason in failing(random_images):
        outcomes = simulator.evaluate([good[0], bad, *good[1:]])
        assert outcomes[1].status == "failed"
        assert reason in outcomes[1].reason
        assert not outcomes[1].values
        assert [outcomes[0], *outcomes[2:]] == expected


def test_an_absent_precipitate_has_no_chord(random_images: ImageMaker) -> None:
    names = ("matrix", "fibre", "void")
    given = {name: {"thermal_conductivity_W_per_mK": 1.0 + i} for i, name in enumerate(names)}
    space = DesignSpace(phases=names, image_shape=(16, 16))
    candidate = Candidate(phases=names, microstructure=random_images(1, (16, 16))[0])
    settings: dict[str, Any] = {"phase_properties": given, "precipitate": "void"}
    failed = chain(space, **settings).evaluate([candidate])[0]
    assert failed.status == "failed"
    assert "void is absent" in failed.reason
    wanted = ["void_fraction", "thermal_conductivity_W_per_mK"]
    assert chain(space, **settings, outputs=wanted).evaluate([candidate])[0].status == "ok"


def test_an_unconverged_solve_fails_with_its_residual(random_images: ImageMaker) -> None:
    simulator = chain(composite(), phase_properties=COMPOSITE, max_iterations=2)
    easy = striped()  # one step solves a laminate
    hard = random_images(1, (16, 16))[0]
    outcomes = simulator.evaluate(composites(np.stack([easy, hard])))
    assert [outcome.status for outcome in outcomes] == ["ok", "failed"]
    assert "conductivity solve not converged after 2 iterations" in outcomes[1].reason
    assert outcomes[1].diagnostics["conductivity_residual"] > 1e-6
    assert outcomes[1].diagnostics["conductivity_iterations"] == 2
    assert not outcomes[1].values


def test_an_impossible_contrast_fails(random_images: ImageMaker) -> None:
    given = {
        "matrix": {"thermal_conductivity_W_per_mK": 1e-9},
        "fibre": {"thermal_conductivity_W_per_mK": 1e3},
    }
    outcome = chain(composite(), phase_properties=given).evaluate(
        composites(random_images(1, (16, 16)))
    )[0]
    assert outcome.status == "failed"
    assert "differs by a factor of 1e+12" in outcome.reason


def test_images_of_several_sizes_in_one_batch(random_images: ImageMaker) -> None:
    simulator = chain(composite(), phase_properties=COMPOSITE)
    mixed = [
        *composites(random_images(2, (16, 16))),
        *composites(random_images(2, (12, 20))),
        *composites(random_images(1, (16, 16), seed=9)),
    ]
    outcomes = simulator.evaluate(mixed)
    for candidate, outcome in zip(mixed, outcomes, strict=True):
        assert simulator.evaluate([candidate]) == [outcome]


def test_the_number_of_threads_changes_nothing(random_images: ImageMaker) -> None:
    """Not a bit of the outcomes, and the caller's setting is as it was."""
    simulator = chain(superalloy(), **ORDERED)
    candidates = superalloys(random_images(5, (64, 64)))
    before = torch.get_num_threads()
    try:
        outcomes = []
        for threads in (1, 2):
            torch.set_num_threads(threads)
            outcomes.append(simulator.evaluate(candidates))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert outcomes[0] == outcomes[1]


@pytest.mark.parametrize("shape", [(24, 24), (15, 17)])
def test_batches_are_bit_for_bit_singles(random_images: ImageMaker, shape: tuple[int, int]) -> None:
    simulator = chain(superalloy(), **ORDERED)
    candidates = superalloys(random_images(13, shape, seed=2))
    together: list[Outcome] = simulator.evaluate(candidates)
    assert [simulator.evaluate([candidate])[0] for candidate in candidates] == together


def test_order_of_elements_does_not_matter(random_images: ImageMaker) -> None:
    simulator = chain(superalloy())
    candidate = superalloys(random_images(1, (24, 24)))[0]
    assert candidate.phase_compositions is not None
    other = Candidate(
        phases=PHASES,
        elements=(*ELEMENTS[::-1], "Hf"),
        microstructure=candidate.microstructure,
        phase_compositions=np.hstack((candidate.phase_compositions[:, ::-1], np.zeros((2, 1)))),
    )
    assert simulator.evaluate([other]) == simulator.evaluate([candidate])


def test_version_tells_the_settings() -> None:
    """The ledger reuses outcomes by version: what changes values must change it."""
    versions = {
        chain(superalloy()).version,
        chain(superalloy(), **ORDERED).version,
        chain(superalloy(), tolerance=1e-8).version,
        chain(superalloy(), outputs=["density_g_per_cm3"]).version,
        chain(superalloy(), element_data={"Ni": {"bulk_modulus_GPa": 181.0}}).version,
    }
    assert len(versions) == 5
    assert chain(superalloy()).version == chain(superalloy(48), precipitate="gamma_prime").version


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tolerence": 1e-3}, "unknown key 'tolerence'; did you mean 'tolerance'"),
        ({"tolerance": 0.0}, "tolerance is 0.0: input should be greater than 0"),
        ({"tolerance": "fine"}, "tolerance is 'fine': input should be a valid number"),
        ({"max_iterations": 0}, "max_iterations is 0"),
        ({"precipitate": "gamma_prim"}, "did you mean 'gamma_prime'"),
        ({"outputs": ["density"]}, "did you mean 'density_g_per_cm3'"),
        ({"outputs": []}, "outputs is []"),
        ({"order_parameters": {"gama": 0.5}}, "did you mean 'gamma'"),
        ({"order_parameters": {"gamma": 1.0}}, "expected 0 <= S < 1"),
        ({"order_parameters": {"gamma": float("nan")}}, "expected 0 <= S < 1"),
        ({"phase_properties": {"gamma": {"density": 8.0}}}, "did you mean 'density_g_per_cm3'"),
        ({"phase_properties": {"gamma": {"density_g_per_cm3": -8.0}}}, "greater than 0"),
        ({"phase_properties": {"gamma": {"youngs_modulus_GPa": 200.0}}}, "go together"),
        ({"phase_properties": {"delta": {"density_g_per_cm3": 8.0}}}, "unknown phase 'delta'"),
        ({"phase_properties": 3}, "phase_properties is 3"),
    ],
)
def test_settings_that_cannot_be_used(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidCampaignError) as caught:
        chain(superalloy(), **settings)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (DesignSpace(phases=PHASES, elements=ELEMENTS), "2 phases and no images"),
        (DesignSpace(phases=("matrix",), image_shape=(8, 8)), "nothing can be computed"),
    ],
)
def test_spaces_that_cannot_be_used(space: DesignSpace, message: str) -> None:
    with pytest.raises(InvalidCampaignError, match=message):
        chain(space)


def test_a_device_that_is_not_there() -> None:
    with pytest.raises(InvalidInputError, match=r"device 'cuda:99' .* set compute\.device"):
        create("composite-chain", space=superalloy(), device="cuda:99")


def test_image_only_campaigns_do_without_pymatgen() -> None:
    """It is imported where a composition needs it and nowhere else."""
    script = (
        "import sys\n"
        "import simulators.chain, simulators.verification\n"
        "assert 'pymatgen' not in sys.modules\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_a_narrower_bound_of_the_modulus_on_request(random_images: ImageMaker) -> None:
    """By complementary energy it is the narrower one, and the value stays as it is."""
    designs = composites(random_images(3, (24, 24)))
    modulus = "youngs_modulus_GPa"
    settings: dict[str, Any] = {"phase_properties": COMPOSITE, "outputs": [modulus]}
    wide = create("composite-chain", space=composite(), settings=settings)
    narrow = create(
        "composite-chain", space=composite(), settings={**settings, "modulus_bound": "energy"}
    )
    assert wide.version != narrow.version
    for a, b in zip(wide.evaluate(designs), narrow.evaluate(designs), strict=True):
        assert a.values == b.values
        assert a.bounds[modulus][0] < b.bounds[modulus][0] <= b.values[modulus]
