"""Plans under fire: a worker of one is killed, stopped or frozen at every named point; run again, the end is the same.

Readers see the old transcripts of an archive or the new ones, never some of each.
"""

from __future__ import annotations

import io
import shutil
import signal
import tarfile
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from db import days, plans
from hpc.stages.ingest import ingest, waiting

DAY = "2025-01-01"
POINTS = (
    "claim.before", "claim.committed", "unpack.opened", "unpack.member", "unpack.ended", "decode.sent",
    "decode.received", "engine.sent", "engine.received", "publish.opened", "publish.half", "publish.written",
    "publish.fsynced", "publish.renamed", "publish.dirsynced", "record.before", "record.intx", "seal.intx",
    "settle.intx", "record.committed",
)  # fmt: skip
CASES = [f"{point}-{action}" for point in POINTS for action in ("kill", "term", "stop")]
AT_ONCE = 2
QUARANTINED, AGAIN = 65, 75  # exit codes
NEW = {"engine.language": "de"}  # another key, and another language in every transcript
PLAN = ("reprocess", "--plan", "1", "--here")


def draw(here: Any) -> None:
    """Bring a place to where a plan of its whole day is drawn."""
    assert here.finish(here.start()) == QUARANTINED, here.said()
    made = here.start("", "reprocess", "--date", DAY, "--dry-run", **NEW)
    assert here.finish(made) == 0, here.said()


@pytest.fixture(scope="module")
def drawn(place: Callable[..., AbstractContextManager[Any]]) -> Iterator[Any]:
    """A place where nothing has happened since; others begin as a copy of it."""
    with place() as here:
        draw(here)
        yield here


@pytest.fixture(scope="module")
def swept(
    request: pytest.FixtureRequest,
    place: Callable[..., AbstractContextManager[Any]],
    drawn: Any,
) -> Iterator[dict[str, Future[None]]]:
    """The end of every case that was asked for, a few being tried at once."""
    with place(like=drawn) as here:
        assert here.finish(here.start("", *PLAN, **NEW)) == QUARANTINED, here.said()
        undisturbed = ended(here)

    def run(case: str) -> None:
        point, _, action = case.partition("-")
        with place(like=drawn) as here:
            try:
                disturb(here, point, action)
                assert ended(here) == undisturbed
            except AssertionError as error:
                raise AssertionError(f"{error}\n{here.said()}") from error

    wanted = [item.callspec.params["case"] for item in request.session.items if is_a_case(item)]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield {case: pool.submit(run, case) for case in wanted}
        pool.shutdown(cancel_futures=True)


def is_a_case(item: Any) -> bool:
    return getattr(item, "originalname", "") == test_the_plan_ends_the_same.__name__


def disturb(here: Any, point: str, action: str) -> None:
    worker = here.start(f"{point}:{2 if not point.startswith('claim') else 1}:{action}", *PLAN, **NEW)
    if action == "stop":
        here.until_stopped(worker)
        here.freeze(worker)
        with here.ledger() as connection:
            connection.execute("UPDATE plan_shards SET lease_until = now() WHERE state = 'leased'")
        never_mixed(here)
        assert here.finish(here.start("", *PLAN, **NEW)) == QUARANTINED  # the successor
        here.thaw(worker)
        assert here.finish(worker) == QUARANTINED  # it finds that everything is done
    else:
        code = here.finish(worker)
        assert code == (-signal.SIGKILL if action == "kill" else AGAIN)
        never_mixed(here)
        assert here.finish(here.start("", *PLAN, **NEW)) == QUARANTINED


def never_mixed(here: Any) -> None:
    """Of each archive readers see one language."""
    with here.ledger() as connection:
        mixed = connection.execute(
            "SELECT r.shard_id FROM recordings r JOIN transcripts t ON t.id = r.current_id WHERE t.language IS NOT NULL"
            " GROUP BY r.shard_id HAVING count(DISTINCT t.language) > 1"
        ).fetchall()
        assert mixed == []
        assert connection.execute("SELECT count(*) AS n FROM recordings WHERE current_id IS NULL").fetchone()["n"] == 1


