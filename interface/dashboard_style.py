"""How the page looks, and the small pieces it is put together from.

All text goes to the browser as text, never as HTML: names and reasons in a ledger come from
campaign files and simulators that we do not know.
"""

from __future__ import annotations

from collections.abc import Iterable

from nicegui import ui
from nicegui.element import Element
from nicegui.elements.mixins.text_element import TextElement

from interface.labels import phase_label
from interface.pictures import ACCENT, INK, MET, MISSED, MUTED, phase_colour

# Two phases of a separating mixture: what the program is named after.
FAVICON = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32">'
    '<rect width="32" height="32" rx="7" fill="#24527A"/>'
    '<path d="M0 21c5-7 9 3 14-2s2-11 8-12c4-.6 6 1 10-2v20a7 7 0 0 1-7 7H7a7 7 0 0 1-7-7z" '
    'fill="#E9E5DA"/><circle cx="9" cy="9" r="3.4" fill="#E9E5DA"/>'
    '<circle cx="23.500" cy="21.500" r="3.400" fill="#24527A"/></svg>'
)

CSS = f"""
:root {{ --ink: {INK}; --muted: {MUTED}; --accent: {ACCENT}; --met: {MET}; --missed: {MISSED};
  --line: #E1E6EB; --ground: #F4F6F8; }}
body {{ background: var(--ground); color: var(--ink); font-size: 14px; line-height: 1.45;
  -webkit-font-smoothing: antialiased; }}
.nicegui-content {{ padding: 0; gap: 0; display: block; width: 100%; }}
.sp-top {{ background: #fff; border-bottom: 1px solid var(--line); position: sticky; top: 0;
  z-index: 20; }}
.sp-bar, .sp-main {{ max-width: 1400px; margin: 0 auto; padding: 0 24px; box-sizing: border-box; }}
.sp-bar {{ display: flex; align-items: center; gap: 12px; min-height: 56px; flex-wrap: wrap; }}
.sp-logo {{ width: 26px; height: 26px; display: block; }}
.sp-word {{ font-size: 18px; font-weight: 600; letter-spacing: -.01em; }}
.sp-fill {{ flex: 1; }}
.sp-link {{ color: var(--accent); text-decoration: none; font-weight: 500; }}
.sp-link:hover {{ text-decoration: underline; }}
.sp-main {{ padding-top: 22px; padding-bottom: 48px; display: grid; gap: 18px; }}
.sp-head {{ display: flex; flex-wrap: wrap; align-items: baseline; gap: 4px 14px; }}
.sp-main h1, .sp-main h2, .sp-dialog h2 {{ margin: 0; }}
.sp-main h1 {{ font-size: 24px; font-weight: 600; letter-spacing: -.015em;
  line-height: 1.2; overflow-wrap: anywhere; }}
.sp-main h2 {{ font-size: 15px; font-weight: 600; line-height: 1.3; letter-spacing: 0; }}
.sp-dialog h2 {{ font-size: 19px; font-weight: 600; line-height: 1.3;
  letter-spacing: -.01em; }}
.sp-state {{ display: inline-flex; align-items: center; gap: 7px; font-weight: 500;
  color: var(--muted); }}
.sp-state::before {{ content: ""; width: 9px; height: 9px; border-radius: 50%;
  background: #9AA5B1; }}
.sp-state.finished::before {{ background: var(--met); }}
.sp-state.running::before {{ background: var(--accent); box-shadow: 0 0 0 4px #0B62A826; }}
.sp-state.stopped::before {{ background: #D9822B; }}
.sp-muted {{ color: var(--muted); }}
.sp-small {{ font-size: 12.5px; }}
.sp-tiles {{ display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr));
  gap: 12px; }}
.sp-panel, .sp-tile {{ background: #fff; border: 1px solid var(--line); border-radius: 10px;
  min-width: 0; }}
.sp-tile {{ padding: 12px 16px; }}
.sp-tile .label {{ color: var(--muted); font-size: 12.5px; }}
.sp-tile .value {{ font-size: 24px; font-weight: 600; line-height: 1.25;
  font-variant-numeric: tabular-nums; letter-spacing: -.01em; }}
.sp-tile .more {{ color: var(--muted); font-size: 12.5px; }}
.sp-panel {{ padding: 16px 18px; }}
.sp-panel-head {{ display: flex; flex-wrap: wrap; align-items: center; gap: 8px 16px;
  margin-bottom: 10px; }}
.sp-charts {{ display: grid; grid-template-columns: repeat(3, minmax(0, 1fr)); gap: 8px 24px; }}
.sp-two {{ display: grid; grid-template-columns: minmax(0, 1fr) minmax(0, 1fr); gap: 18px;
  align-items: stretch; }}
.sp-grow {{ display: flex; flex-direction: column; }}
.sp-column {{ display: flex; flex-direction: column; gap: 18px; min-width: 0; }}
.sp-column > :last-child {{ flex: 1; }}
.sp-chart {{ height: 270px; width: 100%; }}
.sp-square {{ min-height: 430px; flex: 1; width: 100%; }}
.sp-chart-title {{ font-weight: 500; margin-bottom: 2px; }}
.sp-legend {{ display: flex; flex-wrap: wrap; gap: 4px 16px; font-size: 12.5px;
  color: var(--muted); }}
.sp-legend span, .sp-key {{ display: inline-flex; align-items: center; gap: 6px; }}
.sp-swatch {{ width: 12px; height: 12px; border-radius: 3px; border: 1px solid #0000001f;
  display: inline-block; flex: none; }}
.sp-table {{ width: 100%; border-collapse: collapse; font-size: 13px; }}
.sp-table th {{ text-align: right; font-weight: 500; color: var(--muted); font-size: 12.5px;
  padding: 4px 8px 6px; border-bottom: 1px solid var(--line); vertical-align: bottom; }}
.sp-table td {{ text-align: right; padding: 6px 8px; border-bottom: 1px solid #EEF1F4;
  font-variant-numeric: tabular-nums; white-space: nowrap; }}
.sp-table td.left {{ white-space: normal; }}
.sp-table .unit {{ color: var(--muted); white-space: nowrap; font-weight: 400; }}
.sp-table tr:last-child td {{ border-bottom: 0; }}
.sp-table caption {{ caption-side: bottom; text-align: left; padding: 6px 8px 0; }}
.sp-table .left {{ text-align: left; }}
.sp-table .strong {{ font-weight: 600; }}
.sp-scroll {{ overflow-x: auto; max-width: 100%; }}
.met {{ color: var(--met); }} .missed {{ color: var(--missed); }}
.sp-mark {{ font-weight: 700; width: 1.1em; display: inline-block; text-align: center; }}
.sp-filter {{ display: grid; grid-template-columns: minmax(260px, 1fr) auto; gap: 10px 14px;
  align-items: start; }}
.sp-filter input {{ font-family: ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono",
  monospace; font-size: 13px; }}
.sp-options {{ display: flex; flex-wrap: wrap; gap: 10px 14px; align-items: center; }}
.sp-gallery {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(222px, 1fr));
  gap: 14px; margin-top: 6px; }}
.sp-stale {{ opacity: .45; }}
.sp-choice {{ min-width: 200px; }}
.sp-upload {{ width: 100%; max-width: 460px; margin-top: 8px; }}
.sp-upload .q-uploader__list {{ min-height: 0; padding: 0; }}
.sp-card {{ background: #fff; border: 1px solid var(--line); border-radius: 10px; padding: 0;
  overflow: hidden; cursor: pointer; text-align: left; font: inherit; color: inherit;
  display: flex; flex-direction: column; transition: box-shadow .15s, border-color .15s; }}
.sp-card:hover, .sp-card:focus-visible {{ border-color: #9DB7CF;
  box-shadow: 0 3px 14px #1f293320; outline: none; }}
.sp-card img, .sp-large {{ width: 100%; height: auto; aspect-ratio: 1; object-fit: contain;
  display: block; image-rendering: pixelated; background: #EEF1F4; }}
.sp-large {{ border: 1px solid var(--line); border-radius: 6px; max-width: 420px; }}
.sp-noimage {{ aspect-ratio: 1; display: grid; place-content: center; background: #EEF1F4;
  color: var(--muted); padding: 12px; text-align: center; }}
.sp-card-body {{ padding: 9px 12px 11px; display: grid; gap: 3px; font-size: 12.5px; }}
.sp-card-head {{ display: flex; justify-content: space-between; gap: 8px; align-items: baseline;
  margin-bottom: 2px; }}
.sp-id {{ font-family: ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace;
  font-weight: 600; font-size: 12.5px; }}
.sp-row {{ display: grid; grid-template-columns: 1.1em minmax(0, 1fr) auto; gap: 4px; }}
.sp-row .name {{ color: var(--muted); line-height: 1.3; padding-top: 1px; }}
.sp-row .number {{ font-weight: 600; font-variant-numeric: tabular-nums; white-space: nowrap; }}
.sp-row .unit {{ font-weight: 400; color: var(--muted); font-size: 11px; }}
.sp-composition {{ font-size: 11px; white-space: pre-wrap; padding-top: 2px;
  font-variant-numeric: tabular-nums; }}
.sp-clip {{ overflow: hidden; display: -webkit-box; -webkit-line-clamp: 4;
  -webkit-box-orient: vertical; overflow-wrap: anywhere; }}
.sp-dialog {{ background: #fff; border-radius: 12px; padding: 20px 24px 24px; width: 1080px;
  max-width: 96vw; max-height: 94vh; overflow: auto; box-sizing: border-box; display: grid;
  gap: 16px; }}
.sp-detail {{ display: grid; grid-template-columns: minmax(260px, 380px) minmax(0, 1fr);
  gap: 24px; align-items: start; }}
.sp-stack {{ display: grid; gap: 16px; min-width: 0; }}
.sp-note {{ border-left: 3px solid var(--missed); padding: 6px 10px; background: #FBF3F0;
  overflow-wrap: anywhere; }}
.sp-fields {{ max-width: 460px; max-height: 60vh; overflow: auto; padding: 12px 16px;
  display: grid; gap: 8px; font-size: 13px; }}
.sp-code {{ font-family: ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace;
  font-size: 12px; overflow-wrap: anywhere; }}
@media (max-width: 1100px) {{
  .sp-charts {{ grid-template-columns: minmax(0, 1fr) minmax(0, 1fr); }}
}}
@media (max-width: 520px) {{ .sp-row .number {{ grid-column: 2; }} }}
@media (max-width: 820px) {{
  .sp-charts, .sp-two, .sp-detail, .sp-filter {{ grid-template-columns: minmax(0, 1fr); }}
  .sp-bar, .sp-main {{ padding-left: 14px; padding-right: 14px; }}
  .sp-gallery {{ grid-template-columns: repeat(auto-fill, minmax(170px, 1fr)); }}
  .sp-dialog {{ padding: 14px; }}
  .sp-square {{ min-height: 0; height: 360px; flex: none; }}
  .sp-choice {{ min-width: 132px !important; }}
}}
"""


