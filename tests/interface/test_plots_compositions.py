"""Pictures of paths: every kind is drawn, and what is drawn lies where the compositions say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from interface.composition_axes import SimplexAxes, composition_bars, tetrahedron, triangle, window
from interface.interpolated import Interpolation, Mended, Predicted
from interface.interpolation import between_formulas
from interface.pictures import MISSED
from interface.plots_compositions import path_figure
from interface.plots_profiles import profile, profiles
from loop.candidate import Candidate, Outcome
from loop.composition import FloatArray
from loop.errors import InvalidInputError

X = np.array([[0.5, 0.2, 0.3], [0.1, 0.6, 0.3], [0.2, 0.2, 0.6]])


def drawn(file: Path) -> tuple[int, int]:
    """Size of a picture that is not blank."""
    with Image.open(file) as picture:
        image = np.asarray(picture.convert("L"))
    assert 0.005 < float(np.mean(image < 250)) < 0.9
    return image.shape[1], image.shape[0]


def with_outcomes(path: Interpolation, *, images: bool = False) -> Interpolation:
    import dataclasses

    rng = np.random.default_rng(0)
    n = len(path.t)
    outcomes = tuple(
        Outcome("ok", {"density_g_per_cm3": 8 - t, "cost": 3.0 + t * t}, {"cost": (2.9, 4.2)})
        if i != 2
        else Outcome.failed("it did not converge")
        for i, t in enumerate(path.t.tolist())
    )
    candidates = tuple(
        Candidate(
            ("gamma", "gamma_prime"), microstructure=rng.integers(0, 2, (16, 16), dtype=np.uint8)
        )
        for _ in range(n if images else 0)
    )
    return dataclasses.replace(path, outcomes=outcomes, candidates=candidates)


@pytest.mark.parametrize(
    ("a", "b", "kind"),
    [
        ("Ni80Al20 at%", "Ni60Al10Cr30 at%", "line"),  # a triangle
        ("Ni70Al10Cr10Co10 at%", "Ni40Al20Cr15Co25 at%", "aitchison"),  # a tetrahedron
        ("Ni80Al20", "Ni60Al40", "line"),  # bars
        ("Al0.3CoCrFeNi", "AlCo2Cr2Fe2Ni", "line"),
        ("Ni50Co20Al30 at%", "Ni50Co10Al40 at%", "line"),  # Ni does not vary: two do
    ],
)
def test_every_kind_of_composition_is_drawn(tmp_path: Path, a: str, b: str, kind: str) -> None:
    path = between_formulas(a, b, 5, kind)
    drawn(path_figure(with_outcomes(path, images=True), tmp_path / "path.png"))


def test_properties_and_micrographs_make_room(tmp_path: Path) -> None:
    path = between_formulas("Ni80Al20", "Ni60Al40", 5)
    width, height = drawn(path_figure(path, tmp_path / "alone.png"))
    wider, higher = drawn(path_figure(with_outcomes(path, images=True), tmp_path / "more.png"))
    assert wider > width
    assert higher > height


def test_a_mended_path_and_points_outside(tmp_path: Path) -> None:
    import dataclasses

    path = between_formulas("Ni80Al20", "Ni40Al20Cr40 at%", 7, constraints=["Cr <= 0.3"])
    values = np.linspace(8, 7, 7)
    mended = Mended("density_g_per_cm3", path.compositions + 0.0, values, np.zeros(7))
    drawn(path_figure(dataclasses.replace(with_outcomes(path), mended=mended), tmp_path / "m.png"))


def test_what_is_predicted_is_drawn_beside_what_is_measured() -> None:
    import dataclasses

    path = between_formulas("Ni80Al20", "Ni60Al40", 5)
    t = path.t
    expected = tuple(
        Outcome("ok", {"hardness_HV": 300 + 100 * s}, {"hardness_HV": (250 + 90 * s, 400 + 80 * s)})
        for s in t.tolist()
    )
    found = tuple(
        Outcome("ok", {"hardness_HV": 310.0}, uncertainty={"hardness_HV": 12.0})
        if i == 0
        else Outcome("pending", reason="not measured yet")
        for i in range(5)
    )
    path = dataclasses.replace(path, predicted=Predicted(expected, 40, 0.9))
    assert profiles(path) == ["hardness_HV"]
    measured = dataclasses.replace(path, outcomes=found, fidelity={"hardness_HV": "measured"})
    for shown in (path, measured):
        ax = Figure().subplots()
        profile(ax, shown, "hardness_HV")
        lines = {str(line.get_label()): line for line in ax.get_lines()}
        drawn_at = np.asarray(lines["predicted, 90 %"].get_xydata(), dtype=np.float64)
        np.testing.assert_allclose(drawn_at, np.stack([t, 300 + 100 * t], 1))
        assert ("measured" in lines) == (shown is measured)
        ends = np.asarray(ax.collections[0].get_paths()[0].vertices, dtype=np.float64)
        for row in np.stack([t, 250 + 90 * t], 1):
            assert np.abs(ends - row).max(axis=1).min() < 1e-9
        assert ax.get_ylim()[0] < 250
        assert not any(line.get_color() == MISSED for line in ax.get_lines())  # no gap is marked


def test_a_path_that_hardly_moves(tmp_path: Path) -> None:
    path = between_formulas("Ni80.001Al9.999Cr10 at%", "Ni80Al10Cr10 at%", 3)
    drawn(path_figure(path, tmp_path / "short.png"))


def test_the_window_holds_the_points() -> None:
    for x in (X, 0.8 + 0.2 * X - 0.8 * np.array([0.0, 1.0, 1.0]), np.array([[0.7, 0.2, 0.1]])):
        x = np.abs(x) / np.abs(x).sum(axis=1, keepdims=True)
        low, side = window(x)
        assert np.all(low >= 0)
        assert side == pytest.approx(1 - low.sum())
        assert np.all(x >= low - 1e-12)
    assert window(X)[1] == 1.0  # most of the simplex: all of it


def test_triangle_and_tetrahedron_put_points_where_they_belong() -> None:
    ax = triangle(Figure(), X, ("Ni", "Al", "Cr"), 0.9)
    assert np.allclose(ax.place(X), 90 * X.T)
    assert ax.ax.get_tlabel() == "Ni (at.%)"
    four = np.concatenate([X * 0.9, np.full((3, 1), 0.1)], axis=1)
    solid = tetrahedron(Figure(), four, ("Ni", "Al", "Cr", "Co"), 1.0)
    corners = solid.place(solid.low + solid.side * np.eye(4)).T
    edges = [float(np.linalg.norm(a - b)) for i, a in enumerate(corners) for b in corners[:i]]
    assert np.allclose(edges, edges[0])  # regular
    assert np.allclose(corners[0], [0, 0, 1])
    middle = solid.place(four)
    assert np.allclose(middle.T, (four - solid.low) / solid.side @ corners)


def test_bars_add_up(tmp_path: Path) -> None:
    ax = Figure().subplots()
    t = np.linspace(0, 1, 3)
    composition_bars(ax, t, X, ("Ni", "Al", "Cr"))
    heights: FloatArray = np.array(
        [bar.get_height() for bar in ax.patches if isinstance(bar, Rectangle)]
    )
    assert heights.reshape(3, 3).sum(axis=0) == pytest.approx([100.0] * 3)
    assert SimplexAxes.options == {}
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidInputError, match="cannot write the picture"):
        path_figure(between_formulas("Ni", "Al", 3), tmp_path / "file" / "x.png")
