"""The data of examples/superalloy: what SOURCE.md says of them is so."""

from __future__ import annotations

import hashlib
import importlib.util
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from PIL import Image

from loop.campaign import load_campaign
from loop.formula import atomic_fractions

EXAMPLE = Path(__file__).parents[2] / "examples" / "superalloy"

# Nominal compositions in mass %, and approximate γ′ fractions, as in SOURCE.md.
ALLOYS: dict[str, tuple[dict[str, float], float]] = {
    "CMSX-4": (
        {"Cr": 6.5, "Co": 9, "Mo": 0.6, "W": 6, "Ta": 6.5, "Re": 3, "Al": 5.6, "Ti": 1},
        0.70,
    ),
    "CMSX-2": ({"Cr": 8, "Co": 5, "Mo": 0.6, "W": 8, "Ta": 6, "Al": 5.6, "Ti": 1}, 0.68),
    "AM1": ({"Cr": 7.8, "Co": 6.5, "Mo": 2, "W": 5.7, "Ta": 7.9, "Al": 5.2, "Ti": 1.1}, 0.68),
    "MC2": ({"Cr": 8, "Co": 5, "Mo": 2, "W": 8, "Ta": 6, "Al": 5, "Ti": 1.5}, 0.68),
    "PWA 1484": ({"Cr": 5, "Co": 10, "Mo": 2, "W": 6, "Ta": 9, "Re": 3, "Al": 5.6}, 0.70),
    "René N5": ({"Cr": 7, "Co": 8, "Mo": 2, "W": 5, "Ta": 7, "Re": 3, "Al": 6.2}, 0.65),
    "Udimet 720Li": ({"Cr": 16, "Co": 15, "Mo": 3, "W": 1.25, "Al": 2.5, "Ti": 5}, 0.45),
    "RR1000": ({"Cr": 15, "Co": 18.5, "Mo": 5, "Ta": 2, "Al": 3, "Ti": 3.6}, 0.46),
    "Astroloy": ({"Cr": 15, "Co": 17, "Mo": 5.2, "Al": 4, "Ti": 3.5}, 0.50),
    "N18": ({"Cr": 11.2, "Co": 15.6, "Mo": 6.5, "Al": 4.4, "Ti": 4.4}, 0.55),
}
SUBLATTICE = ["Al", "Ti", "Mo", "W", "Ta", "Re"]


