"""The only place where ports meet adapters: settings in, ready objects out."""

from __future__ import annotations

import getpass
import math
import os
import secrets
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import UTC, date, datetime, timedelta
from functools import cache, partial
from pathlib import Path
from typing import Any

from db import days, listings, migrate, plans, sites, transfers
from db.connect import Connection, connect
from db.embedded import EmbeddedPostgres
from db.errors import TryAgain
from db.parts import Recorded
from db.roles import Roles
from db.session import Session
from db.states import DayState
from hpc import canary as canaries
from hpc import code_copy, day, images, login_nodes, receipt, registry
from hpc.config import Settings, environment
from hpc.doctor import visit
from hpc.errors import BadSetting
from hpc.feeds.ledger import LedgerFeed
from hpc.feeds.ledger.desk import Desk
from hpc.feeds.ledger.desk import of as desk_of
from hpc.feeds.ledger.renewer import Renewer
from hpc.feeds.plan import PlanFeed
from hpc.job_folder import JobFolder, Order, PlannedShard
from hpc.jobs import JobSpec
from hpc.launchers.slurm import SlurmLauncher
from hpc.launchers.slurm.commands import Exchange, Here
from hpc.pipeline import Tools
from hpc.ports import Feed, Launcher
from hpc.stages.decode import DecodeLimits, DecoderPool
from hpc.stages.engine_process import EngineProcess
from hpc.stages.ingest import ingest
from hpc.stages.publish import folder_of, published
from hpc.stages.record import Recorder
from hpc.stages.transcribe import Room
from hpc.stages.unpack import ArchiveLimits
from hpc.tick.again import give_up
from hpc.tick.report import Report
from hpc.tick.world import Code, World
from hpc.wiring import movers, preflights, runs

canary = preflights.canary
engine_options = runs.engine_options
CLONE = Path(__file__).resolve().parents[2]  # or where our packages are installed
_LIBPQ = (
    "PGSERVICE", "PGSERVICEFILE", "PGPASSFILE", "PGHOST", "PGHOSTADDR", "PGPORT", "PGDATABASE", "PGUSER", "PGSSLMODE",
    "PGSSLROOTCERT", "PGSSLCERT", "PGSSLKEY",
)  # fmt: skip
# Settings of who moves files, and of who writes to people.
_MOVERS = ("DAYSCRIBE_GLOBUS__", "DAYSCRIBE_DELIVER__", "DAYSCRIBE_ALERT__")
# Where Globus is, if elsewhere, and the way there.
_SERVICES = (
    "GLOBUS_SDK_ENVIRONMENT", "GLOBUS_SDK_SERVICE_URL_AUTH", "GLOBUS_SDK_SERVICE_URL_TRANSFER", "HTTPS_PROXY",
    "https_proxy", "NO_PROXY", "no_proxy",
)  # fmt: skip


def embedded(settings: Settings) -> EmbeddedPostgres:
    """The server of one's own under home, started by nobody yet."""
    return EmbeddedPostgres(settings.home / "postgres")


def ledger_dsn(settings: Settings) -> str:
    """Where the ledger is. Without a setting it is our own server, which is started and brought up to date here."""
    given = settings.ledger.conninfo
    if given is not None:
        return given
    if images.inside():
        raise BadSetting(
            "No PostgreSQL of one's own is started inside an image: start it outside (dayscribe db start), and name it"
            " in ledger.dsn."
        )
    login_nodes.refuse(settings.login_nodes, "a PostgreSQL of one's own")
    dsn = embedded(settings).start()
    with connect(dsn, application="dayscribe-init") as connection:
        migrate.initialise(connection, roles(settings, connection))
    return dsn


def roles(settings: Settings, connection: Connection) -> Roles:
    """The names of the ledger's roles; one login for all where the lab has only one."""
    if settings.ledger.single_role:
        return Roles.single(connection.info.user)
    return Roles.prefixed(settings.ledger.role_prefix)


@contextmanager
def session(settings: Settings, *, application: str = "dayscribe") -> Iterator[Session]:
    """A session with a ledger whose schema this program speaks."""
    opened = Session(ledger_dsn(settings), application=application, require_tls=settings.ledger.require_tls)
    try:
        opened(migrate.check)
        yield opened
    finally:
        opened.close()


