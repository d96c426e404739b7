"""Chart options for Apache ECharts, made from the frames of interface.views.

Tooltips are drawn on the canvas (``richText``), so no name can reach the page as HTML, and the
keys of the options are ours alone: NiceGUI would run the value of a key that begins with a colon.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from interface.dashboard_values import OF_ITSELF, value_text
from interface.labels import (
    arm_label,
    format_number,
    inside_sentence,
    property_label,
    short_id,
)
from interface.pictures import MET, arm_colour
from interface.views import arm_series
from loop.targets import Target

SYMBOLS: Mapping[str, str] = {
    "loop": "circle",
    "random": "rect",
    "mutation": "triangle",
    "genetic": "diamond",
    "bayesian": "pin",
}
_AXIS = "#52606D"
_GRID = "#E6EAEE"
ROUND_PANELS = (
    ("distinct_hits_total", "Different hits, cumulative", "hits"),
    ("hit_rate", "Hit rate of each round", "% of evaluated designs"),
    ("best_distance", "Best distance to target so far", "units of tolerance"),
)


def _axis(name: str, gap: int, **more: Any) -> dict[str, Any]:
    return {
        "type": "value",
        "name": name,
        "nameLocation": "middle",
        "nameGap": gap,
        "nameTextStyle": {"color": _AXIS, "fontSize": 12},
        "axisLabel": {"color": _AXIS, "fontSize": 11},
        "axisLine": {"show": True, "lineStyle": {"color": "#9AA5B1"}},
        "splitLine": {"lineStyle": {"color": _GRID}},
    } | more


def _base() -> dict[str, Any]:
    return {
        "animation": False,
        "textStyle": {"fontFamily": "Roboto, system-ui, sans-serif"},
        "grid": {"left": 58, "right": 14, "top": 14, "bottom": 48},
        "tooltip": {
            "trigger": "item",
            "renderMode": "richText",
            "confine": True,
            "borderColor": "#C4CCD4",
            "textStyle": {"fontSize": 12},
        },
    }


def _number(value: Any) -> float | None:
    number = float(value)
    return number if math.isfinite(number) else None


def rounds_chart(rounds: pd.DataFrame, column: str, unit: str) -> dict[str, Any]:
    """Lines of one column of the round table, one per arm; a hollow mark is a round that runs."""
    series = []
    share = column == "hit_rate"
    for arm, frame in arm_series(rounds).items():
        points = []
        for row in frame.to_dict(orient="records"):
            value = _number(row[column])
            shown = None if value is None else 100 * value if share else value
            running = row["evaluated"] < row["planned"]
            what = "–" if shown is None else f"{shown:.0f} %" if share else format_number(shown)
            done = f"{row['evaluated']} of {row['planned']}" if running else f"{row['planned']}"
            points.append(
                {
                    "value": [int(row["round"]), shown],
                    "name": f"{arm_label(arm)}, round {row['round']}\n{what} {unit.strip('% ')}\n"
                    f"{done} designs evaluated, {row['hits']} hits",
                    "itemStyle": {
                        "color": "#FFFFFF" if running else arm_colour(arm),
                        "borderColor": arm_colour(arm),
                        "borderWidth": 2,
                    },
                }
            )
        series.append(
            {
                "type": "line",
                "name": arm_label(arm),
                "data": points,
                "symbol": SYMBOLS.get(arm, "diamond"),
                "symbolSize": 8,
                "showSymbol": True,
                "lineStyle": {"color": arm_colour(arm), "width": 2},
                "z": 3 if arm == "loop" else 2,
            }
        )
    last = int(rounds["round"].max()) if len(rounds) else 1
    options = _base()
    options["tooltip"]["formatter"] = "{b}"
    options["xAxis"] = _axis("round (0: seed designs)", 28, min=0, max=max(last, 1), minInterval=1)
    options["xAxis"]["splitLine"] = {"show": False}
    limits = {"hit_rate": {"max": 100}, "distinct_hits_total": {"minInterval": 1}}
    options["yAxis"] = _axis(unit, 40, min=0, **limits.get(column, {}))
    options["series"] = series
    return options


def nice_limits(low: float, high: float) -> tuple[float, float, float]:
    """Round (low, high, step) that hold two numbers with about five steps between them."""
    span = (high - low) or abs(high) or 1.0
    raw = span / 5
    power = 10 ** math.floor(math.log10(raw))
    step = power * next(m for m in (1, 2, 2.5, 5, 10) if m * power >= raw * (1 - 1e-9))
    bottom = math.floor(low / step + 1e-9) * step
    top = math.ceil(high / step - 1e-9) * step
    if top - bottom < step / 2:
        bottom, top = bottom - step, top + step
    return float(f"{bottom:.10g}"), float(f"{top:.10g}"), float(f"{step:.10g}")


def requested_chart(
    points: pd.DataFrame,
    property_: str,
    target: Target | None,
    against: str,
    found_by: str = "simulated",
) -> dict[str, Any]:
    """Simulated (or measured) against requested (or predicted), identity line and target band.

    ``points``: as from ``dashboard_values.chart_points``, where x_std, y_std and kind may be left
    out. The data of a point ends with its id.
    """
    ends = [*points["x"], *points["y"]]
    if target is not None:
        ends += [v for v in (target.low, target.high) if math.isfinite(v)]
    margin = 0.04 * (max(ends) - min(ends)) if ends else 0.0
    low, high, step = (
        nice_limits(min(ends) - margin, max(ends) + margin) if ends else (0.0, 1.0, 0.2)
    )
    label = inside_sentence(property_label(property_))
    series: list[dict[str, Any]] = [_guides(low, high, target)]
    for arm in sorted(set(points["arm"])):
        data = [
            {
                "value": [row["x"], row["y"], row["id"]],
                "name": f"{short_id(row['id'])}, {arm_label(arm)}, round {row['round']}"
                f"{_guidance(row['guidance'])}\n"
                f"{against} {_uncertain(row, 'x', target)}\n"
                f"{row.get('kind') or found_by} {_uncertain(row, 'y', target)}{_of(row)}",
            }
            for row in points[points["arm"] == arm].to_dict(orient="records")
        ]
        series.append(
            {
                "type": "scatter",
                "name": arm_label(arm),
                "data": data,
                "symbol": SYMBOLS.get(arm, "diamond"),
                "symbolSize": 8,
                "itemStyle": {
                    "color": arm_colour(arm),
                    "opacity": 0.75,
                    "borderColor": "#FFFFFF",
                    "borderWidth": 0.5,
                },
            }
        )
    options = _base()
    options["grid"] = {"left": 66, "right": 18, "top": 14, "bottom": 48}
    options["tooltip"]["formatter"] = "{b}"
    limits = {"min": low, "max": high, "interval": step}
    options["xAxis"] = _axis(f"{against} {label}", 28, **limits)
    options["yAxis"] = _axis(f"{found_by} {label}", 48, **limits)
    options["series"] = series
    return options


def _uncertain(row: Mapping[Any, Any], axis: str, target: Target | None) -> str:
    return value_text(row[axis], _number(row.get(f"{axis}_std", math.nan)), target)


def _of(row: Mapping[Any, Any]) -> str:
    """What a predicted deviation is of, where a measurement that scatters stands beside it."""
    known = _number(row.get("x_std", math.nan)) is not None
    return f"\n{OF_ITSELF}" if known and row.get("kind") == "measured" else ""


def _guidance(scale: float) -> str:
    return f", guidance {scale:g}" if math.isfinite(scale) else ""


def _guides(low: float, high: float, target: Target | None) -> dict[str, Any]:
    """The identity line, and the band in which a simulated value meets the target."""
    guides: dict[str, Any] = {
        "type": "line",
        "name": "identity",
        "data": [[low, low], [high, high]],
        "symbol": "none",
        "silent": True,
        "lineStyle": {"type": "dashed", "color": "#7B8794", "width": 1},
        "z": 1,
    }
    if target is not None and math.isfinite(target.low + target.high):
        guides["markArea"] = {
            "silent": True,
            "itemStyle": {"color": MET, "opacity": 0.13},
            "label": {"show": True, "position": "insideTopRight", "color": MET, "fontSize": 11},
            "data": [[{"name": "target", "yAxis": target.low}, {"yAxis": target.high}]],
        }
    elif target is not None and (math.isfinite(target.low) or math.isfinite(target.high)):
        limit = target.low if math.isfinite(target.low) else target.high
        guides["markLine"] = {
            "silent": True,
            "symbol": "none",
            "lineStyle": {"color": MET, "width": 1.5},
            "label": {
                "show": True,
                "position": "insideEndTop",
                "color": MET,
                "formatter": "target",
            },
            "data": [{"yAxis": limit}],
        }
    return guides


def arm_legend(arms: list[str]) -> list[tuple[str, str]]:
    """(colour, name) of the arms that charts draw."""
    return [(arm_colour(arm), arm_label(arm)) for arm in arms if arm != "seed"]
