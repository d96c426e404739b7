"""The house style of pictures: fonts, colours, arm names, and how a PNG is written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from interface.output import whole_file
from interface.pictures import INK
from loop.errors import InvalidInputError

DPI = 160
STYLE: Mapping[str, Any] = {
    "font.family": "DejaVu Sans",  # comes with matplotlib, so pictures look alike everywhere
    "font.size": 8.5,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": "#9AA5B1",
    "axes.linewidth": 0.8,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E6EAEE",
    "grid.linewidth": 0.8,
    "xtick.color": "#52606D",
    "ytick.color": "#52606D",
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "lines.linewidth": 1.8,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
}
MARKERS = {
    "loop": "o",
    "random": "s",
    "mutation": "^",
    "genetic": "v",
    "bayesian": "P",
    "seed": "D",
}


@contextmanager
def house_figure(path: Path | str, width: float, height: float, **layout: Any) -> Iterator[Figure]:
    """A figure of width x height inches in the house style, written when the block ends."""
    path = Path(path)
    with mpl.rc_context(dict(STYLE)):
        figure = Figure(figsize=(width, height), layout=layout.get("layout", "constrained"))
        FigureCanvasAgg(figure)
        yield figure
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with whole_file(path) as draft:
                figure.savefig(draft, dpi=DPI, format="png")
        except OSError as error:
            raise InvalidInputError(
                f"cannot write the picture {path}: {error.strerror or error}; "
                "choose a place that is writable and has room"
            ) from None