def register(settings: Settings, session: Session, site: sites.Site, on: date) -> day.Registered:
    """List a day into the ledger, and bring it here if its files lie elsewhere: linked or copied at once. TryAgain: its
    files are on their way, or cannot come now."""
    if site.route:
        session(days.add, site.id, [on])
        report = Report()
        porter = movers.porter(settings, session, works=True)
        porter.list_day(report, site.name, on, deadline=math.inf)
        day_id = session(days.get, site.name, on).id
        porter.follow(report, seconds=math.inf, day_id=day_id)  # what somebody began who was interrupted, too
        found = session(days.by_id, day_id)
        if found.state in (DayState.PENDING, DayState.TRANSFERRING, DayState.TRANSFER_FAILED):
            why = "; ".join(f"{line.what}: {line.detail}" for line in report.waits) or found.message or ""
            raise TryAgain(f"{site.name} {on} is {found.state}: {why}")
        return day.Registered(found, 0, 0, ())
    return day.register(
        session, site, on, origin=movers.origin(site), source=movers.source(settings, site),
        staged=movers.staged(settings, site, on), max_attempts=settings.worker.max_attempts,
    )  # fmt: skip


def fetch_again(settings: Settings, session: Session, plan_id: int) -> list[str]:
    """Bring here what was let go and the plan reads: linked or copied at once, or asked for; what stands in the way."""
    report, porter, before = Report(), movers.porter(settings, session, works=True), (0, 0)
    while rows := session(plans.awaited_days, plan_id):
        now = len(rows), session(plans.awaited, plan_id)["archives"]
        if now == before:
            break
        before, report = now, Report()  # one transfer moves so many files at most
        for row in rows:
            porter.list_day(report, row["site"], row["date"], deadline=math.inf)
            porter.follow(report, seconds=math.inf, day_id=row["day_id"])
        give_up(session, settings.transfer, report, actor=getpass.getuser())
    return [f"{line.what}: {line.detail}" for line in report.waits]


def go_on(settings: Settings, session: Session, day: days.Day) -> None:
    """What follows for a day whose missing files somebody waived: it is ready, unless others are still to come."""
    standing = session(transfers.standing, day.id)
    if day.state in (DayState.TRANSFERRING, DayState.TRANSFER_FAILED) and standing["arrived"] == standing["listed"]:
        who, message = getpass.getuser(), "goes on with what arrived"
        ready = DayState.READY_TO_PROCESS
        session(days.move, day.id, ready, actor=who, message=message, only_from=day.state)
    elif day.state is DayState.TRANSFER_FAILED:
        session(days.move, day.id, DayState.PENDING, actor=getpass.getuser(), only_from=day.state)
    session(listings.look_again, day.id, timedelta(0))
    movers.porter(settings, session).conclude(Report(), session(days.by_id, day.id))


@contextmanager
def worker(
    settings: Settings,
    session: Session,
    *,
    why: str,
    stop: Callable[[], bool],
    desk: Desk,
    may_claim: Callable[[], bool] = lambda: True,
    text: Mapping[str, Any] | None = None,
) -> Iterator[Tools]:
    """The tools of a worker that reaches the ledger: it leases there, and a process of its own renews. `text`: only
    words are timed anew, of that run's texts."""
    wanted = settings.worker
    lease = timedelta(seconds=wanted.lease_seconds)
    stall = timedelta(seconds=2 * wanted.engine_hang_seconds)  # a hung engine is found and replaced before
    renewer = Renewer(session.dsn, require_tls=session.require_tls, lease=lease, stall=stall, renew=desk.renew)
    try:
        patience = wanted.database_wait_seconds
        feed = LedgerFeed(session, renewer, lease=lease, patience=patience, stop=stop, desk=desk, may_claim=may_claim)

        def record(path: Path) -> Recorded:
            return session(ingest, path, actor=feed.owner)

        with _tools(settings, feed, record, why=why, text=text) as tools:
            yield tools
    finally:
        renewer.close()


@contextmanager
def task_tools(
    settings: Settings,
    order: Order,
    folder: JobFolder,
    task: int,
    *,
    stop: Callable[[], bool],
    may_claim: Callable[[], bool],
) -> Iterator[Tools]:
    """The tools of one task of an ordered job, with a ledger or, by its plan, without."""
    why = f"job {order.token}"
    if order.run_key not in (None, runs.run_or_align(settings, order.text, why=why)[1].key.hex()):
        raise BadSetting(
            f"Plan {order.plan_id} was drawn for other settings than this job has: put them back, then dayscribe plans"
            " resume; or draw a new plan."
        )
    if order.mode == "ledger":
        desk = desk_of(order.plan_id, order.day_id)
        with (
            session(settings, application="dayscribe-worker") as opened,
            worker(settings, opened, why=why, stop=stop, desk=desk, may_claim=may_claim, text=order.text) as tools,
        ):
            yield tools
        return

    def on_disk(planned: PlannedShard) -> tuple[Mapping[int, bytes], bool]:
        assert order.site is not None
        assert order.day is not None
        return published(
            folder_of(settings.results_folder, order.site, order.day, order.plan_id), planned.id, planned.epoch
        )

    def leave(_: Path) -> Recorded:
        return Recorded(new=True, settled=True, stale=False)  # published is as far as this task can go

    feed = PlanFeed(order, folder, task=task, published=on_disk, may_claim=may_claim)
    with _tools(settings, feed, leave, why=why, text=order.text) as tools:
        yield tools


