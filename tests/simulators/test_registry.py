"""Simulators by name, ours and those of another package."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from loop.candidate import Candidate
from loop.errors import InvalidCampaignError, InvalidInputError
from loop.protocols import Simulator
from loop.space import DesignSpace
from simulators.registry import available, create, create_all
from tests.simulators.designs import superalloy

PLUG_IN = """
from loop.candidate import Outcome


class Constant:
    name = "constant"
    version = "1"
    outputs = {"answer": "1"}

    def __init__(self, value):
        self.value = value

    def evaluate(self, candidates):
        return [Outcome("ok", {"answer": self.value}) for _ in candidates]


def create(*, space, settings, device):
    return Constant(settings["value"])
"""


@pytest.fixture
def plug_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another package, installed as far as Python can tell."""
    (tmp_path / "spinodal_test_plug_in.py").write_text(PLUG_IN)
    metadata = tmp_path / "spinodal_test_plug_in-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: spinodal-test\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(
        "[spinodal.simulators]\n"
        "constant = spinodal_test_plug_in:create\n"
        "broken = spinodal_test_missing:create\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))


def test_the_chain_is_there() -> None:
    assert "composite-chain" in available()
    assert isinstance(create("composite-chain", space=superalloy()), Simulator)


@pytest.mark.usefixtures("plug_in")
def test_another_packages_simulator() -> None:
    assert {"composite-chain", "constant"} <= set(available())
    simulator = create("constant", space=superalloy(), settings={"value": 3.0})
    assert isinstance(simulator, Simulator)
    assert simulator.evaluate([]) == []


@pytest.mark.usefixtures("plug_in")
def test_a_broken_package_is_named() -> None:
    with pytest.raises(InvalidCampaignError, match=r"'broken'.*cannot be loaded.*reinstall"):
        create("broken", space=superalloy())


@pytest.mark.parametrize("name", ["composite-chian", "composite_chain"])
def test_an_unknown_name_offers_the_nearest(name: str) -> None:
    with pytest.raises(InvalidCampaignError, match="did you mean 'composite-chain'"):
        create(name, space=superalloy())


def test_relative_paths_start_at_the_campaigns_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever the program was started."""
    image = np.zeros((8, 8), dtype=np.uint8)
    image[:4] = 1
    Image.fromarray(image).save(tmp_path / "like_this.png")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    space = DesignSpace(phases=("a", "b"), image_shape=(8, 8))
    settings = {"correlation": {"reference": "like_this.png"}}
    (found,) = create_all(["correlation"], space=space, settings=settings, folder=tmp_path)
    (outcome,) = found.evaluate([Candidate(phases=("a", "b"), microstructure=image)])
    assert outcome.values["two_point_distance"] == 0
    with pytest.raises(InvalidInputError, match="like_this"):
        create("correlation", space=space, settings=settings["correlation"])
