"""The adapters' part of `spinodal verify generators` would not pass if the code were wrong."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from generators import verification_adapters
from generators.networks.adapters import LowRank
from generators.networks.dit import CrossAttention
from loop.verification import all_passed

MADE = LowRank.__init__


def test_every_case_passes() -> None:
    cases = verification_adapters.cases()
    assert all_passed(cases)
    assert {case.room for case in cases} == {"generators"}
    assert len({case.name for case in cases}) == len(cases) == 8
    assert all(case.source for case in cases)


def not_zero(self: LowRank, *given: Any) -> None:
    MADE(self, *given)
    nn.init.normal_(self.up, std=0.01)


def unscaled(self: LowRank) -> nn.Module:
    with torch.no_grad():
        self.layer.weight += (self.up @ self.down).reshape(self.layer.weight.shape)
    return self.layer


def averaged(_: CrossAttention, x: Tensor, others: Tensor) -> Tensor:
    """No projection of the values."""
    return others.mean(1, keepdim=True).expand_as(x)


@pytest.mark.parametrize(
    ("owner", "name", "wrong", "failing"),
    [
        (LowRank, "__init__", not_zero, "low-rank adapters at initialisation"),
        (LowRank, "merged", unscaled, "low-rank adapters merged"),
        (CrossAttention, "forward", averaged, "cross-attention"),
    ],
)
def test_an_error_is_seen(
    monkeypatch: pytest.MonkeyPatch, owner: type, name: str, wrong: Any, failing: str
) -> None:
    monkeypatch.setattr(owner, name, wrong)
    found = [case.name for case in verification_adapters.cases() if not case.passed]
    assert any(case.startswith(failing) for case in found)


def test_projections_that_do_not_begin_at_zero_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("generators.networks.control._zero", lambda layer: layer)
    found = [case.name for case in verification_adapters.cases() if not case.passed]
    assert found == ["control branch at initialisation, change of the output"]