@contextmanager
def _tools(
    settings: Settings,
    feed: Feed,
    record: Callable[[Path], Recorded],
    *,
    why: str,
    text: Mapping[str, Any] | None,
) -> Iterator[Tools]:
    """The decoders, the engine's process and the recorder around a feed."""
    wanted = settings.worker
    options, run = runs.run_or_align(settings, text, why=why)
    engine = EngineProcess(
        registry.target("engines" if text is None else "aligners", settings.engine.name),
        options,
        verb="transcribe" if text is None else "align",
        hang_seconds=wanted.engine_hang_seconds,
        alive=feed.progress,  # a recording of hours is at work for a long time before there is a result
    )
    with ExitStack() as held:
        decoders = held.enter_context(DecoderPool(children=wanted.decoders, limits=_decode_limits(settings)))
        held.callback(engine.close)
        recorder = Recorder(
            settings.results_folder,
            run,
            record,
            recordings=wanted.part_recordings,
            seconds=wanted.part_seconds,
            busy=lambda: engine.busy_seconds,
        )
        limits = ArchiveLimits(
            members=wanted.max_members,
            member_bytes=wanted.max_member_mb << 20,
            total_bytes=wanted.max_archive_gb << 30,
        )
        yield Tools(
            feed, decoders, engine, recorder, limits, wanted.leases, room(settings), wanted.stop_patience_seconds,
            preflights.preflight(settings, hears=text is None),
        )  # fmt: skip


def room(settings: Settings) -> Room:
    """Enough for the engine to fill batch after batch while others are in the model or being aligned."""
    wanted, full = settings.worker, 8 * settings.engine.batch_size
    return Room(wanted.held_recordings or 2 * full, wanted.held_seconds or float(full * settings.engine.chunk_size))


def launcher(settings: Settings, *, exchange: Path | None = None) -> Launcher:
    """SLURM as this user; by an exchange folder where its commands are outside of our image."""
    run = Here(folder=job_scripts().parent) if exchange is None else Exchange(exchange)
    stop = settings.schedule.stop_before_seconds
    return SlurmLauncher(run, settings.slurm, user=getpass.getuser(), warn_seconds=stop)


def doctors_slurm(settings: Settings, *, command_seconds: float) -> SlurmLauncher:
    """SLURM on this host, for somebody who waits in front of it and whose job is warned of nothing before its end."""
    wanted = settings.slurm.model_copy(update={"command_seconds": min(command_seconds, settings.slurm.command_seconds)})
    return SlurmLauncher(Here(folder=job_scripts().parent), wanted, user=getpass.getuser(), warn_seconds=1)


def doctors_job(settings: Settings, *, minutes: int) -> JobSpec:
    """A GPU job that only looks, its folder made: told, started and shown what the job of a day is."""
    now = datetime.now(UTC)
    folder = JobFolder(settings.home / "doctor" / f"{now:%Y%m%d-%H%M%S}-{secrets.token_hex(2)}")
    gpu, mode = settings.slurm.asks_for_gpu, "plan" if _plans(settings) else "ledger"
    clip = PlannedShard(
        0, "canary", None, loose=True, files=(str(canaries.CLIP),), epoch=0, staged=str(canaries.SHIPPED)
    )
    order = Order(0, "", "process", mode, receipt.code_digest(), 1, minutes, gpu, shards=(clip,))
    # Without an image the clone itself runs, since a copy of the code has no models beside it.
    code = code_copy.keep(settings.home)[1] if settings.containers.audio else CLONE
    variables = {**_variables(settings, order), "DAYSCRIBE_CODE": str(code), "DAYSCRIBE_JOB": str(folder.path)}
    folder.make(order, variables)
    settings.results_folder.mkdir(parents=True, exist_ok=True)  # on the node it has to be there
    return JobSpec(
        name=visit.NAME, script=job_scripts() / "4_doctor_job.sh", argument=folder.path / "job.env",
        folder=folder.path, tasks=1, at_once=1, minutes=minutes, gpu=True,
    )  # fmt: skip


