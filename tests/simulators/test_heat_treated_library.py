"""The phase field fills a library: designs are in equilibrium, and the same for every call."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from loop.errors import InvalidCampaignError, InvalidInputError
from loop.made_designs import DesignSource, MadeDesigns, source_hash
from loop.space import DesignSpace
from simulators import heat_treated_library, library_sources
from simulators.miscibility import binodal
from simulators.solution import Solution
from simulators.solution_settings import load_solution
from tests.made_libraries import PROCESS, SETTINGS, SPACE, TERNARY, TERNARY_SPACE


def source(
    space: DesignSpace = SPACE, settings: dict[str, Any] = SETTINGS, seed: int = 0
) -> DesignSource:
    return library_sources.create("heat-treatment", space=space, settings=settings, seed=seed)


@pytest.fixture(scope="module")
def binary() -> MadeDesigns:
    return source(settings=SETTINGS | {"phases": "equilibrium"}).make(0)


@pytest.fixture(scope="module")
def ternary() -> MadeDesigns:
    return source(TERNARY_SPACE, TERNARY | {"phases": "equilibrium"}).make(0)


def test_same_settings_same_designs(ternary: MadeDesigns) -> None:
    settings = TERNARY | {"phases": "equilibrium"}
    assert source(TERNARY_SPACE, settings).make(0).digest() == ternary.digest()
    assert source(TERNARY_SPACE, TERNARY, seed=1).identity() != source().identity()


def test_phases_of_the_field_lie_between_the_whole_and_the_tie_line(ternary: MadeDesigns) -> None:
    """Same draws, same images; one number per image says how far it has unmixed."""
    made = source(TERNARY_SPACE, TERNARY).make(0)
    assert np.array_equal(made.images, ternary.images)
    assert np.array_equal(made.image, ternary.image)
    share = made.images[made.image].mean((1, 2))[:, None]
    whole = (1 - share) * ternary.compositions[:, 0] + share * ternary.compositions[:, 1]
    # mass is kept: the phases with the image's fractions are the whole alloy
    balance = (1 - share) * made.compositions[:, 0] + share * made.compositions[:, 1]
    assert np.allclose(balance, whole, atol=1e-12)
    apart = ternary.compositions - whole[:, None]
    unmixed = (made.compositions - whole[:, None]) / apart
    assert np.all((unmixed > 0.8) & (unmixed <= 1 + 1e-9))
    for image in range(2):
        assert np.ptp(unmixed[made.image == image]) < 1e-9


def test_phases_of_a_binary_are_those_of_its_miscibility_gap(binary: MadeDesigns) -> None:
    """The gap by common tangents, silver-rich first; the image has the lever rule's fractions."""
    binary.check(SPACE)
    assert len(binary.images) == len(binary.image) == 8
    solution = load_solution(SETTINGS["solution"], ("Ag", "Cu"))
    for own, x, (temperature, _) in zip(
        binary.image, binary.compositions, binary.process, strict=True
    ):
        ((low, high),) = binodal(solution, temperature)
        assert np.allclose(x[:, 1], (low, high), atol=1e-9)
        assert set(np.unique(binary.images[own])) == {0, 1}
        # whole alloys were drawn between 40 and 60 % copper; image and lever rule agree
        whole = np.interp(binary.images[own].mean(), (0, 1), (low, high))
        assert 0.4 <= whole <= 0.6


def test_phases_of_a_design_have_equal_potentials(ternary: MadeDesigns) -> None:
    ternary.check(TERNARY_SPACE)
    solution: Solution = load_solution(TERNARY["solution"], TERNARY_SPACE.elements)
    for x, (temperature, _) in zip(ternary.compositions, ternary.process, strict=True):
        potentials = solution.chemical_potentials(x, temperature)
        assert np.allclose(potentials[0], potentials[1], atol=1e-3)  # J/mol
        assert x[0, 0] > 0.6 > 0.3 > x[1, 0]


def test_designs_on_one_image_share_its_heat_treatment(ternary: MadeDesigns) -> None:
    assert len(ternary.images) == 2
    for image in range(2):
        rows = np.flatnonzero(ternary.image == image)
        assert 1 < len(rows) <= 4
        assert len(np.unique(ternary.process[rows], axis=0)) == 1
        assert len(np.unique(ternary.compositions[rows, 0, 2])) == len(rows)
        share = float(ternary.images[image].mean())
        whole = np.array([1 - share, share]) @ ternary.compositions[rows]
        ranges = np.array([TERNARY["compositions"][e] for e in TERNARY_SPACE.elements])
        assert np.all((whole >= ranges[:, 0]) & (whole <= ranges[:, 1]))


