"""Draws docs/pictures: `python hack/pictures.py`, or `make docs`. With --check it only compares.

`demo.svg` is what two runs of the demo did, kept in `demo.json` by `record_demo.py`; `decision.svg` is how a pod gets its
node. Plain SVG with a ground of its own and two sets of colours: readable on light and on dark pages.
"""

from __future__ import annotations

import sys
from collections import Counter
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from carbon_scheduler.sim.demo_report import Report, Row

if TYPE_CHECKING:
    from collections.abc import Mapping

PICTURES: Final = Path(__file__).resolve().parents[1] / "docs/pictures"
_STYLE: Final = """
  text { font-family: system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif; font-size: 14px; fill: #1f2328 }
  .ground { fill: #ffffff; stroke: #d1d9e0 } .title { font-size: 17px; font-weight: 600 } .small { font-size: 12px }
  .dim { fill: #59636e } .mid { text-anchor: middle } .end { text-anchor: end } .bold { font-weight: 600 }
  .blind { fill: #8c959f } .ours { fill: #1a7f37 } .good { fill: #1a7f37 } .axis { stroke: #d1d9e0 }
  .box { fill: #f6f8fa; stroke: #8c959f } .core { fill: #dafbe1; stroke: #1a7f37 } .line { stroke: #59636e; fill: none }
  .head { fill: #59636e }
  @media (prefers-color-scheme: dark) {
    text { fill: #f0f6fc } .ground { fill: #0d1117; stroke: #3d444d } .dim { fill: #9198a1 } .axis { stroke: #3d444d }
    .blind { fill: #6e7681 } .ours { fill: #3fb950 } .good { fill: #3fb950 } .box { fill: #151b23; stroke: #656c76 }
    .core { fill: #12261e; stroke: #3fb950 } .line { stroke: #9198a1 } .head { fill: #9198a1 }
  }
"""
_NAMES: Final = {"newyork": "New York"}


def _svg(width: int, height: int, title: str, body: list[str]) -> str:
    ground = f'<rect class="ground" x=".5" y=".5" width="{width - 1}" height="{height - 1}" rx="8"/>'
    return (
        "<!-- Drawn by hack/pictures.py (make docs); do not edit. -->\n"
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'role="img" aria-label="{escape(title)}">\n<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n'
        + "\n".join([ground, *body])
        + "\n</svg>\n"
    )


def _text(x: float, y: float, words: str, kinds: str = "") -> str:
    return f'<text x="{x:g}" y="{y:g}" class="{kinds}">{escape(words)}</text>'