def job_scripts() -> Path:
    """The folder of the job scripts, beside our own packages or where the job script says the clone is."""
    given = os.environ.get("DAYSCRIBE_SCRIPTS")
    return Path(given) if given else CLONE / "slurm"


def world(settings: Settings, session: Session, *, exchange: Path | None = None) -> World:
    """What a tick works with."""

    def list_day(site: str, on: date) -> int:
        return register(settings, session, session(sites.get, site), on).new_shards

    def discover(report: Report) -> int:
        return movers.discover(settings, session, report) if settings.schedule.discover else 0

    def take(path: Path) -> None:
        session(ingest, path, actor="tick")

    @cache
    def image(kind: str) -> str | None:
        chosen = images.of(settings.containers, kind)
        return None if chosen is None else images.digest_of(chosen)

    if images.inside() and not settings.results_folder.is_dir():
        # Nothing there would be taken for nothing done.
        raise BadSetting(
            f"The image does not see the results' folder {settings.results_folder}: name DAYSCRIBE_RESULTS in the"
            " site's settings, which the job scripts read; they do not read dayscribe.toml."
        )
    return World(
        session=session, launcher=launcher(settings, exchange=exchange), user=getpass.getuser(), home=settings.home,
        results=settings.results_folder, scripts=job_scripts(), rules=settings.schedule, wanted=settings.slurm,
        variables=partial(_variables, settings), image=image, plans=_plans(settings),
        code=cache(lambda: Code(*code_copy.keep(settings.home))), ingest=take, register=list_day, discover=discover,
        porter=movers.porter(settings, session), room=partial(movers.standing, settings, session), clock=time.monotonic,
    )  # fmt: skip


def _plans(settings: Settings) -> bool:
    """Law 7: what decodes strangers' bytes and loads strangers' models holds no secret, so it reaches no ledger."""
    return not settings.schedule.ledger_on_nodes or settings.containers.audio is not None


def _variables(settings: Settings, order: Order) -> dict[str, str]:
    """What a job is told: our settings, what libpq is told here (never a password), and what runs it.
    A server of our own is found anew by each job: its socket changes with every start."""
    given, names = environment(settings), set(_LIBPQ)
    if order.gpu and settings.engine.device == "auto":
        given["DAYSCRIBE_ENGINE__DEVICE"] = "cuda"  # never a silent CPU run where a GPU was asked for
    if order.kind in images.AUDIO:  # what transcribes has no business with who moves files
        given = {name: value for name, value in given.items() if not name.startswith(_MOVERS)}
    else:
        names |= set(_SERVICES)
    if order.mode == "plan" or not settings.schedule.ledger_on_nodes:
        given.pop("DAYSCRIBE_LEDGER__DSN", None)
        names.clear()
    if os.environ.get("DAYSCRIBE_FAULTS_ARMED") == "yes":  # a test of what happens to jobs
        names |= {"DAYSCRIBE_FAULTS_ARMED", "DAYSCRIBE_JOB_FAULT"}
    passed = {name.replace("_JOB_", "_"): os.environ[name] for name in names if name in os.environ}
    passed = {
        name: said for name, said in passed.items() if name not in _SERVICES or "@" not in said
    }  # a proxy's password
    return {**given, **passed, **_what_runs_it(settings, order)}


def _what_runs_it(settings: Settings, order: Order) -> dict[str, str]:
    """The digest of its image and what that is shown, or the Python outside of images."""
    image = images.of(settings.containers, order.kind)
    if image is not None:
        folders = images.staged(planned.staged for planned in order.shards)
        digest = images.digest_of(image)
        return {"DAYSCRIBE_STAGED": images.bindable(folders)} | ({"DAYSCRIBE_IMAGE_SHA256": digest} if digest else {})
    python = os.environ.get("DAYSCRIBE_PYTHON") or ("" if images.inside() else sys.executable)
    if not python:
        raise BadSetting(
            f"The tick runs in an image, and {order.kind} jobs have none: set containers.audio and containers.utils, or"
            " DAYSCRIBE_PYTHON in the site's settings."
        )
    return {"DAYSCRIBE_PYTHON": python}


def _decode_limits(settings: Settings) -> DecodeLimits:
    wanted = settings.worker
    return DecodeLimits(
        seconds=wanted.max_hours * 3600, timeout=wanted.decode_seconds, memory=wanted.decode_memory_mb << 20
    )
