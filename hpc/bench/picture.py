"""A contest as a PNG, where matplotlib is installed: the speech libraries bring it along."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hpc.bench.words import verdict

COLOURS = ("#0969da", "#8c959f")


def draw(told: Mapping[str, Any], out: Path) -> None:
    """The bars of the page, side by side."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    sides = told["contestants"]
    drawn = {
        "audio seconds a second": {name: one["rtfx"] for name, one in sides.items()},
        "batch fill, %": {name: 100 * (one["fill_share"] or 0) for name, one in sides.items()},
        "generate calls": {name: one["counts"].get("generate_calls", 0) for name, one in sides.items()},
        "decoder steps": {name: one["counts"].get("steps", 0) for name, one in sides.items()},
    }
    figure, places = pyplot.subplots(1, len(drawn), figsize=(12, 4), layout="constrained")
    for place, (title, values) in zip(places, drawn.items(), strict=True):
        bars = place.bar(list(values), list(values.values()), color=COLOURS)
        place.bar_label(bars, fmt="{:,.0f}")
        place.set_title(title)
        place.spines[["top", "right"]].set_visible(False)
    figure.suptitle(f"dayscribe against {told['against']}: {told['ratios']['speed_up']:.2f} times its speed")
    figure.supxlabel(f"{verdict(told)}\n{told['command']}", fontsize=8)
    figure.savefig(out, dpi=120)
    pyplot.close(figure)
