"""The joint flow and the joint diffusion with a regressor of noised states: trained, kept, used."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from generators.flow import JointFlow
from loop.candidate import Candidate
from loop.errors import InvalidCampaignError, InvalidInputError
from tests import libraries
from tests.generators import made

VAE = {"steps": 30}
REGRESSOR = {"train": True, "width": 16, "depth": 1, "heads": 2, "channels": 8, "batch": 64}
LENGTHS = {"first_steps": 30, "retrain_steps": 10}


def untrained(name: str, kind: str, **more: Any) -> JointFlow:
    found = made.untrained(name, kind, **{"vae": VAE, "regressor": REGRESSOR | LENGTHS} | more)
    assert isinstance(found, JointFlow)
    return found


@cache
def trained(name: str, kind: str) -> JointFlow:
    flow = untrained(name, kind)
    designs = flow.library.draw(40, rng=np.random.default_rng(0))
    return flow.fit(libraries.scored(designs), rng=np.random.default_rng(1))


def proposals(flow: JointFlow, guidance: float = 2.0, n: int = 8) -> list[Candidate]:
    return flow.propose(n, flow.targets, guidance=guidance, rng=np.random.default_rng(2))


CASES = [
    ("joint-flow", "image and compositions"),
    ("joint-flow", "process"),
    ("diffusion", "compositions"),
]


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_at_guidance_zero_it_changes_nothing_and_above_it_leads(name: str, kind: str) -> None:
    flow = trained(name, kind)
    led = flow.guided_by("regressor")
    k = len(flow.properties)
    noise = np.random.default_rng(3).standard_normal((6, flow.trained_network().state_size))
    start = torch.from_numpy(noise).float()
    asked, nothing = np.full((6, k), 0.4), np.full((6, k), np.nan)
    with torch.no_grad():
        free = flow.sample(start, nothing, 0.0)
        for requests, guidance in ((asked, 0.0), (nothing, 0.0), (nothing, 2.0)):
            assert torch.equal(led.sample(start, requests, guidance), free)
        found = led.sample(start, asked, 2.0)
    assert not torch.equal(found, free)
    assert not torch.equal(found, flow.sample(start, asked, 2.0))
    assert proposals(led, 0.0) == proposals(flow, 0.0)
    assert proposals(led) != proposals(flow)
    assert led.guided_by("classifier-free").settings.guide == "classifier-free"
    assert proposals(led.guided_by("classifier-free")) == proposals(flow)


def test_the_generator_is_what_it_is_without_one() -> None:
    """Training a regressor comes last and draws nothing from what the others draw."""
    kind = "compositions"
    with_one = trained("joint-flow", kind)
    plain = untrained("joint-flow", kind, regressor={"train": False})
    designs = plain.library.draw(40, rng=np.random.default_rng(0))
    without = plain.fit(libraries.scored(designs), rng=np.random.default_rng(1))
    assert with_one.regressor is not None
    assert without.regressor is None
    assert proposals(without) == proposals(with_one)
    with pytest.raises(InvalidInputError, match="joint-flow has no regressor of noised states"):
        without.guided_by("regressor")
    with pytest.raises(InvalidInputError, match=r"guide 'regresor'.*did you mean 'regressor'"):
        without.guided_by("regresor")
    with pytest.raises(InvalidInputError, match="not trained; call fit"):
        plain.guided_by("classifier-free")


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_a_checkpoint_has_it_and_the_next_round_trains_it_on(
    name: str, kind: str, tmp_path: Path
) -> None:
    flow = trained(name, kind)
    digest, path = flow.save(tmp_path)
    # Its sizes come from the file.
    other = untrained(name, kind, regressor={"train": True, **LENGTHS})
    back = other.load(path)
    assert proposals(back.guided_by("regressor")) == proposals(flow.guided_by("regressor"))
    assert back.settings.regressor.width == REGRESSOR["width"]
    more = libraries.scored(flow.library.draw(20, rng=np.random.default_rng(7)))
    first = flow.fit(more, rng=np.random.default_rng(8))
    assert first.regressor is not None
    assert first.regressor.readout is flow.regressor.readout  # type: ignore[union-attr]
    assert proposals(first.guided_by("regressor")) != proposals(flow.guided_by("regressor"))
    assert np.isfinite(first.metrics["regressor_final_loss"])
    back.settings = flow.settings  # lengths of training
    again = back.fit(more, rng=np.random.default_rng(8))
    assert first.save(tmp_path)[0] == again.save(tmp_path)[0] != digest


def test_one_that_is_wanted_later_is_trained_from_the_first_step_on(tmp_path: Path) -> None:
    plain = untrained("joint-flow", "compositions", regressor={"train": False})
    designs = libraries.scored(plain.library.draw(40, rng=np.random.default_rng(0)))
    _, path = plain.fit(designs, rng=np.random.default_rng(1)).save(tmp_path)
    wanted = untrained("joint-flow", "compositions", guide="regressor")
    back = wanted.load(path)
    with pytest.raises(InvalidInputError, match="has no regressor of noised states"):
        proposals(back)
    assert len(proposals(back, 0.0)) == 8
    found = back.fit(designs, rng=np.random.default_rng(2))
    assert len(proposals(found)) == 8
    assert found.settings.guide == "regressor"


def test_settings_that_do_not_fit() -> None:
    with pytest.raises(InvalidCampaignError, match="width is 30; expected a multiple of 4"):
        untrained("joint-flow", "compositions", regressor={"width": 30})
    with pytest.raises(InvalidCampaignError, match="channels is 12; expected a multiple of 8"):
        untrained("diffusion", "compositions", regressor={"channels": 12})
    with pytest.raises(InvalidCampaignError, match="guide is 'surrogate'; expected class"):
        untrained("joint-flow", "compositions", guide="surrogate")
    with pytest.raises(InvalidCampaignError, match="train is 'yes'; expected true or false"):
        untrained("joint-flow", "compositions", regressor={"train": "yes"})