def ended(here: Any) -> Any:
    """What the plan has come to, in nothing but values that must not depend on what happened on the way."""
    with here.ledger() as connection:
        for path in waiting(connection, here.results.glob("*/*/plans/*")):
            ingest(connection, path, actor="test")
        plan = plans.get(connection, 1)
        summary = {name: value for name, value in (plan.summary or {}).items() if name != "engine_seconds"}
        [day] = days.find(connection)
        assert day["summary"] == days.tally(connection, day["id"])
        unsettled = "SELECT name FROM parts WHERE plan_id = 1 AND state = 'provisional'"
        assert connection.execute(unsettled).fetchall() == []
        left = [str(path) for path in here.results.rglob("*") if path.is_file() and not path.name[0].isdigit()]
        assert left == []
        recordings = connection.execute(
            "SELECT s.name AS shard, r.ordinal, r.state, r.failure_class, t.version, t.language, t.text, q.outcome"
            " FROM recordings r JOIN shards s ON s.id = r.shard_id LEFT JOIN transcripts t ON t.id = r.current_id"
            " JOIN plan_recordings q ON q.recording_id = r.id ORDER BY 1, 2"
        ).fetchall()
        versions = connection.execute(
            "SELECT s.name AS shard, r.ordinal, array_agg(t.version ORDER BY t.version) AS versions FROM transcripts t"
            " JOIN recordings r ON r.id = t.recording_id JOIN shards s ON s.id = r.shard_id GROUP BY 1, 2 ORDER BY 1, 2"
        ).fetchall()
        return plan.state, summary, day["state"], recordings, versions


@pytest.mark.parametrize("case", CASES)
def test_the_plan_ends_the_same(case: str, swept: dict[str, Future[None]]) -> None:
    assert swept[case].result() is None


def test_a_finished_plan_run_again_writes_nothing(
    place: Callable[..., AbstractContextManager[Any]], drawn: Any
) -> None:
    counted = (
        "SELECT (SELECT count(*) FROM transcripts) AS transcripts, (SELECT count(*) FROM parts) AS parts,"
        " (SELECT count(*) FROM events) AS events, (SELECT max(changed) FROM plan_shards) AS changed"
    )
    with place(like=drawn) as here:
        assert here.finish(here.start("", *PLAN, **NEW)) == QUARANTINED, here.said()
        with here.ledger() as connection:
            before = connection.execute(counted).fetchone()
        assert here.finish(here.start("", *PLAN, **NEW)) == QUARANTINED, here.said()
        assert "nothing is to do" in here.said()
        with here.ledger() as connection:
            assert connection.execute(counted).fetchone() == before
        assert here.finish(here.start("", "reprocess", "--date", DAY, **NEW)) == 0, here.said()
        assert "nothing is to be made again" in here.said()
        with here.ledger() as connection:
            assert connection.execute(counted).fetchone() == before


@pytest.mark.parametrize("point", ["engine.sent:2", "publish.renamed:1", "record.intx:2", "seal.intx:2"])
def test_a_plan_that_aligns_ends_the_same_wherever_it_is_killed(
    place: Callable[..., AbstractContextManager[Any]], drawn: Any, point: str
) -> None:
    texts = "SELECT r.id, t.text FROM recordings r JOIN transcripts t ON t.id = r.current_id ORDER BY r.id"
    mixed = (
        "SELECT r.shard_id FROM recordings r JOIN transcripts t ON t.id = r.current_id WHERE t.outcome = 'speech'"
        " GROUP BY r.shard_id HAVING count(DISTINCT t.version) > 1"
    )
    versions = (
        "SELECT t.version, t.plan_id, count(*) AS n FROM transcripts t JOIN recordings r ON r.current_id = t.id"
        " WHERE t.outcome = 'speech' GROUP BY 1, 2"
    )
    with place(like=drawn) as here:
        with here.ledger() as connection:
            before = connection.execute(texts).fetchall()
        align = ("reprocess", "--date", DAY, "--stage", "align")
        assert here.finish(here.start("", *align, "--dry-run")) == 0, here.said()
        run = ("reprocess", "--plan", "2", "--here")
        assert here.finish(here.start(f"{point}:kill", *run)) == -signal.SIGKILL
        with here.ledger() as connection:
            assert connection.execute(mixed).fetchall() == []
            connection.execute("UPDATE plan_shards SET lease_until = now() WHERE state = 'leased'")
        assert here.finish(here.start("", *run)) == 0, here.said()
        with here.ledger() as connection:
            plan = plans.get(connection, 2)
            assert connection.execute(texts).fetchall() == before, "the text stays"
            assert connection.execute(mixed).fetchall() == []
            [made] = connection.execute(versions).fetchall()
        assert plan.state == "done"
        assert made == {"version": 2, "plan_id": 2, "n": plan.recordings}, "each word got new times, once"


