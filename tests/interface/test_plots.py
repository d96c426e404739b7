"""Pictures hold what they were given: pixels, colours, sizes; labels are written as people do."""

from __future__ import annotations

import io
import itertools
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from PIL import Image

from interface import plots
from interface.labels import (
    composition_text,
    format_number,
    format_uncertain,
    phase_label,
    property_label,
    split_property,
    target_met,
    target_text,
)
from interface.pictures import (
    ARM_COLOURS,
    PHASE_COLOURS,
    colour_image,
    microstructure_png,
    rgb,
)
from loop.candidate import Candidate, Outcome, Record
from loop.errors import InvalidInputError
from loop.targets import Maximise, Minimise, Range, Target, Targets, Value
from tests.interface.fixtures import TARGETS, blob_candidate, plausible_values


def pixels(path: Path) -> NDArray[np.uint8]:
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        return np.asarray(picture.convert("RGB"))


def share(picture: NDArray[np.uint8], colour: str, within: int = 0) -> float:
    difference = np.abs(picture.astype(int) - np.array(rgb(colour)))
    return float(np.mean(np.all(difference <= within, axis=-1)))


@pytest.mark.parametrize(
    ("name", "label", "unit"),
    [
        ("youngs_modulus_GPa", "Young’s modulus", "GPa"),
        ("thermal_conductivity_W_per_mK", "Thermal conductivity", "W m⁻¹ K⁻¹"),
        ("density_g_per_cm3", "Density", "g/cm³"),
        ("gamma_prime_fraction", "γ′ fraction", ""),
        ("interface_density_per_px", "Interface density", "1/px"),
        ("precipitate_chord_length_px", "Precipitate chord length", "px"),
        ("conductivity_ratio", "Conductivity ratio", ""),
        ("K", "K", ""),
    ],
)
def test_property_names_come_apart_into_label_and_unit(name: str, label: str, unit: str) -> None:
    assert split_property(name) == (label, unit)
    assert property_label(name) == (f"{label} ({unit})" if unit else label)


def test_phase_names() -> None:
    assert phase_label("gamma_prime") == "γ′"
    assert phase_label("gamma") == "γ"
    assert phase_label("silicon_carbide") == "silicon carbide"


@pytest.mark.parametrize(
    ("value", "target", "text"),
    [
        (191.2345, Value("a", 190, 2), "191.2"),
        (8.1234, Range("a", 8.0, 8.2), "8.12"),
        (12345.678, None, "12346"),
        (-0.25, None, "−0.25"),
        (math.inf, None, "∞"),
        (math.nan, None, "–"),
        (None, None, "–"),
    ],
)
def test_numbers_show_what_their_target_resolves(
    value: float | None, target: Target | None, text: str
) -> None:
    assert format_number(value, target) == text


@pytest.mark.parametrize(
    ("mean", "std", "text"),
    [
        (7.35123, 0.031, "7.351 ± 0.031"),
        (164.57, 0.1343, "164.57 ± 0.13"),
        (-2000.0, 150.0, "−2000 ± 150"),
        (7.35123, 0.0, "7.351"),
        (7.35123, None, "7.351"),
        (0.1641, 1e-12, "0.1641"),
        (None, 0.1, ""),
    ],
)
def test_predictions_show_the_digits_they_are_sure_of(
    mean: float | None, std: float | None, text: str
) -> None:
    assert format_uncertain(mean, std) == text


@pytest.mark.parametrize(
    ("target", "text", "inside", "outside"),
    [
        (Value("a", 190, 2), "190 ± 2", 192.0, 192.01),
        (Range("a", 8.0, 8.25), "8 to 8.25", 8.25, 7.99),
        (Maximise("a", 200), "≥ 200", 200.0, 199.9),
        (Minimise("a", 8.2), "≤ 8.2", 8.2, 8.3),
    ],
)
def test_targets_are_written_and_judged(
    target: Target, text: str, inside: float, outside: float
) -> None:
    assert target_text(target) == text
    assert target_met(target, inside) is True
    assert target_met(target, outside) is False
    assert target_met(target, None) is None
    assert target_met(target, math.nan) is None


def test_an_open_objective_is_neither_met_nor_missed() -> None:
    assert target_text(Maximise("a")) == "maximise"
    assert target_met(Maximise("a"), 1e9) is None
    assert target_met(Minimise("a"), -1e9) is None