@pytest.fixture(scope="module")
def ranges() -> dict[str, Any]:
    return tomllib.loads((EXAMPLE / "ranges.toml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def elements(ranges: dict[str, Any]) -> dict[str, Any]:
    return dict(ranges["elements"])


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return pd.read_csv(EXAMPLE / "compositions.csv")


def _phase(table: pd.DataFrame, phase: str, names: list[str]) -> NDArray[np.float64]:
    return table[[f"{phase}:{name}" for name in names]].to_numpy(dtype=np.float64)


def _script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make", EXAMPLE / "make_compositions.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_script_reproduces_the_file(ranges: dict[str, Any]) -> None:
    make = _script()
    drawn = make.to_csv(make.draw(ranges), ranges)
    assert drawn.encode() == (EXAMPLE / "compositions.csv").read_bytes()


def test_rows_sum_to_one_and_keep_exact_zeros(
    table: pd.DataFrame, elements: dict[str, Any]
) -> None:
    names = list(elements)
    assert len(table) == 3000
    for phase in ("gamma", "gamma_prime"):
        x = _phase(table, phase, names)
        assert np.abs(x.sum(axis=1) - 1).max() <= 1e-12
        assert x.min() == 0.0
    # an element is absent from both phases or from neither
    gamma, prime = _phase(table, "gamma", names), _phase(table, "gamma_prime", names)
    assert np.array_equal(gamma == 0, prime == 0)
    absent = dict(zip(names, (gamma == 0).mean(axis=0), strict=True))
    assert 0.2 < absent["Re"] < 0.8
    assert all((absent[e] == 0) == (t.get("present", 1.0) == 1.0) for e, t in elements.items())


def test_every_design_lies_in_the_ranges(table: pd.DataFrame, ranges: dict[str, Any]) -> None:
    elements, designs = ranges["elements"], ranges["designs"]
    for name, limits in elements.items():
        gamma, prime = (table[f"{p}:{name}"].to_numpy() for p in ("gamma", "gamma_prime"))
        here = gamma > 0
        for x, (low, high) in ((gamma, limits["gamma"]), (prime, limits["gamma_prime"])):
            assert low <= x[here].min()
            assert x[here].max() <= high
        if "partition" in limits:
            # fractions are rounded to six decimals, so k of a small one is off by more
            slack = 1e-6 * (1 / gamma[here] + 1 / prime[here])
            k = gamma[here] / prime[here]
            assert np.all(k >= limits["partition"][0] * (1 - slack))
            assert np.all(k <= limits["partition"][1] * (1 + slack))
    total = _phase(table, "gamma_prime", SUBLATTICE).sum(axis=1)
    low, high = designs["sublattice"]
    assert total.min() >= low - 1e-5
    assert total.max() <= high + 1e-5
    refractory = _phase(table, "gamma", ["Mo", "W", "Ta", "Re"]).sum(axis=1)
    assert refractory.max() <= designs["refractory"]


def test_designs_fill_the_ranges(table: pd.DataFrame, elements: dict[str, Any]) -> None:
    """Bounds that no design comes near would be a promise without data behind it."""
    for name, limits in elements.items():
        for phase in ("gamma", "gamma_prime"):
            x = table[f"{phase}:{name}"].to_numpy()
            low, high = limits[phase]
            assert np.ptp(x[x > 0]) > 0.8 * (high - low), (phase, name)


def test_campaign_bounds_are_the_ranges(elements: dict[str, Any]) -> None:
    space = load_campaign(EXAMPLE).space
    assert space.elements == tuple(elements)
    for phase in space.phases:
        for name, limits in elements.items():
            low, high = limits[phase]
            expected = (0.0 if limits.get("present", 1.0) < 1 else low, high)
            assert space.bounds[phase][name] == expected, (phase, name)


@pytest.mark.parametrize("alloy", ALLOYS)
def test_commercial_alloys_split_by_the_lever_rule_lie_in_the_ranges(
    alloy: str, elements: dict[str, Any]
) -> None:
    mass, fraction = ALLOYS[alloy]
    names = list(elements)
    mass = {**mass, "Ni": 100 - sum(mass.values())}
    overall = atomic_fractions(np.array([mass.get(e, 0.0) for e in names]), names)
    k = np.array([np.sqrt(np.prod(elements[e].get("partition", [1.0, 1.0]))) for e in names])
    prime = overall / (fraction + (1 - fraction) * k)
    gamma = k * prime
    for x in (gamma, prime):
        x[0] = 1 - x[1:].sum()
    assert overall[0] == pytest.approx((1 - fraction) * gamma[0] + fraction * prime[0], abs=1e-12)
    for phase, x in (("gamma", gamma), ("gamma_prime", prime)):
        for name, value in zip(names, x, strict=True):
            low, high = elements[name][phase]
            assert value == 0 or low <= value <= high, f"{phase}:{name} = {value:.4f}"
    total = prime[[names.index(e) for e in SUBLATTICE]].sum()
    assert 0.206 < total < 0.249


def test_label_images_are_those_of_the_index() -> None:
    index = pd.read_csv(EXAMPLE / "index.csv")
    assert sorted(f.stem for f in (EXAMPLE / "labels").iterdir()) == sorted(index["name"])
    assert sorted(f.stem for f in (EXAMPLE / "images").iterdir()) == sorted(index["name"])
    for row in index.itertuples():
        labels = np.asarray(Image.open(EXAMPLE / "labels" / f"{row.name}.png"))
        shares = np.bincount(labels.ravel(), minlength=3) / labels.size
        assert labels.shape == (row.h, row.w)
        expected = [row.f_matrix, row.f_secondary, row.f_tertiary]
        assert shares == pytest.approx(expected, abs=6e-6)  # printed with five decimals


def test_spots_belong_to_one_split_each() -> None:
    index = pd.read_csv(EXAMPLE / "index.csv")
    spot = index["name"].str.extract(r"^(spot\d+)_", expand=False)
    by_split = {split: set(spot[index["split"] == split]) for split in ("train", "val", "test")}
    assert by_split["train"] == {f"spot{i}" for i in range(3, 8)}
    assert by_split["val"] == {"spot1"}
    assert by_split["test"] == {"spot2"}


def test_no_two_images_are_the_same() -> None:
    files = list((EXAMPLE / "labels").iterdir())
    arrays = [np.asarray(Image.open(f)) for f in files]
    turned = {
        hashlib.sha256(np.ascontiguousarray(np.rot90(m, k)).tobytes()).hexdigest()
        for a in arrays
        for m in (a, a[:, ::-1])
        for k in range(4)
    }
    assert len(turned) == 8 * len(files)
