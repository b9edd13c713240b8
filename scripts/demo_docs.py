"""Puts what `make demo` said into the docs: `make demo 2>&1 | tee LOG`, then `python scripts/demo_docs.py LOG`.

Writes docs/images/demo.svg, the demo's rows of the README's table, and the table of the tutorial: one run, everywhere.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
TUTORIAL = ROOT / "docs" / "tutorial" / "first-day.md"
PICTURE = ROOT / "docs" / "images" / "demo.svg"
FIRST, LAST = "model", "speed"  # the lines of the demo's table that the tutorial shows; the rest is of one machine
ROWS = {  # the README's rows: what they are called, and how they are told in the demo's own words
    "the demo's day, word error rate": "{word error rate}, demonstration model",
    "the demo's day, word starts": "{word starts}",
    "the demo's day, speed of the engine": "{speed}",
}


def main() -> None:
    """Read the log, write the three."""
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    said = Path(sys.argv[1]).read_text(encoding="utf-8")
    table = table_of(said)
    PICTURE.write_text(picture(said), encoding="utf-8")
    README.write_text(with_rows(README.read_text(encoding="utf-8"), table), encoding="utf-8")
    TUTORIAL.write_text(with_table(TUTORIAL.read_text(encoding="utf-8"), table), encoding="utf-8")


def table_of(said: str) -> dict[str, str]:
    """The demo's table, line by line. Where the clone lies is nobody's business."""
    shown = re.sub(r"(?<=\s)/\S*?(?=/results/)", "~/dayscribe/.demo", said).splitlines()
    start = next((number for number, line in enumerate(shown) if line.startswith(f"{FIRST}  ")), None)
    if start is None:
        sys.exit("The log has no table: did the demo end?")
    lines = (re.fullmatch(r"([A-Za-z][A-Za-z ]*?) {2,}(\S.*)", line.rstrip()) for line in shown[start:])
    return {line[1]: line[2] for line in lines if line}


def with_rows(page: str, table: dict[str, str]) -> str:
    """The README with this run's numbers."""
    told = table | {"speed": table["speed"].partition(";")[0].removeprefix("engine ")}
    for name, wanted in ROWS.items():
        value = re.sub(r"\{([a-z ]+)\}", lambda match: told[match[1]], wanted)
        old = re.findall(rf"^\| {name} \| [^|]* \|", page, re.MULTILINE)
        assert len(old) == 1, f"README.md has {len(old)} rows {name!r}"
        page = page.replace(old[0], f"| {name} | {value} |")
    return page


def with_table(page: str, table: dict[str, str]) -> str:
    """The tutorial with this run's table."""
    names = list(table)
    shown = names[names.index(FIRST) : names.index(LAST) + 1]
    new = "".join(f"{name:<17}{table[name]}\n" for name in shown)
    page, count = re.subn(rf"(?ms)^{FIRST} {{2,}}.*?^{LAST} {{2,}}[^\n]*\n", lambda _: new, page)
    assert count == 1, f"the tutorial has {count} tables"
    return page


def picture(said: str) -> str:
    """A picture of the terminal."""
    from rich._export_format import CONSOLE_SVG_FORMAT
    from rich.console import Console
    from rich.text import Text

    progress = [
        line for line in said.splitlines() if re.match(r"speaking the day|starting Post|demo \d{4}-.*shards", line)
    ]
    with Path(os.devnull).open("w") as nothing:
        console = Console(record=True, width=112, file=nothing, highlight=False)
        console.print(Text("$ make demo", style="bold"))
        for line in progress[-4:]:
            console.print(Text(line, style="dim"))
        for name, value in table_of(said).items():
            console.print(Text.assemble((f"{name:<17}", "cyan"), value))
    # Without the fonts that the template fetches: every letter is placed by its own length, and any font will do.
    template = re.sub(r"@font-face \{\{.*?\}\}", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
    return console.export_svg(title="dayscribe", code_format=template, unique_id="demo")


if __name__ == "__main__":
    main()
