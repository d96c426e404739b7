"""Two simulators of one campaign never give the same property."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from loop.candidate import Candidate, Outcome
from loop.checks import check_outputs
from loop.errors import InvalidCampaignError
from loop.protocols import Simulator


class Given:
    """A simulator of some properties."""

    version = "1"

    def __init__(self, name: str, *properties: str) -> None:
        self.name = name
        self.outputs: Mapping[str, str] = dict.fromkeys(properties, "1")

    def evaluate(self, candidates: Sequence[Candidate]) -> list[Outcome]:
        return [Outcome("ok", dict.fromkeys(self.outputs, 0.5)) for _ in candidates]


def test_properties_of_their_own_pass() -> None:
    simulators: list[Simulator] = [Given("x", "a", "b"), Given("y", "c")]
    check_outputs(simulators)
    check_outputs([])


@pytest.mark.parametrize(
    "simulators",
    [
        [Given("x", "a", "b"), Given("y", "b")],
        [Given("x", "a", "b"), Given("z", "c"), Given("y", "d", "b", "e")],
    ],
)
def test_a_property_given_twice_is_refused(simulators: list[Simulator]) -> None:
    with pytest.raises(InvalidCampaignError) as caught:
        check_outputs(simulators)
    assert str(caught.value) == (
        "simulators.use: 'x' and 'y' both give b; let only one of them give it (leave it out of "
        "the other's outputs) or use only one of them"
    )


def test_so_is_one_simulator_used_twice() -> None:
    with pytest.raises(InvalidCampaignError, match="'x' and 'x' both give a"):
        check_outputs([Given("x", "a"), Given("x", "a")])
