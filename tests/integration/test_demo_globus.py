"""`make demo-globus`, without a model: a day comes by Globus, harmed once, and nothing of it runs afterwards."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import date
from pathlib import Path

import pytest

from db import days, listings, transfers
from db.connect import connect
from db.embedded import EmbeddedPostgres

SCRIPT = Path(__file__).parents[2] / "scripts" / "demo_globus.sh"
HARMED = "0_2025-03-30_00_20.tar.xz"


@pytest.fixture
def base() -> Iterator[Path]:
    """A folder that other users may enter, so that root's server lies in it, and whose path has room for a socket."""
    folder = Path(tempfile.mkdtemp(prefix="demo-globus-"))
    folder.chmod(0o755)
    yield folder
    EmbeddedPostgres(folder / "home" / "postgres").stop()
    shutil.rmtree(folder)


def start(base: Path) -> subprocess.Popen[bytes]:
    with (base / "said").open("wb") as said:  # a file: what is started would hold a pipe open
        return subprocess.Popen(
            [SCRIPT, base], env=os.environ | {"ENGINE": "echo", "CLIPS": "2", "DAYSCRIBE_HOME": "/nowhere"},
            stdin=subprocess.DEVNULL, stdout=said, stderr=said, start_new_session=True,
        )  # fmt: skip


def left(base: Path) -> list[str]:
    """What still runs of it: processes with this folder in their words, and its PostgreSQL."""
    found = [] if not EmbeddedPostgres(base / "home" / "postgres").describe().running else ["postgres"]
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            words = words_of(process)
            found += [words] if str(base) in words else []
    return found


def until(true: Callable[[], object], otherwise: Callable[[], str], seconds: float = 90) -> None:
    """Look again and again until it is true."""
    give_up, pause = time.monotonic() + seconds, threading.Event()
    while not true():
        assert time.monotonic() < give_up, otherwise()
        pause.wait(0.05)


def test_a_day_comes_by_globus_and_the_file_that_was_harmed_is_named_and_fetched_again(base: Path) -> None:
    demo = start(base)
    code, text = demo.wait(180), (base / "said").read_text()
    assert code == 0, text
    assert left(base) == []
    assert re.search(rf"^00_20 +{HARMED} +wrong +1 +its md5 is not the one that was sent", text, re.MULTILINE), text
    assert re.search(r"^00 +vmsc +vmsc +!msc +---- +vmsc +vmsc$", text, re.MULTILINE), text
    assert re.search(r"^00 +Tmsc +Tmsc +Tmsc +---- +Tmsc +Tmsc$", text, re.MULTILINE), text
    assert "02_00 to 02_50 never come" in text
    assert (base / "secret").read_text().strip() not in text
    with connect(EmbeddedPostgres(base / "home" / "postgres").start()) as connection:
        [day] = days.find(connection)
        assert (day["date"], day["state"]) == (date(2025, 3, 30), "completed")
        files = {
            row["kind"]: (row["expected"], row["verified"], row["missing"])
            for row in listings.gaps(connection, day["id"])
        }
        assert files == dict.fromkeys(("archive", "metadata", "subtitles", "comments"), (6, 6, 0))
        moved = [(row["what"], row["state"], row["files"]) for row in transfers.latest(connection)[::-1]]
        assert moved == [("archives", "succeeded", 6), ("companions", "succeeded", 18), ("archives", "succeeded", 1)]
    far, here = base / "far" / "demo_2025_march" / "prepped_data", base / "here" / "staging" / "demo" / "2025-03-30"
    assert bytes_in(here) == bytes_in(far)


def runs(demo: subprocess.Popen[bytes], words: str) -> bool:
    """Whether it has started this command: the command itself, not the copy of the shell that is about to become it,
    in which an interrupt gets lost."""
    children = Path(f"/proc/{demo.pid}/task/{demo.pid}/children").read_text().split()
    with suppress(OSError):
        return any(words in words_of(Path("/proc") / child) for child in children)
    return False


def interrupted(demo: subprocess.Popen[bytes]) -> bool:
    """Whether it has ended; else Ctrl-C is pressed."""
    if demo.poll() is None:
        os.killpg(demo.pid, signal.SIGINT)
    return demo.poll() is not None


def words_of(process: Path) -> str:
    return (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")


def bytes_in(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_whoever_ends_it_early_leaves_nothing_running_and_a_second_time_it_begins_anew(base: Path) -> None:
    """A terminal's Ctrl-C is sent to all that it started; one that comes as a command ends is lost in the shell, and
    then a person presses it again."""
    demo = start(base)
    until(lambda: runs(demo, "days add"), (base / "said").read_text)
    until(lambda: interrupted(demo), (base / "said").read_text)
    text = f"{demo.wait(60)}\n{(base / 'said').read_text()}"
    assert text.startswith("130\n"), text
    assert left(base) == []
    assert start(base).wait(180) == 0, (base / "said").read_text()
    assert left(base) == []
