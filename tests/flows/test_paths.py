"""Paths by a trained generator and monotone paths: exact ends, feasible, scored again."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from flows.assembly import open_session
from flows.monotone_designs import monotone_designs
from flows.paths import Generated, design_of
from flows.tie_line_designs import images_of
from interface.cli import app
from loop.candidate import Candidate
from loop.errors import InvalidInputError
from loop.monotone import moves_one_way
from loop.paths import positions, straight_path
from loop.polytope import CompositionSet
from loop.round import evaluate
from loop.session import Session
from loop.space import DesignSpace
from simulators import registry
from tests.campaigns import ELEMENTS, NAME

LEDGER = Path("runs") / NAME / "ledger.db"
FREE = CompositionSet.of(ELEMENTS)
A = "gamma: Ni70Al6Cr24 at%; gamma_prime: Ni74Al22Cr4 at%"
B = "gamma: Ni60Al8Cr32 at%; gamma_prime: Ni80Al17Cr3 at%"
X = np.array([[0.70, 0.06, 0.24], [0.74, 0.22, 0.04]])
Y = np.array([[0.60, 0.08, 0.32], [0.80, 0.17, 0.03]])


def call(*words: str) -> Result:
    return CliRunner().invoke(app, ["interpolate", *words])


@pytest.fixture
def folder(plain_run: Path, in_scratch: Path) -> Path:
    """A finished run in the current directory."""
    shutil.copytree(plain_run, in_scratch, dirs_exist_ok=True)
    return in_scratch


@pytest.fixture
def session(folder: Path) -> Iterator[Session]:
    found = open_session(folder / NAME, folder / LEDGER)
    with found.ledger:
        yield found


# The trained generator


def test_latent_paths_are_feasible_and_their_ends_exact(session: Session) -> None:
    generated = Generated(session)
    ends = [design_of(session.campaign.space, x, {}, generated) for x in (X, Y)]
    assert all(end.microstructure is not None for end in ends)
    spaces = [CompositionSet.of(ELEMENTS, ["Cr <= 0.30 ", "Al >= 0.065"]), FREE]
    with pytest.raises(InvalidInputError, match=r"first end is not allowed: gamma: Al >= 0.065"):
        generated.between(ends[0], ends[1], 5, spaces)
    spaces = [CompositionSet.of(ELEMENTS, ["Ni + Al <= 0.765", "Cr <= 0.32"]), FREE]
    found = generated.between(ends[0], ends[1], 9, spaces)
    assert [found[0].id, found[-1].id] == [end.id for end in ends]
    x = np.stack([d.phase_compositions for d in found if d.phase_compositions is not None])
    assert x.shape == (9, 2, 3)
    for i, space in enumerate(spaces):
        assert space.is_feasible(x[:, i], tolerance=1e-9).all()
    assert (x > 0).all()  # what both ends have is there all along
    # Between neighbours compositions move by parts of the way, not past the ends and back.
    steps = np.abs(np.diff(x, axis=0)).max(axis=(1, 2))
    assert steps.max() < 0.6 * np.abs(X - Y).max()
    again = Generated(session).between(ends[0], ends[1], 9, spaces)
    assert [d.id for d in again] == [d.id for d in found]


def test_what_both_ends_lack_is_exactly_absent(session: Session) -> None:
    generated = Generated(session)
    without = X.copy()
    without[1] = [0.78, 0.22, 0.0]
    other = Y.copy()
    other[1] = [0.83, 0.17, 0.0]
    ends = [design_of(session.campaign.space, x, {}, generated) for x in (without, other)]
    for design in generated.between(ends[0], ends[1], 7, [FREE, FREE]):
        assert design.phase_compositions is not None
        assert design.phase_compositions[1, 2] == 0.0
        assert np.abs(design.phase_compositions.sum(axis=1) - 1).max() <= 1e-12


@pytest.mark.usefixtures("folder")
def test_the_command_scores_and_draws_a_latent_path() -> None:
    words = (A, B, "--campaign", NAME, "--path", "generator", "--steps", "4", "--score", "--json")
    done = call(*words, "--picture", "path.png")
    assert done.exit_code == 0, done.output
    points = json.loads(done.stdout)["points"]
    for point, end in ((points[0], X), (points[-1], Y)):
        x = [list(row.values()) for row in point["compositions"].values()]
        assert np.allclose(x, end, rtol=0, atol=1e-15)
    for point in points:
        assert point["outcome"]["status"] == "ok"
        assert point["outcome"]["values"]["density_g_per_cm3"] > 0
    with Image.open("path.png") as picture:
        assert picture.size[0] > 1000
    assert len({point["id"] for point in points}) == 4
    again = json.loads(call(*words).stdout)["points"]
    assert [p["id"] for p in again] == [p["id"] for p in points]


def test_microstructures_are_drawn_for_every_point(session: Session) -> None:
    space, generated = session.campaign.space, Generated(session)
    design = design_of(space, X, {}, generated)
    assert np.array_equal(design.phase_compositions, X)  # type: ignore[arg-type]
    assert space.violations(design) == []
    assert generated.with_microstructure(design).id == design.id  # the same noise
    other = Generated(session, seed=1).with_microstructure(design)
    assert not np.array_equal(other.microstructure, design.microstructure)  # type: ignore[arg-type]
    done = call(A, B, "--campaign", NAME, "--microstructures", "--steps", "3", "--score", "--json")
    assert done.exit_code == 0, done.output
    points = json.loads(done.stdout)["points"]
    assert points[0]["id"] == design.id
    middle = [list(row.values()) for row in points[1]["compositions"].values()]
    assert np.allclose(middle, (X + Y) / 2, rtol=0, atol=1e-15)
    assert all(0 < p["outcome"]["values"]["gamma_prime_fraction"] < 1 for p in points)


def test_images_of_a_fraction_are_the_generators(session: Session) -> None:
    """To half a pixel, and as like what it makes as its own images of that fraction are."""
    images = images_of(session)
    assert images.source == "the trained joint-flow, cut at each fraction"
    design = design_of(session.campaign.space, X, {})
    wanted = np.array([0.0, 0.3, 0.5, 0.7, 1.0])
    made = [images.image(design, fraction) for fraction in wanted]
    size = made[0].size
    exact = np.clip(np.round(wanted * size), 1, size - 1) / size
    assert [image.mean() for image in made] == pytest.approx(exact, abs=1e-12)
    again = images_of(session).image(design, 0.5)
    assert np.array_equal(again, made[2])
    assert not np.array_equal(images_of(session, seed=1).image(design, 0.5), again)
    steps = np.mean(again != np.roll(again, 1, axis=1))
    assert 0.02 < steps < 0.4  # blobs, no noise: that of a random image is a half


def test_a_mended_composition_takes_its_image_along(session: Session) -> None:
    """The same compositions, the same image; others, another, and the more the farther."""
    generated = Generated(session)
    first, last = (design_of(session.campaign.space, x, {}, generated) for x in (X, Y))
    middle = generated.between(first, last, 3, [FREE, FREE])[1]
    x = middle.phase_compositions
    assert x is not None
    assert generated.carried(middle, middle).id == middle.id
    changed = []
    for share in (0.5, 1.0):
        moved = dataclasses.replace(middle, phase_compositions=x + share * (Y - x))
        found = generated.carried(middle, moved)
        assert np.array_equal(found.phase_compositions, moved.phase_compositions)  # type: ignore[arg-type]
        assert found.microstructure is not None
        changed.append(float(np.mean(found.microstructure != middle.microstructure)))
    assert changed[0] <= changed[1] < 0.5


def test_ends_of_candidates_keep_their_own_micrographs(session: Session) -> None:
    frame = session.ledger.evaluations(session.campaign_id, columns=("id", "status"))
    ids = frame.loc[frame["status"] == "ok", "id"].drop_duplicates()[:2].tolist()
    for way in (("--path", "generator"), ("--microstructures",)):
        done = call(*ids, "--campaign", NAME, *way, "--steps", "3", "--json")
        assert done.exit_code == 0, done.output
        points = json.loads(done.stdout)["points"]
        assert [points[0]["id"], points[-1]["id"]] == ids


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((A, B, "--path", "generator"), "--path generator needs its designs"),
        ((A, B, "--microstructures"), "--microstructures needs its designs"),
        ((A, B, "--monotone", "density_g_per_cm3"), "--monotone needs simulators"),
        ((A, B, "--campaign", NAME), "--microstructures or --path generator"),
        (("Ni", "Al", "--campaign", NAME, "--microstructures"), "has no gamma, gamma_prime"),
        (
            ("gama: Ni; gamma_prime: Ni", B, "--campaign", NAME, "--path", "generator"),
            "did you mean 'gamma'",
        ),
        (
            (A, B, "--campaign", NAME, "--path", "generator", "--process", "time_s=1"),
            "unknown process variable 'time_s'",
        ),
        (
            (A, B, "--campaign", NAME, "--path", "generator", "--monotone", "density"),
            "unknown property 'density'",
        ),
        (
            (A, B, "--campaign", NAME, "--path", "generator", "--constraint", "Cr >= 0.035"),
            "last end is not allowed: gamma_prime: Cr >= 0.035",
        ),
    ],
)
def test_bad_input_is_said_in_a_line(words: tuple[str, ...], message: str) -> None:
    done = call(*words)
    assert done.exit_code == 2, done.output
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


# Properties that move one way

ALLOY = ("Ni", "Al", "Cr", "Co", "W")
SPACE = DesignSpace(("alloy",), ALLOY)


def designs(a: list[float], b: list[float], n: int = 11) -> list[Candidate]:
    path = straight_path(a, b, positions(n))
    return [Candidate(("alloy",), ALLOY, None, row[None]) for row in path]


def one_way(values: np.ndarray) -> bool:
    return bool(np.all(np.diff(values) * np.sign(values[-1] - values[0]) > 0))


@pytest.mark.parametrize(
    ("name", "a", "b"),
    [
        ("thermal_conductivity_W_per_mK", [0.8, 0.05, 0.15, 0, 0], [0.3, 0.2, 0.5, 0, 0]),
        (
            "thermal_conductivity_W_per_mK",
            [0.438, 0.041, 0.025, 0.042, 0.454],
            [0.498, 0.276, 0.051, 0.102, 0.073],
        ),
        ("density_g_per_cm3", [0.7, 0.1, 0.1, 0.05, 0.05], [0.2, 0.2, 0.2, 0.3, 0.1]),
        ("youngs_modulus_GPa", [0.7, 0.1, 0.1, 0.05, 0.05], [0.2, 0.2, 0.2, 0.3, 0.1]),
        ("material_cost_USD_per_kg", [0.7, 0.1, 0.1, 0.05, 0.05], [0.2, 0.2, 0.2, 0.3, 0.1]),
    ],
)
def test_a_path_is_monotone_when_scored_again(name: str, a: list[float], b: list[float]) -> None:
    simulators = registry.create_all(["composite-chain"], space=SPACE)
    space = CompositionSet.of(ALLOY, ["Ni >= 0.2"])
    start = designs((np.array(a) / sum(a)).tolist(), (np.array(b) / sum(b)).tolist())
    before = np.array([o.values[name] for o in evaluate(simulators, start)])
    mended, found = monotone_designs(start, name, simulators, [space])
    fresh = registry.create_all(["composite-chain"], space=SPACE)
    after = np.array([o.values[name] for o in evaluate(fresh, mended)])
    assert one_way(after)
    assert one_way(before) == (not found.moved.any())
    assert (name != "thermal_conductivity_W_per_mK") == one_way(before)
    assert [mended[0].id, mended[-1].id] == [start[0].id, start[-1].id]
    x = np.stack([d.phase_compositions[0] for d in mended if d.phase_compositions is not None])
    assert space.is_feasible(x, tolerance=1e-9).all()
    assert np.all(x[:, (np.array(a) == 0) & (np.array(b) == 0)] == 0)


def test_the_value_and_its_place_are_named_where_there_is_no_such_path() -> None:
    """Conductivity falls to a least value between nickel and chromium: nothing goes around it."""
    simulators = registry.create_all(["composite-chain"], space=SPACE)
    start = designs([0.9, 0, 0.1, 0, 0], [0.2, 0, 0.8, 0, 0])
    with pytest.raises(InvalidInputError, match=r"thermal_conductivity_W_per_mK .*t = 0\.\d"):
        monotone_designs(
            start, "thermal_conductivity_W_per_mK", simulators, [CompositionSet.of(ALLOY)]
        )


@pytest.mark.parametrize(
    ("way", "name"),
    [
        (("--microstructures",), "material_cost_USD_per_kg"),
        (("--path", "generator"), "thermal_conductivity_W_per_mK"),
    ],
)
def test_a_mended_design_has_the_image_drawn_for_it(
    session: Session, way: tuple[str, ...], name: str
) -> None:
    """Scored again with it, the property still moves one way."""
    words = (A, B, "--campaign", NAME, *way, "--steps", "6")
    before = json.loads(call(*words, "--score", "--json").stdout)["points"]
    done = call(*words, "--monotone", name, "--json")
    assert done.exit_code == 0, done.output
    points = json.loads(done.stdout)["points"]
    assert moves_one_way(np.array([p["outcome"]["values"][name] for p in points]))
    assert any(point["moved"] > 0 for point in points)
    assert not moves_one_way(np.array([p["outcome"]["values"][name] for p in before]))
    if "generator" in way:
        return
    generated = Generated(session)
    for point in points:
        x = np.array([list(row.values()) for row in point["compositions"].values()])
        assert design_of(session.campaign.space, x, {}, generated).id == point["id"]


@pytest.mark.usefixtures("folder")
def test_microstructures_and_a_property_that_moves_one_way() -> None:
    name = "thermal_conductivity_W_per_mK"
    words = (A, B, "--campaign", NAME, "--path", "generator", "--steps", "5", "--monotone", name)
    done = call(*words, "--json", "--picture", "path.png")
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    assert document["monotone"] == name
    assert one_way(np.array([p["outcome"]["values"][name] for p in document["points"]]))
    assert document["points"][0]["moved"] == document["points"][-1]["moved"] == 0
    assert Path("path.png").is_file()
