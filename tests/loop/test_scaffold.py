"""``spinodal new``: a campaign that loads, from a user's data; or nothing at all."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from loop.campaign import load_campaign
from loop.errors import InvalidInputError, SpinodalError
from loop.library import Library
from loop.scaffold import new_campaign
from loop.targets import Minimise, Range

EXAMPLE = Path(__file__).parents[2] / "examples" / "superalloy"
ROWS = "a:Ni,a:Al,b:Ni,b:Al\n0.9,0.1,0.75,0.25\n1,0,0.76543,0.23457\n"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A user's folder: three label images of two phases and a table."""
    folder = tmp_path / "data"
    (folder / "images").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name in ("x", "y", "z"):
        labels = (rng.random((70, 80)) < 0.4).astype(np.uint8)
        Image.fromarray(labels).save(folder / "images" / f"{name}.png")
    (folder / "images" / "README.txt").write_text("not an image")
    (folder / "table.csv").write_text(ROWS)
    return folder


def _everything_under(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*"))


def test_images_and_compositions(data: Path, tmp_path: Path) -> None:
    path = new_campaign(
        tmp_path / "My alloy!",
        images=data / "images",
        compositions=data / "table.csv",
        properties={"youngs_modulus_GPa": "GPa", "density_g_per_cm3": "g/cm³"},
    )
    assert path == tmp_path / "My alloy!" / "campaign.toml"
    assert _everything_under(path.parent) == [
        "campaign.toml",
        "compositions.csv",
        "labels",
        "labels/x.png",
        "labels/y.png",
        "labels/z.png",
    ]
    campaign = load_campaign(path)
    assert campaign.name == "My-alloy"
    assert campaign.space.phases == ("a", "b")
    assert campaign.space.elements == ("Ni", "Al")
    assert campaign.space.image_shape == (64, 64)
    # bounds: lowest and highest of the table, rounded outwards to four decimals
    assert campaign.space.bounds["a"] == {"Ni": (0.9, 1.0), "Al": (0.0, 0.1)}
    assert campaign.space.bounds["b"] == {"Ni": (0.75, 0.7655), "Al": (0.2345, 0.25)}
    library = Library.load(campaign)
    assert library.outside == 0
    assert all(
        campaign.space.violations(d) == [] for d in library.draw(20, rng=np.random.default_rng(0))
    )
    (target,) = campaign.targets
    assert isinstance(target, Range)
    assert target.name == "b_fraction"
    assert 0.35 < target.low < target.high < 0.45
    assert "youngs_modulus_GPa" in path.read_text(encoding="utf-8")
    assert campaign.simulators.use == ("composite-chain",)


def test_the_example_could_have_been_made_so(tmp_path: Path) -> None:
    path = new_campaign(
        tmp_path / "copy",
        images=EXAMPLE / "labels",
        compositions=EXAMPLE / "compositions.csv",
        index=EXAMPLE / "index.csv",
        labels=["gamma", "gamma_prime", "gamma_prime"],
    )
    ours, theirs = (Library.load(load_campaign(p)) for p in (path, EXAMPLE))
    assert ours.data_hash == theirs.data_hash
    rng = [np.random.default_rng(0) for _ in range(2)]
    assert np.array_equal(ours.patches(50, rng=rng[0]), theirs.patches(50, rng=rng[1]))


def test_the_constraints_that_the_file_suggests_can_be_used(data: Path, tmp_path: Path) -> None:
    path = new_campaign(tmp_path / "two", compositions=data / "table.csv")
    text = path.read_text(encoding="utf-8")
    hints = ("# [space.constraints]", '# a = ["Ni + Al >= 0.5", "at most 5 elements"]')
    for hint in hints:
        assert hint in text
        text = text.replace(hint, hint.removeprefix("# "))
    path.write_text(text, encoding="utf-8")
    assert load_campaign(path).space.constraints_of("a") == ("Ni + Al >= 0.5", "at most 5 elements")
    assert load_campaign(path).space.constraints_of("b") == ()
    one = "".join(f"{line.split(',')[0]},{line.split(',')[1]}\n" for line in ROWS.splitlines())
    (data / "one.csv").write_text(one, encoding="utf-8")
    path = new_campaign(tmp_path / "one", compositions=data / "one.csv")
    hint = '# constraints = ["Ni + Al >= 0.5", "at most 5 elements"]'
    text = path.read_text(encoding="utf-8")
    assert hint in text
    path.write_text(text.replace(hint, hint.removeprefix("# ")), encoding="utf-8")
    assert load_campaign(path).space.constraints == ("Ni + Al >= 0.5", "at most 5 elements")


def test_images_only(data: Path, tmp_path: Path) -> None:
    campaign = load_campaign(new_campaign(tmp_path / "c", images=data / "images"))
    assert campaign.space.phases == ("phase_0", "phase_1")
    assert campaign.space.elements == ()
    assert campaign.targets.properties == ("phase_1_fraction",)


def test_compositions_only(data: Path, tmp_path: Path) -> None:
    campaign = load_campaign(new_campaign(tmp_path / "c", compositions=data / "table.csv"))
    assert campaign.space.image_shape is None
    assert isinstance(next(iter(campaign.targets)), Minimise)


def test_small_images_get_a_smaller_patch(data: Path, tmp_path: Path) -> None:
    image = np.eye(40, dtype=np.uint8)
    Image.fromarray(image).save(data / "images" / "x.png")
    campaign = load_campaign(new_campaign(tmp_path / "c", images=data / "images"))
    assert campaign.space.image_shape == (32, 32)


def test_phase_names_that_toml_must_quote(data: Path, tmp_path: Path) -> None:
    rows = ROWS.replace("a:", "γ matrix:").replace("b:", 'b "prime":')
    quoted = rows.splitlines()[0].replace('b "prime":', 'b ""prime"":')
    header = ",".join(f'"{c}"' for c in quoted.split(","))
    (data / "table.csv").write_text("\n".join([header, *rows.splitlines()[1:]]), encoding="utf-8")
    path = new_campaign(tmp_path / "c", images=data / "images", compositions=data / "table.csv")
    assert load_campaign(path).space.phases == ("γ matrix", 'b "prime"')


def test_an_empty_or_half_used_folder_is_welcome(data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "c"
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    new_campaign(folder, compositions=data / "table.csv")
    assert (folder / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("name", ["campaign.toml", "compositions.csv", "labels"])
def test_nothing_that_exists_is_replaced(data: Path, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "c"
    folder.mkdir()
    (folder / name).write_text("mine")
    with pytest.raises(InvalidInputError, match=f"{name} exists and is not replaced"):
        new_campaign(folder, images=data / "images", compositions=data / "table.csv")
    assert _everything_under(folder) == [name]
    assert (folder / name).read_text() == "mine"


def test_twice_the_same(data: Path, tmp_path: Path) -> None:
    path = new_campaign(tmp_path / "c", compositions=data / "table.csv")
    before = path.read_bytes()
    with pytest.raises(InvalidInputError, match="exists and is not replaced"):
        new_campaign(tmp_path / "c", compositions=data / "table.csv")
    assert path.read_bytes() == before


def _spoil(data: Path, what: str) -> None:
    images = data / "images"
    if what == "grey":
        grey = np.random.default_rng(0).integers(0, 256, (70, 70), dtype=np.uint8)
        Image.fromarray(grey).save(images / "y.png")
    elif what == "colour":
        Image.new("RGB", (70, 70)).save(images / "y.png")
    elif what == "third label":
        Image.fromarray(np.full((70, 70), 2, dtype=np.uint8)).save(images / "y.png")
    elif what == "tiny":
        Image.fromarray(np.eye(12, dtype=np.uint8)).save(images / "y.png")
    elif what == "broken":
        (images / "y.png").write_bytes(b"no")
    elif what == "empty":
        for file in images.iterdir():
            file.unlink()
    elif what == "constant":
        for file in images.glob("*.png"):
            Image.fromarray(np.zeros((70, 70), dtype=np.uint8)).save(file)
    elif what == "sum":
        (data / "table.csv").write_text(ROWS + "0.5,0.4,0.7,0.3\n")


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("grey", r"y\.png has pixel values 0, 1, .*grey micrograph"),
        ("colour", r"y\.png is in colour"),
        ("third label", r"labels up to 2 but only 2 phases .* such as a,b,b"),
        ("tiny", r"y\.png is 12 pixels wide or high; the smallest patch"),
        ("broken", r"y\.png is not readable"),
        ("empty", "holds no image"),
        ("constant", r"the train images \(x\.png\) show one phase only, a; give images"),
        ("sum", "line 4: a sums to 0.9; expected 1"),
    ],
)
def test_bad_data_leave_nothing_behind(data: Path, tmp_path: Path, what: str, message: str) -> None:
    _spoil(data, what)
    before = _everything_under(tmp_path)
    with pytest.raises(InvalidInputError, match=message):
        new_campaign(tmp_path / "c", images=data / "images", compositions=data / "table.csv")
    assert _everything_under(tmp_path) == before


def test_bad_arguments(data: Path, tmp_path: Path) -> None:
    images, table = data / "images", data / "table.csv"
    with pytest.raises(InvalidInputError, match="nothing to build a campaign from"):
        new_campaign(tmp_path / "c")
    with pytest.raises(InvalidInputError, match="index was given without images"):
        new_campaign(tmp_path / "c", compositions=table, index=table)
    with pytest.raises(InvalidInputError, match="unknown phase 'bb'; did you mean 'b'"):
        new_campaign(tmp_path / "c", images=images, compositions=table, labels=["a", "bb"])
    with pytest.raises(InvalidInputError, match="hold one phase only"):
        new_campaign(tmp_path / "c", images=images, labels=["a", "a"])
    with pytest.raises(InvalidInputError, match="is a file; give a new folder"):
        new_campaign(table, compositions=table)
    with pytest.raises(InvalidInputError, match="lacks the column"):
        new_campaign(tmp_path / "c", images=images, index=table)
    assert not (tmp_path / "c").exists()


def test_failing_rename_is_undone(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last rename (the campaign file's) fails as on a full disk: no trace stays."""
    rename = Path.rename

    def failing(self: Path, target: Path) -> Path:
        if Path(target).name == "campaign.toml":
            raise OSError(28, os.strerror(28))
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", failing)
    before = _everything_under(tmp_path)
    with pytest.raises(SpinodalError, match="No space left on device"):
        new_campaign(tmp_path / "c", images=data / "images", compositions=data / "table.csv")
    assert _everything_under(tmp_path) == before
