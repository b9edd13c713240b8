"""A contest as one page that needs nothing else: no script, nothing from elsewhere, readable by day and by night."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

from db.printable import printable
from hpc.bench.words import about, rows, verdict, with_rest

WIDTH, LABEL, BAR, GAP = 720, 150, 26, 10  # of the drawings, in their own units
SHADES = ("a", "b", "c", "d", "e")  # of stages, see _STYLE
_STYLE = """
:root { color-scheme: light dark; --ink: #1f2328; --faint: #59636e; --paper: #ffffff; --line: #d1d9e0;
  --ours: #0969da; --theirs: #8c959f; --a: #0969da; --b: #1a7f37; --c: #bf8700; --d: #cf222e; --e: #8c959f; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6edf3; --faint: #9198a1; --paper: #0d1117; --line: #3d444d;
  --ours: #4493f8; --theirs: #656c76; --a: #4493f8; --b: #3fb950; --c: #d29922; --d: #f85149; --e: #656c76; } }
body { background: var(--paper); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; max-width: 760px;
  margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.05rem; margin: 1.6rem 0 .4rem; } p { margin: .4rem 0; }
svg { width: 100%; height: auto; } text { fill: var(--ink); font: 14px system-ui, sans-serif; }
table { border-collapse: collapse; width: 100%; } th, td { border-bottom: 1px solid var(--line); padding: .25rem .5rem;
  text-align: right; vertical-align: top; } th:first-child, td:first-child { text-align: left; }
.about td { text-align: left; overflow-wrap: anywhere; } .faint { color: var(--faint); }
.ours { fill: var(--ours); } .theirs { fill: var(--theirs); } .key { display: inline-block; width: .8em; height: .8em; }
""" + "".join(f".{shade} {{ fill: var(--{shade}); background: var(--{shade}); }}\n" for shade in SHADES)


def page(told: Mapping[str, Any]) -> str:
    """The whole file."""
    peer, ratio = told["against"], told["ratios"]["speed_up"]
    title = f"dayscribe against {peer}"
    parts = [
        f"<h1>{_text(title)}: {ratio:.2f} times its speed</h1>",
        f"<p>{_text(verdict(told))}</p>",
        *_drawings(told),
        "<h2>Measures</h2>",
        _table(rows(told), ("measure", "dayscribe", peer, "ratio")),
        "<h2>How it was measured</h2>",
        _table([{"what": key, "said": said} for key, said in about(told).items()], ("what", "said"), about=True),
        f'<p class="faint">{_text(told["at"])}; {told["rounds"]} round(s), the one of median time is shown.</p>',
    ]
    if first := told["identity"]["first"]:
        parts += ["<h2>The first that differ</h2>", _table(first, ("recording", "differs_in", "ours", "theirs"))]
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{_text(title)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head>\n<body>\n'
        + "\n".join(parts)
        + "\n</body></html>\n"
    )


def _drawings(told: Mapping[str, Any]) -> Iterator[str]:
    sides = told["contestants"]
    for title, key in (
        ("Audio seconds transcribed in a second (RTFx)", "rtfx"),
        ("How full the model's batches are, in percent", "fill_share"),
    ):
        values = {name: one[key] for name, one in sides.items()}
        if None not in values.values():
            scale = 100 if key == "fill_share" else 1
            yield f"<h2>{title}</h2>"
            yield _bars({name: scale * value for name, value in values.items()})
    for title, key in (("Calls of the model", "generate_calls"), ("Decoder steps, one after the other", "steps")):
        if all(key in one["counts"] for one in sides.values()):
            yield f"<h2>{title}</h2>"
            yield _bars({name: one["counts"][key] for name, one in sides.items()})
    stages = {name: known for name, one in sides.items() if (known := with_rest(one))}
    if stages:
        yield "<h2>CPU seconds by stage</h2>"
        yield from _stacks(stages)


def _bars(values: Mapping[str, float]) -> str:
    most, room = max(values.values()) or 1, WIDTH - LABEL - 90
    drawn = []
    for at, (name, value) in enumerate(values.items()):
        top, length = at * (BAR + GAP), max(1.0, room * value / most)
        middle = top + BAR / 2 + 5
        drawn += [
            f'<text x="0" y="{middle}">{_text(name)}</text>',
            f'<rect class="{"theirs" if at else "ours"}" x="{LABEL}" y="{top}" width="{length:.1f}" height="{BAR}"/>',
            f'<text x="{LABEL + length + 8:.1f}" y="{middle}">{_shown(value)}</text>',
        ]
    return _svg(drawn, len(values))


def _stacks(stages: Mapping[str, Mapping[str, float]]) -> Iterator[str]:
    """A bar a contestant, its parts in the order of the key below."""
    names = list(dict.fromkeys(name for one in stages.values() for name in one))
    shade = {name: SHADES[at % len(SHADES)] for at, name in enumerate(names)}
    most, room = max(sum(one.values()) for one in stages.values()) or 1, WIDTH - LABEL - 90
    drawn = []
    for at, (who, one) in enumerate(stages.items()):
        top, left = at * (BAR + GAP), float(LABEL)
        drawn.append(f'<text x="0" y="{top + BAR / 2 + 5}">{_text(who)}</text>')
        for name in (name for name in names if name in one):
            length = room * one[name] / most
            drawn.append(
                f'<rect class="{shade[name]}" x="{left:.1f}" y="{top}" width="{length:.1f}" height="{BAR}">'
                f"<title>{_text(name)}: {one[name]:.1f} s</title></rect>"
            )
            left += length
        drawn.append(f'<text x="{left + 8:.1f}" y="{top + BAR / 2 + 5}">{_shown(sum(one.values()))}</text>')
    yield _svg(drawn, len(stages))
    yield "<p>" + " ".join(f'<span class="key {shade[name]}"></span> {_text(name)}' for name in names) + "</p>"


def _svg(drawn: Sequence[str], bars: int) -> str:
    return f'<svg viewBox="0 0 {WIDTH} {bars * (BAR + GAP)}" role="img">{"".join(drawn)}</svg>'


def _table(listed: Sequence[Mapping[str, Any]], keys: Sequence[str], *, about: bool = False) -> str:
    head = "" if about else "<tr>" + "".join(f"<th>{_text(key.replace('_', ' '))}</th>" for key in keys) + "</tr>"
    body = "".join("<tr>" + "".join(f"<td>{_text(row[key])}</td>" for key in keys) + "</tr>" for row in listed)
    return f"<table{' class=about' if about else ''}>{head}{body}</table>"


def _shown(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.1f}"


def _text(said: Any) -> str:
    """What comes from outside (names, transcripts) is text and nothing else."""
    return escape(printable(str(said)))
