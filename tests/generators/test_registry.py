"""Generators by name, settings and device: what is wrong is said in one line."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from generators import registry
from generators.baseline import LibraryDraw, Mutation
from generators.flow import JointFlow
from generators.joint_vae import JointVAE
from loop.errors import InvalidCampaignError
from loop.protocols import Generator
from loop.space import DesignSpace
from tests import libraries

SPACE = libraries.SPACES["compositions"]
LIBRARY = libraries.library(SPACE)

PLUG_IN = """
from generators.baseline import LibraryDraw


def create(*, space, library, targets, properties, settings, preset, device):
    found = LibraryDraw(library)
    found.name = settings["name"]
    return found
"""


def make(name: str = "joint-flow", *, space: DesignSpace = SPACE, **given: Any) -> Generator:
    return registry.create(
        name,
        space=space,
        library=LIBRARY,
        targets=libraries.targets(space),
        properties=libraries.properties(space),
        **given,
    )


def test_names_and_what_they_make() -> None:
    assert set(registry.available()) >= {"joint-flow", "library", "mutation", "random-field", "vae"}
    kinds = {"joint-flow": JointFlow, "library": LibraryDraw, "mutation": Mutation, "vae": JointVAE}
    for name, kind in kinds.items():
        made = make(name)
        assert isinstance(made, kind)
        assert isinstance(made, Generator)
        assert made.name == name


def test_settings_replace_those_of_the_preset() -> None:
    made = make(preset="tiny", settings={"width": 64, "vae": {"steps": 7}})
    assert isinstance(made, JointFlow)
    tiny = registry.PRESETS["tiny"]
    assert (made.settings.width, made.settings.vae.steps) == (64, 7)
    assert (made.settings.depth, made.settings.vae.width) == (tiny.depth, tiny.vae.width)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"name": "joint-flaw"}, "unknown generator 'joint-flaw'; did you mean 'joint-flow'"),
        ({"preset": "gpus"}, "unknown preset 'gpus'; did you mean 'gpu'"),
        ({"settings": {"widht": 3}}, "generator.settings: unknown key 'widht'; did you mean 'wid"),
        (
            {"settings": {"vae": {"kl_wieght": 1.0}}},
            "generator.settings.vae: unknown key 'kl_wieght'; did you mean 'kl_weight'",
        ),
        ({"settings": {"vae": 3}}, "generator.settings.vae is 3; expected a table"),
        ({"settings": {"width": "big"}}, "settings.width is 'big'; expected a whole number > 0"),
        ({"settings": {"depth": True}}, "settings.depth is True; expected a whole number > 0"),
        ({"settings": {"batch": 0}}, "settings.batch is 0; expected a whole number > 0"),
        ({"settings": {"depth": 1.5}}, "settings.depth is 1.5; expected a whole number > 0"),
        ({"settings": {"dropout": -0.1}}, "settings.dropout is -0.1; expected a number >= 0"),
        (
            {"settings": {"learning_rate": float("nan")}},
            "settings.learning_rate is nan; expected a number >= 0",
        ),
        ({"settings": {"width": 130}}, "width is 130 and heads is 4; expected a width that is a"),
        ({"settings": {"vae": {"width": 12}}}, "width is 12; expected a multiple of 8"),
        ({"name": "mutation", "settings": {"elite": 3}}, "has 'elite', but mutation takes no sett"),
        ({"name": "library", "settings": {"a": 3}}, "has 'a', but library takes no settings"),
        ({"device": "gpu"}, "compute.device is 'gpu'; expected cpu, cuda or cuda:N"),
        ({"device": "meta"}, "compute.device is 'meta'; expected cpu, cuda or cuda:N"),
    ],
)
def test_what_cannot_be_used_is_named(given: Mapping[str, Any], message: str) -> None:
    with pytest.raises(InvalidCampaignError) as caught:
        make(**given)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_absent_device_is_no_reason_to_fall_back() -> None:
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    with pytest.raises(InvalidCampaignError, match=r"compute\.device is .cuda:99.") as caught:
        make(device="cuda:99")
    hint = f"the last one is cuda:{count - 1}" if count else "set it to cpu"
    assert hint in str(caught.value)


@pytest.mark.parametrize("side", [20, 24, 40])
def test_images_that_no_latent_fits(side: int) -> None:
    space = DesignSpace(("a", "b"), (), (side, side))
    with pytest.raises(InvalidCampaignError, match=f"{side} x {side} pixels; expected a multiple"):
        make(space=space)
    assert make(space=DesignSpace(("a", "b"), (), (32, 48)))


def test_another_package_brings_a_generator(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "spinodal_test_generators.py").write_text(PLUG_IN)
    metadata = tmp_path / "spinodal_test_generators-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Name: spinodal-test-generators\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(
        "[spinodal.generators]\nelsewhere = spinodal_test_generators:create\n"
        "gone = spinodal_test_absent:create\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    assert "elsewhere" in registry.available()
    assert make("elsewhere", settings={"name": "theirs"}).name == "theirs"
    with pytest.raises(InvalidCampaignError, match=r"'gone'.*cannot be loaded.*reinstall"):
        make("gone")