def demo(runs: Mapping[str, Report]) -> str:
    """Every pod that was placed is a dot over its place: above in a run by kube-scheduler's scores alone, below in ours."""
    alone, ours = runs["scores_alone"], runs["with_carbon"]
    counts = {
        name: Counter((row.g_per_kwh or 0.0, _place(row.node or "")) for row in _placed(runs[name])) for name in runs
    }
    places = sorted({place for one in counts.values() for place in one})
    left, column, radius, wide = 60, 95, 6, 4
    width = left + column * len(places) + 20
    means = {name: run.total.mean_g_per_kwh or 0.0 for name, run in runs.items()}
    saved = 1 - means["with_carbon"] / means["scores_alone"]
    title = f"{ours.total.placed} pods of the demo, each a dot at the place where it runs"
    body = [_text(24, 34, title, "title")]
    bottom = 60.0
    for name, words, kind, remark in (
        ("scores_alone", "By kube-scheduler's scores alone", "blind", ""),
        ("with_carbon", "With carbon-aware-scheduler", "ours", f", {100 * saved:.0f} % less"),
    ):
        tallest = max(-(-count // wide) for count in counts[name].values())
        base = bottom + 34 + tallest * (2 * radius + 2)
        body.append(_text(24, bottom + 18, words, "bold"))
        average = f"mean {means[name]:.0f} g/kWh{remark}"
        body.append(_text(width - 24, bottom + 18, average, "bold end good" if remark else "bold end"))
        body.append(f'<line class="axis" x1="24" x2="{width - 24}" y1="{base + 4:g}" y2="{base + 4:g}"/>')
        for number, place in enumerate(places):
            middle = left + column * (number + 0.5)
            for dot in range(counts[name][place]):
                x = middle + (dot % wide - (wide - 1) / 2) * (2 * radius + 2)
                y = base - radius - dot // wide * (2 * radius + 2)
                body.append(f'<circle class="{kind}" cx="{x:g}" cy="{y:g}" r="{radius}"/>')
        bottom = base + 14
    for number, (intensity, where) in enumerate(places):
        middle = left + column * (number + 0.5)
        body.append(_text(middle, bottom + 18, where, "mid"))
        body.append(_text(middle, bottom + 36, f"{intensity:.0f}", "mid bold"))
    body.append(_text(24, bottom + 36, "g/kWh", "dim small"))
    what = "Intensities are synthetic (annual averages with a daily shape)" if alone.synthetic else "Live intensities"
    body.append(
        _text(24, bottom + 66, f"{what}. Two runs of the demo's 60 pods; five were not to be placed.", "dim small")
    )
    return _svg(width, int(bottom + 84), title, body)


def _placed(run: Report) -> list[Row]:
    return [row for row in run.pods if row.state == "placed"]


def _place(node: str) -> str:
    word = node.rpartition("-")[0]
    return _NAMES.get(word, word.capitalize())


def _box(x: float, y: float, width: float, height: float, lines: list[str], kind: str = "box") -> list[str]:
    """A box with a bold first line."""
    drawn = [f'<rect class="{kind}" x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="6"/>']
    top = y + height / 2 - (len(lines) - 1) * 9 + 5
    for number, line in enumerate(lines):
        drawn.append(_text(x + width / 2, top + 18 * number, line, "mid bold" if number == 0 else "mid small dim"))
    return drawn


def _arrow(*points: tuple[float, float]) -> str:
    path = "M" + " L".join(f"{x:g} {y:g}" for x, y in points)
    (x0, y0), (x1, y1) = points[-2:]
    dx, dy = (x1 > x0) - (x1 < x0), (y1 > y0) - (y1 < y0)
    tip = f"{x1:g},{y1:g} {x1 - 8 * dx + 4 * dy:g},{y1 - 8 * dy + 4 * dx:g} {x1 - 8 * dx - 4 * dy:g},{y1 - 8 * dy - 4 * dx:g}"
    return f'<path class="line" d="{path}"/><polygon class="head" points="{tip}"/>'


def decision() -> str:
    """How a pod gets its node, and where the carbon data come from."""
    title = "From a pending pod to a Binding"
    body = [_text(24, 34, title, "title")]
    body += _box(24, 60, 180, 62, ["Kubernetes API", "pods, nodes, namespaces:", "lists, then watches"])
    body += _box(24, 250, 180, 62, ["Electricity Maps", "hourly values of each", "grid zone in use"])
    body += _box(24, 365, 180, 62, ["Packaged tables", "zones, cloud regions,", "annual averages"])
    steps = [
        ["1  Next pod", "highest priority, then oldest"],
        ["2  Which nodes may run it?", "kube-scheduler's filters"],
        ["3  Which of them are cleanest?", "within 5 % or 5 g/kWh of the cleanest"],
        ["4  Which of these fits best?", "kube-scheduler's scores; ties by a hash"],
        ["5  Charge it to the node", "the next pod sees the room gone"],
    ]
    for number, lines in enumerate(steps):
        y = 60 + 76 * number
        body += _box(300, y, 260, 58, lines, "core")
        if number:
            body.append(_arrow((430, y - 18), (430, y)))
    body.append(_arrow((204, 89), (300, 89)))
    ladder = [
        "Ladder, per grid zone",
        "this hour's value",
        "last value, up to 3 h",
        "annual average",
        "your default",
        "none",
    ]
    body += _box(640, 180, 196, 122, ladder)
    body.append(_arrow((640, 241), (560, 241)))
    body.append(_arrow((204, 281), (250, 281), (250, 448), (738, 448), (738, 302)))
    body.append('<path class="line" d="M204 396 L250 396"/>')
    body += _box(640, 60, 196, 62, ["Binding", "with the decision", "as annotations"])
    body.append(_arrow((560, 393), (600, 393), (600, 91), (640, 91)))
    body.append(
        _text(
            24,
            482,
            "Decisions read memory. Only the first answer of a grid zone is waited for, 5 s at most.",
            "dim small",
        )
    )
    return _svg(860, 502, title, body)


def pictures() -> dict[Path, str]:
    """Path -> what it should hold."""
    runs = msgspec.json.decode((PICTURES / "demo.json").read_bytes(), type=dict[str, Report])
    return {PICTURES / "demo.svg": demo(runs), PICTURES / "decision.svg": decision()}


def run(argv: list[str]) -> int:
    stale = {path: text for path, text in pictures().items() if not path.exists() or path.read_text("utf-8") != text}
    if "--check" in argv:
        for path in stale:
            print(f"Error: {path} is not what hack/pictures.py draws; run: make docs", file=sys.stderr)
        return 1 if stale else 0
    for path, text in stale.items():
        path.write_text(text, encoding="utf-8")
        print(f"drew docs/pictures/{path.name}")
    return 0


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