def tag(name: str, classes: str = "") -> Element:
    """An HTML element to be used as a context."""
    return Element(name).classes(classes)


def text(content: str, classes: str = "", name: str = "div") -> TextElement:
    """An element that holds text, shown as it is."""
    element: TextElement = TextElement(tag=name, text=content).classes(classes)
    return element


def mark(met: bool | None) -> TextElement:
    """✓ for met, ✗ for missed, a dot where nothing is to be judged; in words for screen readers."""
    sign, kind = {None: ("·", "sp-muted"), True: ("✓", "met"), False: ("✗", "missed")}[met]
    spoken = {None: "no target", True: "target met", False: "target missed"}[met]
    return text(sign, f"sp-mark {kind}", "span").props(f'aria-label="{spoken}"')


def legend(items: Iterable[tuple[str, str]]) -> None:
    """Pairs of (colour, name)."""
    with tag("div", "sp-legend"):
        for colour, name in items:
            with tag("span"):
                tag("i", "sp-swatch").style(f"background: {colour}")
                text(name, name="span")


def phase_legend(phases: Iterable[str]) -> None:
    """Names and colours of phases."""
    legend((phase_colour(i), phase_label(phase)) for i, phase in enumerate(phases))


def picture(candidate_id: str, scale: int, classes: str = "") -> Element:
    """The microstructure of a candidate, whose id is a hash and so safe inside a URL."""
    image = Element("img").classes(classes)
    image.props["src"] = f"/api/candidates/{candidate_id}/image.png?scale={scale}"
    image.props["alt"] = f"microstructure of {candidate_id[:8]}"
    image.props["loading"] = "lazy"
    return image


def add_style() -> None:
    """Put the style sheet into the page that is being built."""
    ui.colors(primary=ACCENT, negative=MISSED)
    ui.add_css(CSS)
