"""Wishes read from words, and what is shown of an answer."""

from __future__ import annotations

import numpy as np
import pytest

from flows.proposal import Proposal, Wish, draw_wishes, read_wish, read_wishes, wish
from loop.candidate import Candidate, Outcome
from loop.errors import InvalidInputError
from loop.targets import Range, Targets

PROPERTIES = ("youngs_modulus_GPa", "density_g_per_cm3", "price")


def test_values_and_ranges() -> None:
    assert read_wish("price", "-1.5e1", PROPERTIES) == Wish("price", -15.0, -15.0)
    assert read_wish("price", "8.05..8.2", PROPERTIES) == Wish("price", 8.05, 8.2)
    assert read_wish("price", "-2 .. 1", PROPERTIES) == Wish("price", -2.0, 1.0)
    assert read_wishes({}, PROPERTIES) == ()


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("densty_g_per_cm3", "8", "did you mean 'density_g_per_cm3'"),
        ("densty_g_per_cm3", "heavy", "did you mean 'density_g_per_cm3'"),
        ("price", "cheap", "asked to be 'cheap'; expected a number, or a range as LOW..HIGH"),
        ("price", "1..2..3", "expected a number, or a range"),
        ("price", "..3", "expected a number, or a range"),
        ("price", "nan", "expected a number, or a range"),
        ("price", "1..inf", "expected a number, or a range"),
        ("price", "3..1", r"to be in 3\.\.1; expected finite numbers, the lower end first"),
    ],
)
def test_what_is_no_wish(name: str, text: str, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        read_wish(name, text, PROPERTIES)


def test_requests_follow_the_wishes_or_the_targets() -> None:
    targets = Targets((Range("price", 10.0, 20.0),))
    near = np.zeros((0, 3))

    def draw(*wishes: Wish) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
        return draw_wishes(50, wishes, targets, PROPERTIES, near, np.random.default_rng(0))

    own = draw()
    assert np.isnan(own[:, :2]).all()
    assert ((own[:, 2] > 10) & (own[:, 2] < 20)).all()
    asked = draw(
        wish("youngs_modulus_GPa", 190, 190, PROPERTIES),
        wish("density_g_per_cm3", 8.0, 8.2, PROPERTIES),
    )
    assert (asked[:, 0] == 190).all()
    assert ((asked[:, 1] > 8.0) & (asked[:, 1] < 8.2)).all()
    assert np.ptp(asked[:, 1]) > 0.1  # 50 uniform draws over 70 % of 0.2
    assert np.isnan(asked[:, 2]).all()


def proposal(outcomes: tuple[Outcome, ...] | None, *wishes: Wish) -> Proposal:
    image = np.array([[0, 1], [1, 1]], dtype=np.uint8)
    compositions = np.array([[0.25, 0.75], [1.0, 0.0]])
    designs = tuple(
        Candidate(("a", "b"), ("Ni", "Al"), image, compositions, {"temperature_K": t})
        for t in (900.0, 950.0)
    )
    requests = np.array([[190.0, 8.1, np.nan], [190.0, 8.15, np.nan]])
    return Proposal(PROPERTIES, wishes, designs, requests, outcomes, (), {})


def test_requested_beside_simulated() -> None:
    found = (
        Outcome("ok", {"youngs_modulus_GPa": 191.9, "density_g_per_cm3": 8.1, "price": 4.0}),
        Outcome.failed("no convergence"),
    )
    wishes = Wish("youngs_modulus_GPa", 190, 190), Wish("density_g_per_cm3", 8.0, 8.2)
    answer = proposal(found, *wishes)
    frame = answer.frame()
    assert list(frame.columns) == [
        "id",
        "status",
        "requested_youngs_modulus_GPa",
        "youngs_modulus_GPa",
        "requested_density_g_per_cm3",
        "density_g_per_cm3",
        "error_%",
        "price",
        "reason",
    ]
    assert frame["error_%"][0] == pytest.approx(1.0)
    assert np.isnan(frame["error_%"][1])
    assert frame["reason"][1] == "no convergence"
    beyond = proposal(found, Wish("density_g_per_cm3", 8.2, 9.0))
    assert beyond.errors()[0] == pytest.approx(100 * (8.2 - 8.1) / 8.2)


def test_what_was_not_scored_shows_requests_alone() -> None:
    answer = proposal(None)
    assert list(answer.frame().columns) == [
        "id",
        "requested_youngs_modulus_GPa",
        "requested_density_g_per_cm3",
    ]
    table = answer.table()
    assert table["a:Al"].tolist() == [0.75, 0.75]
    assert table["temperature_K"].tolist() == [900.0, 950.0]
    drawn = answer.pictures()
    assert drawn is not None
    assert drawn.shape == (2 * 2 + 4, 2 * (2 * 2 + 4))
    assert set(np.unique(drawn)) == {0, 128, 255}
