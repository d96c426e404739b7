"""What ``spinodal verify simulators`` shows of correlation statistics and of gradients."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest
import torch

from loop.verification import Case, all_passed
from simulators import adjoint_energies, verification_gradients, verification_statistics
from simulators.correlation import two_point
from simulators.surface import specific_surface

ROOMS = [verification_statistics, verification_gradients]
Shown = dict[str, list[Case]]


@pytest.fixture(scope="module")
def shown() -> Shown:
    return {room.__name__: room.cases() for room in ROOMS}


@pytest.mark.parametrize("room", ROOMS, ids=lambda room: room.__name__)
def test_every_case_passes(room: ModuleType, shown: Shown) -> None:
    found = shown[room.__name__]
    assert all_passed(found), [case for case in found if not case.passed]


@pytest.mark.parametrize("room", ROOMS, ids=lambda room: room.__name__)
def test_cases_have_names_of_their_own_and_sources(room: ModuleType, shown: Shown) -> None:
    found = shown[room.__name__]
    assert len({case.name for case in found}) == len(found) >= 10
    assert all(case.room == "simulators" and case.source for case in found)


def missed(room: ModuleType) -> set[str]:
    return {case.name for case in room.cases() if not case.passed}


def test_a_shift_of_one_pixel_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(*fields: np.ndarray, periodic: bool = True) -> np.ndarray:
        return np.roll(two_point(*fields, periodic=periodic), 1, -1)

    monkeypatch.setattr(verification_statistics, "two_point", wrong)
    found = missed(verification_statistics)
    assert "two-point, cross, periodic, against counting" in found
    assert "two-point, independent pixels at 0" in found
    assert "two-point of a disc at 10 px" in found


def test_pixel_edges_for_a_boundary_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """4 / pi of the two-directional estimate is the length of pixel edges."""

    def wrong(field: np.ndarray | torch.Tensor, directions: int = 4) -> np.ndarray | torch.Tensor:
        return 4 / np.pi * specific_surface(field, directions=directions)

    monkeypatch.setattr(verification_statistics, "specific_surface", wrong)
    found = missed(verification_statistics)
    assert "specific surface of a disc, crossings in two directions" in found
    assert "specific surface of overlapping discs" in found
    assert "specific surface of a disc, slope of the two-point correlation" not in found


def test_a_wrong_slope_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """Off-diagonal slopes counted once instead of twice."""

    def wrong(slopes: list[torch.Tensor], components: int) -> list[torch.Tensor]:
        m = slopes[0].ndim - 1
        halved = [slope if place < m else 0.5 * slope for place, slope in enumerate(slopes)]
        return right(halved, components)

    right = adjoint_energies._gathered
    monkeypatch.setattr(adjoint_energies, "_gathered", wrong)
    found = missed(verification_gradients)
    assert "conductivity, gradient with respect to tensors of a laminate, 3-D" in found
    name = "conductivity, gradient with respect to the properties of three isotropic phases, 3-D"
    assert name not in found
