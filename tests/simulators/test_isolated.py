"""What foreign code may do to its process, and what that costs."""

from __future__ import annotations

import pickle
from collections.abc import Iterator

import numpy as np
import pytest

from loop.candidate import Candidate, Origin, Outcome
from loop.errors import InvalidCampaignError
from loop.space import DesignSpace
from simulators import registry
from simulators.isolated import Isolated
from tests.simulators.designs import COMPOSITE, composite, composites
from tests.simulators.unruly import Unruly

SPACE = DesignSpace(phases=("a", "b"), image_shape=(4, 4), process={"deed": (0.0, 4.0)})
FACTORY = "tests.simulators.unruly:create"


def design(deed: int, seed: int = 0) -> Candidate:
    image = np.random.default_rng(seed).integers(0, 2, (4, 4)).astype(np.uint8)
    origin = Origin("x", 1.0, {"requested": {"fraction": 0.5}})
    return Candidate(
        phases=("a", "b"), microstructure=image, process={"deed": float(deed)}, origin=origin
    )


@pytest.fixture(scope="module")
def unruly() -> Iterator[Isolated]:
    made = Isolated("unruly", FACTORY, space=SPACE, timeout_s=2.0)
    yield made
    made.close()


def test_values_travel_between_processes_unchanged() -> None:
    candidate = design(0)
    back = pickle.loads(pickle.dumps(candidate))
    assert back.id == candidate.id
    assert dict(back.process) == dict(candidate.process)
    assert (back.origin.source, dict(back.origin.details)) == (
        candidate.origin.source,
        dict(candidate.origin.details),
    )
    outcome = Outcome("ok", {"x": 1.0}, {"x": (0.5, 1.5)}, {"steps": 3})
    assert pickle.loads(pickle.dumps(outcome)) == outcome


def test_it_is_what_the_simulator_is(unruly: Isolated) -> None:
    plain = Unruly()
    assert (unruly.name, unruly.version) == ("unruly", plain.version)
    assert (unruly.outputs, unruly.limits) == (plain.outputs, plain.limits)
    designs = [design(0, seed) for seed in range(4)]
    assert unruly.evaluate(designs) == plain.evaluate(designs)
    assert unruly.evaluate([]) == []


def test_each_misdeed_costs_one_outcome(unruly: Isolated) -> None:
    found = unruly.evaluate([design(deed, seed) for seed, deed in enumerate((0, 1, 2, 0, 3, 4, 0))])
    assert [o.status for o in found] == ["ok", "failed", "failed", "ok", "failed", "failed", "ok"]
    assert found[1].reason == "unruly raised RuntimeError: no luck"
    assert found[2].reason == "unruly gave no answer within 2 s"
    assert found[4].reason == "unruly ended its process (signal SIGKILL)"
    assert found[5].reason == "unruly ended its process (exit code 7)"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"refuse": 1}, "unruly: refuse is set; leave it out"),
        ({"die": 1}, "unruly ended its process at the start (exit code 9)"),
    ],
)
def test_one_that_cannot_be_made_is_refused(settings: dict[str, int], message: str) -> None:
    with pytest.raises(InvalidCampaignError) as caught:
        Isolated("unruly", FACTORY, space=SPACE, settings=settings, timeout_s=5.0)
    assert str(caught.value) == message


def test_a_built_in_one_gives_the_same_behind_the_boundary() -> None:
    images = np.random.default_rng(0).integers(0, 2, (2, 16, 16)).astype(np.uint8)
    space, designs = composite(), composites(images)
    given = {"space": space, "settings": {"phase_properties": COMPOSITE}}
    plain = registry.create("composite-chain", **given)  # type: ignore[arg-type]
    apart = registry.create("composite-chain", **given, timeout_s=60.0)  # type: ignore[arg-type]
    assert isinstance(apart, Isolated)
    assert apart.version == plain.version
    for a, b in zip(apart.evaluate(designs), plain.evaluate(designs), strict=True):
        assert (a.status, dict(a.values), dict(a.bounds)) == (
            b.status,
            dict(b.values),
            dict(b.bounds),
        )
    apart.close()


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(InvalidCampaignError, match="composite-chain"):
        registry.create("composite-chian", space=composite(), timeout_s=1.0)
