"""A synthetic day: archives of clips with known words, their companions, and the troubles of real days.

Everything follows from the seed: a second making gives the same bytes, and one that was killed is gone on with from its
last whole archive. Sentences are drawn from seeds that are text, which those of the demo model's training never are; so
no clip of a day was trained on, though a short sentence of a small vocabulary may well occur in both.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import multiprocessing
import os
import secrets
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from db import faults
from db.errors import TryAgain
from hpc.dates import MONTHS, SITE
from hpc.demo.archive import write_archive
from hpc.demo.clips import make_clips
from hpc.demo.companions import KINDS, write_companions
from hpc.demo.trouble import SLOTS_A_DAY, SlotPlan, Trouble, plan
from hpc.demo.truth import DayTruth, read_truth, to_line
from hpc.errors import BadSetting, Interrupted

RECIPE = 1  # raised when the same seed begins to give other bytes
MOST_CLIPS = 5_000  # a slot; more than any real one has
YEARS = range(1978, 2038)  # those whose ids, Unix time << 32, have 19 digits and fit 63 bits
Progress = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class _Job:
    """All that a child process needs to make one archive."""

    folder: Path
    audio: Path
    site: str
    date: date
    seed: int
    plan: SlotPlan

    @property
    def name(self) -> str:
        return f"0_{self.date}_{self.plan.slot}"

    @property
    def archive(self) -> Path:
        return self.audio / f"{self.name}.tar.xz"

    @property
    def receipt(self) -> Path:
        return self.folder / "truth" / str(self.date) / f"{self.plan.slot}.json"

    @property
    def source(self) -> str:
        """What all randomness of this archive comes from."""
        return f"dayscribe demo day {RECIPE}: {self.site} {self.date} {self.plan.slot} {self.seed}"


class NotOurs(BadSetting):
    """The folder holds archives of this day that were not made here."""


def make_day(
    folder: Path,
    *,
    site: str,
    date: date,
    slots: int,
    clips: int,
    seed: int,
    trouble: Trouble,
    progress: Progress = lambda clips: None,  # noqa: ARG005
) -> DayTruth:
    """Make the day in `<folder>/<site>_<year>_<month>/prepped_data`; what is there already of the same day is kept.

    `progress` is told of clips as they get done. The truth is written to `<folder>/truth`, companions that are to come
    late to `<folder>/late`: neither is inside the folder that the pipeline is given.
    """
    _check(site, date, slots=slots, clips=clips)
    plans, missing = plan(trouble, slots=slots, clips=clips)
    folder = folder.absolute()
    audio = folder / f"{site}_{date.year}_{MONTHS[date.month - 1]}" / "prepped_data"
    jobs = [_Job(folder, audio, site, date, seed, one) for one in plans]
    recipe = {
        "version": RECIPE, "site": site, "slots": slots, "clips": clips, "seed": seed, "trouble": sorted(trouble.names),
    }  # fmt: skip
    head = {
        "recipe": recipe,
        "site": site,
        "audio": str(audio.relative_to(folder)),
        "archives": [job.archive.name for job in jobs],
        "missing": list(missing),
        "damaged": [job.archive.name for job in jobs if job.plan.damaged],
        "misnamed": [job.archive.name for job in jobs if job.plan.plain],
    }
    with _alone(folder, date):
        _adopt(folder, audio, date, head)
        todo = [job for job in jobs if not _is_whole(job)]
        progress((len(jobs) - len(todo)) * clips)
        for _ in _make(todo):
            progress(clips)
        _publish(folder / "truth" / f"{date}.jsonl", "".join(_lines(jobs)))
    return read_truth(folder, date)


def _check(site: str, on: date, *, slots: int, clips: int) -> None:
    if not SITE.fullmatch(site):
        raise BadSetting(f"A site's name is lower-case letters, digits, '-' and '_', a letter first; not {site!r}.")
    if not 1 <= slots <= SLOTS_A_DAY or not 1 <= clips <= MOST_CLIPS or on.year not in YEARS:
        raise BadSetting(
            f"A synthetic day has 1 to {SLOTS_A_DAY} slots of 1 to {MOST_CLIPS} clips, "
            f"in {YEARS[0]} to {YEARS[-1]}; not {slots} of {clips} on {on}."
        )


@contextmanager
def _alone(folder: Path, on: date) -> Iterator[None]:
    """Keep a second command from making the same day at the same time."""
    truth = folder / "truth"
    truth.mkdir(parents=True, exist_ok=True)
    with (truth / f".{on}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise TryAgain(f"Another command is making the day {on} in {folder}; wait for it to end.") from error
        yield


def _adopt(folder: Path, audio: Path, on: date, head: dict[str, Any]) -> None:
    """Begin the day, or go on with it; a day that is not the one asked for is never written over."""
    path = folder / "truth" / f"{on}.json"
    if path.exists():
        before = json.loads(path.read_text())["recipe"]
        differing = [f"{key} {before.get(key)!r}" for key, value in head["recipe"].items() if before.get(key) != value]
        if differing:
            raise BadSetting(
                f"{folder} holds another synthetic day {on}, with {', '.join(differing)}; choose a new folder."
            )
    elif found := sorted(audio.glob(f"0_{on}_*")):
        raise NotOurs(f"{found[0]} was not made by this command; choose a new folder, nothing was changed.")
    audio.mkdir(parents=True, exist_ok=True)
    (folder / "truth" / str(on)).mkdir(exist_ok=True)
    for pattern in (f"**/.0_{on}_*.tmp", f"truth/.{on}.*.tmp", f"truth/{on}/.*.tmp"):
        for leftover in folder.glob(pattern):
            leftover.unlink()
    _publish(path, json.dumps(head, indent=2) + "\n")


def _is_whole(job: _Job) -> bool:
    """Whether the archive and its companions are there; the companions may have been moved from late/ meanwhile."""
    try:
        receipt = json.loads(job.receipt.read_text())
        same = receipt["sha256"] == _digest(job.archive)
    except FileNotFoundError:
        return False
    names = [f"{job.name}_{kind}.parquet" for kind in KINDS]
    return same and all(any((place / name).exists() for place in (job.audio, job.folder / "late")) for name in names)


def _make(jobs: Sequence[_Job]) -> Iterator[None]:
    """Make the archives, one process a core; says something after each."""
    workers = min(len(os.sched_getaffinity(0)), len(jobs))
    if workers <= 1:
        yield from map(_make_archive, jobs)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_end_with_parent) as pool:
        running = [pool.submit(_make_archive, job) for job in jobs]
        try:
            yield from (one.result() for one in as_completed(running))
        except BrokenProcessPool as error:
            raise Interrupted("A process making the day was ended; run the same command again to go on.") from error
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _end_with_parent() -> None:
    """A killed command must not leave processes that wait for work for ever, or write while its successor does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal's Ctrl-C is the parent's to answer
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _make_archive(job: _Job) -> None:
    """The archive, then its companions, then the receipt that says that both are whole."""
    temporary = job.archive.with_name(f".{job.archive.name}.{secrets.token_hex(8)}.tmp")
    members = make_clips(job.plan, on=job.date, shard=job.archive.name, source=job.source)
    clips = write_archive(temporary, members, plan=job.plan)
    temporary.replace(job.archive)
    faults.point("demo.archive_renamed")
    place = job.folder / "late" if job.plan.late else job.audio
    place.mkdir(exist_ok=True)
    write_companions(clips, number=job.plan.number, stem=place / job.name, source=job.source)
    lines = [to_line(clip.truth) for clip in clips]
    _publish(job.receipt, json.dumps({"sha256": _digest(job.archive), "lines": lines}))


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _lines(jobs: Sequence[_Job]) -> Iterator[str]:
    for job in jobs:
        for line in json.loads(job.receipt.read_text())["lines"]:
            yield f"{line}\n"


def _publish(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    temporary.write_text(text)
    temporary.replace(path)