@pytest.mark.parametrize("point", ["claim.committed:1", "judge.intx:1", "judge.committed:2"])
def test_a_plan_that_judges_anew_ends_the_same_wherever_it_is_killed(
    place: Callable[..., AbstractContextManager[Any]], drawn: Any, point: str
) -> None:
    stale = "INSERT INTO flags SELECT current_id, 'gap', day_id, 9.0, 'by older rules' FROM recordings WHERE state = %s"
    with place(like=drawn) as here:
        with here.ledger() as connection:
            count = connection.execute(stale, ["transcribed"]).rowcount
            connection.execute("UPDATE shards SET judged = NULL")
        judge = ("reprocess", "--date", DAY, "--stage", "enrich")
        assert here.finish(here.start("", *judge, "--dry-run")) == 0, here.said()
        run = ("reprocess", "--plan", "2", "--here")
        assert here.finish(here.start(f"{point}:kill", *run)) == -signal.SIGKILL
        with here.ledger() as connection:
            connection.execute("UPDATE plan_shards SET lease_until = now() WHERE state = 'leased'")
        assert here.finish(here.start("", *run)) == 0, here.said()
        with here.ledger() as connection:
            plan = plans.get(connection, 2)
            judged = connection.execute("SELECT name FROM shards WHERE judged > 0").fetchall()
            planned = connection.execute("SELECT count(*) AS n FROM plan_shards WHERE plan_id = 2").fetchone()
            done = connection.execute("SELECT count(*) AS n FROM events WHERE what = 'plan.shard_done'").fetchone()
            assert connection.execute("SELECT * FROM flags").fetchall() == []
        assert (plan.state, len(judged)) == ("done", planned["n"])
        assert plan.summary is not None
        assert done["n"] == plan.summary["shards"], "each archive is settled once"
        assert plan.summary["changes"] == {"gap": {"gained": 0, "lost": count, "other": 0}}, "and all is told of once"


@pytest.mark.parametrize("how", ["other bytes", "fewer", "more"])
def test_an_archive_that_changed_since_fails_alone_before_anything_of_it_is_transcribed(
    place: Callable[..., AbstractContextManager[Any]],
    audio: Path,
    tmp_path: Path,
    how: str,
) -> None:
    folder = tmp_path / "audio"
    shutil.copytree(audio, folder)
    with place(folder) as here:
        draw(here)
        first = folder / "0_2025-01-01_00_00.tar.xz"
        with tarfile.open(first) as old:
            clips = {member.name: old.extractfile(member).read() for member in old.getmembers()}  # type: ignore[union-attr]
        if how == "other bytes":
            clips["a1.wav"] = clips["a0.wav"]
        elif how == "fewer":
            del clips["a2.wav"]
        else:
            clips["a3.wav"] = clips["a0.wav"]
        with tarfile.open(first, "w:xz") as out:
            for name, data in clips.items():
                member = tarfile.TarInfo(name)
                member.size = len(data)
                out.addfile(member, io.BytesIO(data))
        assert here.finish(here.start("", *PLAN, **NEW)) == QUARANTINED, here.said()
        never_mixed(here)
        with here.ledger() as connection:
            plan = plans.get(connection, 1)
            failed = [shard for shard in plans.shards(connection, 1) if shard["state"] == "failed"]
            languages = connection.execute(
                "SELECT s.name, t.language FROM recordings r JOIN transcripts t ON t.id = r.current_id"
                " JOIN shards s ON s.id = r.shard_id WHERE t.language IS NOT NULL GROUP BY 1, 2 ORDER BY 1"
            ).fetchall()
        assert plan.state == "done"
        assert [(shard["name"], shard["failure_class"]) for shard in failed] == [(first.name, "archive_damaged")]
        assert "is not the archive that was transcribed first" in failed[0]["failure_reason"]
        assert [row["language"] for row in languages] == ["en", "de"]