def test_compositions_are_written_largest_first_without_traces() -> None:
    candidate = Candidate(
        ("gamma", "b"),
        ("Ni", "Al", "Re"),
        phase_compositions=np.array([[0.7, 0.3, 0.0], [0.2999, 0.7, 0.0001]]),
    )
    assert composition_text(candidate) == [("γ", "Ni 70.0  Al 30.0"), ("b", "Al 70.0  Ni 30.0")]
    assert composition_text(candidate, most=1)[0] == ("γ", "Ni 70.0  …")


def test_a_microstructure_png_gives_back_its_labels() -> None:
    candidate = blob_candidate(np.random.default_rng(1))
    assert candidate.microstructure is not None
    with Image.open(io.BytesIO(microstructure_png(candidate, scale=3))) as picture:
        labels = np.asarray(picture)
        colours = np.asarray(picture.convert("RGB"))
    np.testing.assert_array_equal(labels[1::3, 1::3], candidate.microstructure)
    np.testing.assert_array_equal(colours[1::3, 1::3], colour_image(candidate.microstructure))


@pytest.mark.parametrize("scale", [0, -1, 17, 1000])
def test_the_scale_of_a_picture_is_bounded(scale: int) -> None:
    candidate = blob_candidate(np.random.default_rng(1))
    with pytest.raises(InvalidInputError, match="expected 1 to 16"):
        microstructure_png(candidate, scale=scale)


def test_a_candidate_without_image_has_no_picture() -> None:
    candidate = Candidate(("a",), ("Ni",), phase_compositions=np.array([[1.0]]))
    with pytest.raises(InvalidInputError, match="no microstructure"):
        microstructure_png(candidate)


def test_phase_colours_differ_in_lightness() -> None:
    """Neighbouring phases can be told apart in grey and with every colour blindness."""
    weights = np.array([0.2126, 0.7152, 0.0722])  # relative luminance, ITU-R BT.709
    light = [float(np.array(rgb(colour)) @ weights) for colour in PHASE_COLOURS]
    assert all(abs(a - b) > 35 for a, b in itertools.pairwise(light))


