"""campaign.toml: what loads, what is refused and how, and what the hash depends on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from loop.campaign import Campaign, load_campaign
from loop.errors import InvalidCampaignError, InvalidInputError

EXAMPLE = Path(__file__).parents[2] / "examples" / "superalloy"
TEXT = """
[campaign]
name = "test"
seed = 3

[space]
phases = ["a", "b"]
elements = ["Ni", "Al"]

[space.bounds.a]
Al = [0.0, 0.2]

[images]
folder = "labels"
labels = ["a", "b"]
patch = 32

[compositions]
file = "table.csv"

[targets.density_g_per_cm3]
range = [8.0, 8.2]

[targets.youngs_modulus_GPa]
maximise = true
at_least = 200

[simulators]
use = ["composite-chain"]

[loop]
rounds = 3
"""


def _load(folder: Path, text: str = TEXT, **overrides: Any) -> Campaign:
    (folder / "campaign.toml").write_text(text, encoding="utf-8")
    return load_campaign(folder, **overrides)


def test_everything_arrives(tmp_path: Path) -> None:
    campaign = _load(tmp_path)
    assert (campaign.name, campaign.seed) == ("test", 3)
    assert campaign.folder == tmp_path.resolve()
    assert campaign.space.image_shape == (32, 32)
    assert campaign.space.bounds == {"a": {"Al": (0.0, 0.2)}}
    assert campaign.targets.properties == ("density_g_per_cm3", "youngs_modulus_GPa")
    assert campaign.loop.rounds == 3
    assert campaign.loop.batch == 60
    assert campaign.compute.device == "cpu"
    assert load_campaign(tmp_path / "campaign.toml").settings == campaign.settings


def test_the_example_loads() -> None:
    campaign = load_campaign(EXAMPLE)
    assert campaign.space.phases == ("gamma", "gamma_prime")
    assert campaign.images is not None
    assert campaign.images.labels == ("gamma", "gamma_prime", "gamma_prime")


def test_settings_round_trip_as_json(tmp_path: Path) -> None:
    campaign = _load(tmp_path)
    assert json.loads(campaign.settings_json()) == campaign.settings


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("rounds = 3", "ronds = 3", r"\[loop\]: unknown key 'ronds'; did you mean 'rounds'\?"),
        ("[loop]", "[lop]", r"toml: unknown key 'lop'; did you mean 'loop'\?"),
        ("patch = 32", "pacth = 32", r"\[images\]: unknown key 'pacth'; did you mean 'patch'\?"),
        ("rounds = 3", "rounds = 0", "loop.rounds is 0: input should be greater than or equal"),
        ("rounds = 3", "budget = 0", "loop.budget is 0: input should be greater than or equal"),
        ("rounds = 3", 'rounds = "x"', "loop.rounds is 'x': input should be a valid integer"),
        ('name = "test"', "", "key campaign.name is missing; add it"),
        ('name = "test"', 'name = "../x"', "campaign.name is '../x': string should match"),
        ("patch = 32", "patch = 8", "images.patch is 8: input should be greater"),
        ('labels = ["a", "b"]', 'labels = ["a", "c"]', "images.labels: unknown phase 'c'"),
        ("seed = 3", "seed = -1", "campaign.seed is -1"),
        ("seed = 3", f"seed = {2**63}", "campaign.seed is 9223372036854775808"),
        ("rounds = 3", "guidance = []", r"loop.guidance is \[\]; expected at least one entry"),
        ("rounds = 3", "guidance = [-1.0]", r"loop.guidance.0 is -1.0: input should be greater"),
        ("rounds = 3", "guidance = [nan]", "loop.guidance.0 is nan: input should be"),
        ("rounds = 3", "diversity = inf", "loop.diversity is inf: input should be a finite"),
        (
            "[loop]",
            "[simulators.settings.x]\n[loop]",
            r"simulators.settings: unknown simulator 'x'",
        ),
        ('labels = ["a", "b"]', "labels = []", r"images.labels is \[\]; expected at least one"),
        ("Al = [0.0, 0.2]", "Al = [0.2]", r"bounds.a.Al is \[0.2\]; expected \[low, high\]"),
        ("Al = [0.0, 0.2]", "Al = [0, 1, 2]", r"a.Al is \[0, 1, 2\]; expected \[low, high\]"),
        ("Al = [0.0, 0.2]", "Al = 0.2", r"a.Al is 0.2; expected a list in square brackets"),
        ('elements = ["Ni", "Al"]', 'elements = ["Ni", "AL"]', "'AL'; did you mean 'Al'"),
        ("Al = [0.0, 0.2]", "Ax = [0.0, 0.2]", "unknown element 'Ax'; did you mean 'Al'"),
        ("[space.bounds.a]", "[space.bounds.c]", "unknown phase 'c'"),
        ('[compositions]\nfile = "table.csv"', "", r"elements and \[compositions\] go together"),
        ("range = [8.0, 8.2]", "range = [8.2, 8.0]", "target density_g_per_cm3: range"),
        ("range = [8.0, 8.2]", "value = 8\ntolerence = 1", "'tolerence'; did you mean 'tolerance'"),
        ("seed = 3", "seed = 3 4", "is not valid TOML"),
        ("[loop]", '[generator]\npreset = "huge"\n[loop]', "generator.preset is 'huge'"),
    ],
)
def test_what_a_campaign_must_not_say(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in TEXT
    with pytest.raises(InvalidCampaignError, match=message) as caught:
        _load(tmp_path, TEXT.replace(old, new))
    assert "\n" not in str(caught.value)


def test_no_targets(tmp_path: Path) -> None:
    cut = TEXT[: TEXT.index("[targets.")] + TEXT[TEXT.index("[simulators]") :]
    with pytest.raises(InvalidCampaignError, match="targets"):
        _load(tmp_path, cut)
    with pytest.raises(InvalidCampaignError, match=r"no targets; add at least one \[targets"):
        _load(tmp_path, cut + "\n[targets]\n")


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"no campaign file at .*spinodal new"):
        load_campaign(tmp_path / "none")
    with pytest.raises(InvalidInputError, match="no campaign file at"):
        load_campaign(tmp_path)
    (tmp_path / "campaign.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(InvalidInputError, match=r"cannot read .*UTF-8"):
        load_campaign(tmp_path)


def test_overrides_replace_keys_of_a_section(tmp_path: Path) -> None:
    campaign = _load(tmp_path, loop={"batch": 7}, compute={"device": "cuda"})
    assert (campaign.loop.rounds, campaign.loop.batch) == (3, 7)
    assert campaign.compute.device == "cuda"
    with pytest.raises(InvalidCampaignError, match="unknown key 'btach'; did you mean 'batch'"):
        _load(tmp_path, loop={"btach": 7})
    flat = "loop = 3\n" + TEXT[: TEXT.index("[loop]")]
    with pytest.raises(InvalidCampaignError, match="loop is 3; expected a table"):
        _load(tmp_path, flat, loop={"batch": 7})


def test_hash_knows_what_decides_the_results(tmp_path: Path) -> None:
    campaign = _load(tmp_path)
    same: list[dict[str, Any]] = [
        {"compute": {"device": "cuda", "threads": 8}},
        {"loop": {"rounds": 30, "budget": 999, "stop_hits": 5, "stagnation_rounds": 2}},
    ]
    other: list[dict[str, Any]] = [
        {"campaign": {"seed": 4}},
        {"loop": {"batch": 61}},
        {"generator": {"settings": {"width": 3}}},
        {"targets": {"density_g_per_cm3": {"range": [8.0, 8.3]}}},
    ]
    for overrides in same:
        assert _load(tmp_path, **overrides).settings_hash() == campaign.settings_hash()
    hashes = {_load(tmp_path, **overrides).settings_hash() for overrides in other}
    assert len(hashes | {campaign.settings_hash()}) == len(other) + 1


def test_image_only_and_composition_only(tmp_path: Path) -> None:
    images = TEXT[TEXT.index("[images]") : TEXT.index("[compositions]")]
    only_compositions = _load(tmp_path, TEXT.replace(images, ""))
    assert only_compositions.space.image_shape is None
    text = TEXT.replace('elements = ["Ni", "Al"]', "").replace(
        "[space.bounds.a]\nAl = [0.0, 0.2]", ""
    )
    only_images = _load(tmp_path, text.replace('[compositions]\nfile = "table.csv"', ""))
    assert only_images.space.elements == ()
    assert only_images.compositions is None


def test_a_simulator_named_twice_is_refused(tmp_path: Path) -> None:
    text = TEXT.replace('use = ["composite-chain"]', 'use = ["composite-chain", "composite-chain"]')
    with pytest.raises(InvalidCampaignError, match="names 'composite-chain' more than once; name"):
        _load(tmp_path, text)


# A library that a simulator makes

MADE = (
    TEXT.replace("[images]", "[library]")
    .replace('folder = "labels"\nlabels = ["a", "b"]\n', 'source = "heat-treatment"\n')
    .replace('[compositions]\nfile = "table.csv"\n', "")
)


def test_a_made_library_gives_images_and_compositions(tmp_path: Path) -> None:
    campaign = _load(tmp_path, MADE)
    assert campaign.library is not None
    assert campaign.library.source == "heat-treatment"
    assert campaign.space.image_shape == (32, 32)
    assert campaign.images is None
    assert campaign.compositions is None
    other = _load(tmp_path, MADE.replace("patch = 32", "patch = 32\nseed = 1"))
    assert other.settings_hash() != campaign.settings_hash()


def test_campaigns_without_a_made_library_keep_their_hash(tmp_path: Path) -> None:
    """Ledgers of before know no [library]."""
    assert "library" not in _load(tmp_path).settings


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[library]", '[images]\nfolder = "x"\nlabels = ["a"]\n[library]', "would bring"),
        ("[library]", '[compositions]\nfile = "x"\n[library]', r"\[compositions\] would bring"),
        ('elements = ["Ni", "Al"]\n\n[space.bounds.a]\nAl = [0.0, 0.2]', "", "has no elements"),
        ('source = "heat-treatment"', "", "key library.source is missing"),
        ("patch = 32", "pach = 32", r"\[library\]: unknown key 'pach'; did you mean 'patch'"),
    ],
)
def test_what_a_made_library_cannot_be(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in MADE
    with pytest.raises(InvalidCampaignError, match=message):
        _load(tmp_path, MADE.replace(old, new))