def test_columns_follow_the_space() -> None:
    """The order of the variables in the space decides, not that of the settings."""
    turned = replace(SPACE, process=dict(reversed(PROCESS.items())))
    made = source(turned, SETTINGS | {"fields": 1}).make(0)
    assert made.variables == ("time_s", "temperature_K")
    made.check(turned)


def test_a_file_of_parameters_counts_by_its_contents(tmp_path: Path) -> None:
    file = tmp_path / "solution.toml"
    hashes = []
    for value in (33819.1, 33000.0):
        file.write_text(f'source = "s"\ninteractions = {{ Ag-Cu = [[{value}, -8.1236]] }}\n')
        hashes.append(source_hash(source(settings=SETTINGS | {"solution": str(file)})))
    assert hashes[0] != hashes[1]


def test_parts_cover_the_fields() -> None:
    assert source(settings=SETTINGS | {"fields": 30}).parts == 3
    assert source(settings=SETTINGS | {"fields": 28}).parts == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"feilds": 3}, "unknown key 'feilds'; did you mean 'fields'"),
        ({"fields": 0}, "fields is 0: input should be greater"),
        ({"spacing_m": -1.0}, "spacing_m is -1.0: input should be greater than 0"),
        ({"compositions": {"Ag": (0.4, 0.6)}}, "compositions.Cu is missing"),
        ({"compositions": {"Ag": (0, 1), "Cu": (0, 1), "Au": (0, 1)}}, "unknown element 'Au'"),
        ({"compositions": {"Ag": (0.6, 0.4), "Cu": (0, 1)}}, r"Ag is \[0.6, 0.4\]; expected"),
        ({"compositions": {"Ag": (0.1, 0.2), "Cu": (0.1, 0.2)}}, "upper ends sum to 0.4"),
        ({"diffusion": {"Ag": (1e-6, 2e5)}}, "diffusion data of Cu are missing"),
        ({"solution": {"source": "s", "interactions": {}}}, "interaction Ag-Cu is missing"),
        ({"temperature": "T"}, r"temperature names 'T', which is not in \[space.process\]"),
        ({"time": "temperature_K"}, "temperature and time name one variable"),
    ],
)
def test_settings_that_cannot_be_used(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidCampaignError, match=f"library.settings: .*{message}"):
        source(settings=SETTINGS | change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"elements": ("Ag",)}, "two or more"),
        ({"process": {**PROCESS, "pressure_Pa": (1.0, 2.0)}}, "has pressure_Pa too; leave it out"),
        ({"process": {"temperature_K": (0.0, 2.0), "time_s": (1.0, 2.0)}}, "starts at 0"),
    ],
)
def test_spaces_that_cannot_be_filled(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidCampaignError, match=message):
        source(replace(SPACE, **change))


def test_an_unknown_source() -> None:
    with pytest.raises(InvalidCampaignError, match="library: unknown source 'heat'"):
        library_sources.create("heat", space=SPACE)
    assert library_sources.available() == ["heat-treatment"]


@pytest.mark.parametrize(
    ("settings", "process", "message"),
    [
        ({}, {"temperature_K": (1900.0, 2000.0)}, "times it mixes at its temperature"),
        ({"spacing_m": 5e-8}, {}, "waves are shorter than 8 pixels: refine spacing_m"),
        ({"spacing_m": 2e-9}, {}, "waves are longer than half the image"),
        ({"max_steps": 3, "fields": 1}, {}, "its steps ran out: raise max_steps"),
        ({"fields": 1, "fraction_tolerance": 1e-4}, {"time_s": (0.1, 0.2)}, "had not unmixed"),
    ],
)
def test_a_library_that_no_alloy_fills(
    settings: dict[str, Any], process: dict[str, tuple[float, float]], message: str
) -> None:
    space = replace(SPACE, process={**PROCESS, **process})
    with pytest.raises(InvalidInputError, match=rf"library: of \d+ alloys .*{message}"):
        source(space, SETTINGS | settings).make(0)


def test_phases_outside_the_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heat_treated_library, "FUTILE", 2)
    bounds = {"silver_rich": {"Cu": (0.0, 0.01)}}
    with pytest.raises(InvalidInputError, match=r"outside \[space.bounds\]"):
        source(replace(SPACE, bounds=bounds), SETTINGS | {"fields": 1}).make(0)
