"""The figures by which generated alloys are judged, on alloys with a known answer."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.alloy_figures import Reference, novelty, pair_shares, share, valid
from benchmarks.alloys import (
    LABEL,
    PROPERTY,
    Judge,
    library_of,
    load,
    records_of,
    space_of,
)
from loop.candidate import Candidate
from loop.conformal import Interval, group_folds
from loop.process_labels import label_codes
from loop.space import DesignSpace
from loop.targets import Range

ELEMENTS = ("Al", "Co", "Cr", "Fe", "Ni")
ALLOYS = np.array(
    [
        [0.0, 0.25, 0.25, 0.25, 0.25],
        [0.2, 0.2, 0.2, 0.2, 0.2],
        [0.0, 0.5, 0.0, 0.0, 0.5],
        [0.5, 0.0, 0.0, 0.0, 0.5],
    ]
)


def test_a_set_beside_itself_differs_in_nothing() -> None:
    found = Reference(ALLOYS, ELEMENTS).beside(ALLOYS[::-1])
    for name in ("elements_per_alloy", "element_shares", "pair_shares", "descriptors_mean"):
        assert found[name] == pytest.approx(0.0, abs=1e-12)
    assert found["mean_elements"] == pytest.approx((4 + 5 + 2 + 2) / 4)


def test_shares_of_elements_and_pairs_by_hand() -> None:
    shares = pair_shares(ALLOYS)
    assert np.diag(shares) == pytest.approx([0.5, 0.75, 0.5, 0.5, 1.0])
    assert shares[0, 4] == pytest.approx(0.5)
    assert shares[0, 1] == pytest.approx(0.25)
    # Two alloys of all elements against the four: every alloy has them all.
    found = Reference(ALLOYS, ELEMENTS).beside(ALLOYS[[1, 1]])
    assert found["elements_per_alloy"] == pytest.approx(0.75)
    assert found["element_shares"] == pytest.approx((0.5 + 0.25 + 0.5 + 0.5) / 3.25)


def test_descriptors_are_in_units_of_their_spread() -> None:
    """Moved by one standard deviation: the Wasserstein distance of every descriptor is 1."""
    reference = Reference(ALLOYS, ELEMENTS)
    moved = reference.described + reference.spread
    reference.descriptors = lambda _: moved  # type: ignore[method-assign, assignment]
    found = reference.beside(ALLOYS)
    assert list(found["descriptors"].values()) == pytest.approx([1.0] * moved.shape[1])


def test_novelty_of_copies_of_new_amounts_and_of_new_pairs() -> None:
    known = ALLOYS[:3]
    x = np.array([ALLOYS[0], [0.0, 0.4, 0.2, 0.2, 0.2], [0.5, 0.0, 0.0, 0.0, 0.5]])
    found = novelty(x, known)
    assert found["copies"] == pytest.approx(1 / 3)
    assert found["elements_known"] == pytest.approx(2 / 3)
    assert found["pair_never_seen"] == 0.0  # Al and Ni are together in the second
    assert found["difference_quantiles"]["0.5"] == pytest.approx(0.3)
    assert novelty(ALLOYS[1:2], ALLOYS[[0, 2]])["pair_never_seen"] == 1.0
    assert novelty(ALLOYS[3:], ALLOYS[:3])["sets_of_elements"] == 1.0


def test_validity_sees_what_is_wrong() -> None:
    space = DesignSpace(("alloy",), ELEMENTS, None, {"alloy": {"Al": (0.0, 0.3)}})
    good = [Candidate(space.phases, ELEMENTS, None, row[None]) for row in ALLOYS[:3]]
    found = valid(space, good)
    assert found["in_space"] == found["zeros_exact"] == found["unique"] == 1.0
    assert found["feasible_within_1e-9"] == 1.0
    assert found["least_amount"] == pytest.approx(0.2)
    nearly = np.array([[1e-8, 0.5, 0.0, 0.0, 0.5 - 1e-8]])
    bad = [
        Candidate(space.phases, ELEMENTS, None, ALLOYS[3][None]),
        Candidate(space.phases, ELEMENTS, None, nearly),
    ]
    found = valid(space, [good[0], good[0], *bad])
    assert found["in_space"] == found["feasible_within_1e-9"] == 0.75
    assert found["largest_violation"] == pytest.approx(0.2)
    assert found["zeros_exact"] == 0.75
    assert found["unique"] == 0.75


def test_an_interval_of_a_share() -> None:
    """Wilson's for 0 of 10 ends at z²/(n + z²) = 0.2775 (E. B. Wilson 1927)."""
    found = share(np.zeros(10, dtype=bool))
    assert found["share"] == 0.0
    assert found["interval_95"] == pytest.approx([0.0, 1.959964**2 / (10 + 1.959964**2)], abs=1e-6)


def test_the_data_and_their_split() -> None:
    """681 pairs of composition and label; no paper is on both sides of the split."""
    alloys = load()
    assert alloys.x.shape == (681, 29)
    assert alloys.x.sum(1) == pytest.approx(np.ones(681))
    assert np.isfinite(alloys.hardness).sum() == 417
    space = space_of(alloys)
    assert len(space.labels[LABEL]) == 6
    records = records_of(space, alloys)
    assert not [v for r in records for v in space.violations(r.candidate)]
    assert sum(PROPERTY in r.outcome.values for r in records) == 417
    folds = group_folds(alloys.groups.tolist(), 5, np.random.default_rng(2026))
    left_out = alloys.rows(folds == 0)
    assert not set(left_out.groups) & set(alloys.rows(folds != 0).groups)
    drawn = library_of(space, left_out).draw(30, rng=np.random.default_rng(0))
    pairs = {(tuple(x), k) for x, k in zip(left_out.x, left_out.labels, strict=True)}
    assert all((tuple(d.composition()), d.labels[LABEL]) in pairs for d in drawn)


def test_a_verdict_needs_the_value_and_the_label() -> None:
    space = DesignSpace(("alloy",), ELEMENTS, None, labels={LABEL: ("CAST", "WROUGHT")})
    labels = ("CAST", "CAST", "WROUGHT", "WROUGHT")
    designs = [
        Candidate(space.phases, ELEMENTS, None, row[None], labels={LABEL: label})
        for row, label in zip(ALLOYS, labels, strict=True)
    ]
    mean = np.array([300.0, 500.0, 310.0, 290.0])
    found = Interval(mean, np.full(4, 1e-3), mean - 100, mean + 100)
    target = Range(PROPERTY, 295.0, 350.0)
    free = Judge.verdict(found, designs, target, None)
    assert (free["hits"], free["of"], free["likely"]) == (2, 4, pytest.approx(0.5))
    assert free["conformal_90_meets"] == 0.75
    asked = Judge.verdict(found, designs, target, "CAST")
    assert (asked["hits"], asked["likely"]) == (1, pytest.approx(0.25))
    assert label_codes(space, designs)[:, 0].tolist() == [0, 0, 1, 1]