def test_gallery_draws_each_microstructure(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    candidates = [blob_candidate(rng) for _ in range(5)]
    values = [plausible_values(rng) for _ in candidates]
    path = plots.gallery(candidates, values, TARGETS, tmp_path / "deep" / "gallery.png", columns=3)
    picture = pixels(path)
    matrix, precipitate = share(picture, PHASE_COLOURS[0]), share(picture, PHASE_COLOURS[1])
    drawn = precipitate / (matrix + precipitate)
    given = float(np.mean([c.phase_fractions()[1] for c in candidates]))
    # Resampling to screen pixels and the blended edges between phases: within 2 %.
    assert drawn == pytest.approx(given, abs=0.02)
    assert picture.shape[1] > picture.shape[0] / 2


def test_gallery_of_designs_without_images_draws_their_compositions(tmp_path: Path) -> None:
    candidates = [
        Candidate(("alloy",), ("Ni", "Al"), phase_compositions=np.array([[x, 1 - x]]))
        for x in (0.25, 0.75)
    ]
    path = plots.gallery(candidates, [{}, {}], TARGETS, tmp_path / "gallery.png")
    assert share(pixels(path), PHASE_COLOURS[0]) > 0.02


def test_gallery_needs_candidates_and_their_values(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="no candidates"):
        plots.gallery([], [], TARGETS, tmp_path / "gallery.png")
    with pytest.raises(InvalidInputError, match="give one each"):
        plots.gallery([blob_candidate(np.random.default_rng(3))], [], TARGETS, tmp_path / "a.png")
    assert not list(tmp_path.iterdir())


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    candidate = blob_candidate(np.random.default_rng(3))
    with pytest.raises(InvalidInputError, match="cannot write the picture"):
        plots.candidate_figure(candidate, None, tmp_path / "file" / "a.png")


@pytest.mark.parametrize(
    "outcome",
    [
        Outcome("ok", {"density_g_per_cm3": 8.1, "cost": 3.0}, {"density_g_per_cm3": (8.0, 8.2)}),
        Outcome.failed("residual 3e-2 after 400 iterations, expected below 1e-6"),
        None,
    ],
)
def test_candidate_sheet(tmp_path: Path, outcome: Outcome | None) -> None:
    candidate = blob_candidate(np.random.default_rng(4))
    record = None if outcome is None else Record(candidate, outcome, "chain", "1", 2)
    path = plots.candidate_figure(candidate, record, tmp_path / "c.png", targets=TARGETS)
    picture = pixels(path)
    assert share(picture, PHASE_COLOURS[1]) > 0.05


def test_candidate_sheets_of_partial_designs(tmp_path: Path) -> None:
    whole = blob_candidate(np.random.default_rng(5))
    image_only = Candidate(whole.phases, microstructure=whole.microstructure)
    alloy = Candidate(
        ("alloy",),
        ("Ni", "Al"),
        phase_compositions=np.array([[0.5, 0.5]]),
        process={"temperature_K": 1200.0},
    )
    for n, candidate in enumerate((image_only, alloy)):
        path = plots.candidate_figure(candidate, None, tmp_path / f"{n}.png", targets=TARGETS)
        assert share(pixels(path), PHASE_COLOURS[0]) > 0.01


def test_rounds_show_every_arm(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        [
            ("seed", 0, 0, 0.0, 5.0),
            ("loop", 1, 3, 0.3, 1.0),
            ("loop", 2, 9, 0.6, 0.0),
            ("random", 1, 0, 0.0, 4.0),
            ("random", 2, 1, 0.1, math.inf),
        ],
        columns=["arm", "round", "distinct_hits_total", "hit_rate", "best_distance"],
    )
    picture = pixels(plots.rounds_figure(frame, tmp_path / "rounds.png", title="A campaign"))
    assert share(picture, ARM_COLOURS["loop"]) > 1e-4
    assert share(picture, ARM_COLOURS["random"]) > 1e-4
    assert share(picture, ARM_COLOURS["mutation"]) == 0
    with pytest.raises(InvalidInputError, match="no round"):
        plots.rounds_figure(frame.iloc[:0], tmp_path / "none.png")


def test_requested_against_simulated(tmp_path: Path) -> None:
    rng = np.random.default_rng(6)
    x = rng.normal(8.1, 0.1, 40)
    y = np.where(np.arange(40) < 4, math.nan, x + 0.01)
    path = plots.requested_simulated_figure(
        x, y, "density_g_per_cm3", tmp_path / "r.png",
        target=Range("density_g_per_cm3", 8.0, 8.2), groups=["loop"] * 40,
    )  # fmt: skip
    assert share(pixels(path), ARM_COLOURS["loop"], within=45) > 1e-3  # translucent points
    one = plots.requested_simulated_figure(
        np.array([1.0]), np.array([1.0]), "x", tmp_path / "one.png", target=Maximise("x")
    )
    assert pixels(one).size
    with pytest.raises(InvalidInputError, match="no candidate has both"):
        plots.requested_simulated_figure(x[:2], y[:2], "x", tmp_path / "none.png")
    with pytest.raises(InvalidInputError, match="expected"):
        plots.requested_simulated_figure(x, y[:3], "x", tmp_path / "none.png")


def test_micrographs_side_by_side(tmp_path: Path) -> None:
    rng = np.random.default_rng(7)
    images = []
    for _ in range(12):
        image = blob_candidate(rng).microstructure
        assert image is not None
        images.append(image)
    real, generated = np.stack(images[:7]), np.stack(images[7:])
    path = plots.micrograph_comparison(real, generated, tmp_path / "m.png")
    assert share(pixels(path), PHASE_COLOURS[1]) > 0.05
    with pytest.raises(InvalidInputError, match="cut the real ones"):
        plots.micrograph_comparison(real[:, :20], generated, tmp_path / "n.png")
    with pytest.raises(InvalidInputError, match="generated micrographs"):
        plots.micrograph_comparison(real, generated[:0], tmp_path / "n.png")


def test_a_phase_that_is_absent_does_not_stop_the_comparison(tmp_path: Path) -> None:
    empty = np.zeros((3, 32, 32), dtype=np.uint8)
    assert plots.micrograph_comparison(empty, empty, tmp_path / "e.png").is_file()


def test_names_of_phases_do_not_cover_their_compositions() -> None:
    """A composition begins where the widest name has ended, as it is drawn."""
    from matplotlib.figure import Figure

    from interface.plots_candidates import _card_text

    candidate = Candidate(
        phases=("silver_rich", "c"),
        elements=("Ag", "Cu"),
        phase_compositions=np.array([[0.9, 0.1], [0.2, 0.8]]),
    )
    figure = Figure(figsize=(3.0, 1.0), dpi=200)
    ax = figure.add_axes((0, 0, 1, 1))
    ax.set_xlim(0, 3.0)  # inches, as on a card
    _card_text(ax, candidate, {"x": 1.0}, Targets((Range("x", 0.0, 2.0),)), 3.0)
    drawn = {text.get_text(): text.get_window_extent() for text in ax.texts}
    widest = drawn["silver rich"]
    for words, box in drawn.items():
        if words.startswith(("Ag", "Cu")):
            assert box.x0 > widest.x1, words
