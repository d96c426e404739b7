"""A fit by several processes of one machine gives the generator that one process gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from generators.flow import JointFlow
from generators.gan import JointGAN
from generators.joint_vae import JointVAE
from generators.together import fit_together
from loop.errors import InvalidInputError
from loop.protocols import silent
from tests import libraries
from tests.generators import made

KIND = "compositions"


def untrained(name: str, processes: int) -> Any:
    return made.untrained(name, KIND, training={"processes": processes})


def trained(name: str, processes: int) -> Any:
    flow = untrained(name, processes)
    designs = libraries.scored(flow.library.draw(40, rng=np.random.default_rng(0)))
    return flow.fit(designs, rng=np.random.default_rng(1))


def test_two_processes_take_the_steps_of_one(tmp_path: Path) -> None:
    """Up to the order of summation, which 30 steps blow up to some 1e-4 of the weights."""
    alone, both = trained("joint-flow", 1), trained("joint-flow", 2)
    assert isinstance(both, JointFlow)
    noise = np.random.default_rng(3).standard_normal((8, alone.trained_network().state_size))
    start, asked = torch.from_numpy(noise).float(), np.full((8, 1), 8.1)
    with torch.no_grad():
        found, expected = (flow.sample(start, asked, 2.0) for flow in (both, alone))
    torch.testing.assert_close(found, expected, atol=1e-2, rtol=1e-2)
    assert not torch.equal(found, torch.zeros_like(found))
    assert both.metrics["final_loss"] == pytest.approx(alone.metrics["final_loss"], rel=1e-2)
    assert both.metrics["rows"] == 40
    assert both.save(tmp_path)[1].exists()
    for design in both.propose(4, both.targets, guidance=2.0, rng=np.random.default_rng(2)):
        assert both.space.violations(design) == []


@pytest.mark.parametrize("name", ["vae", "gan"])
def test_the_joint_autoencoder_and_the_adversarial_one_too(name: str) -> None:
    found = trained(name, 2)
    assert isinstance(found, JointVAE | JointGAN)
    assert np.isfinite(list(found.figures.values())).all()
    assert len(found.propose(3, found.targets, guidance=1.0, rng=np.random.default_rng(0))) == 3


def test_what_goes_wrong_is_said_as_by_one_process() -> None:
    flow = untrained("joint-flow", 2)
    with pytest.raises(InvalidInputError, match="record"):
        fit_together(flow, [], np.random.default_rng(0), silent)
    cuda = untrained("joint-flow", 64)
    cuda.device = "cuda"
    with pytest.raises(InvalidInputError, match="processes is 64, but there are"):
        fit_together(cuda, [], np.random.default_rng(0), silent)
