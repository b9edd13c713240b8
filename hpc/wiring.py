"""The only place where ports meet adapters: settings in, ready objects out."""

from __future__ import annotations

import getpass
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import date, timedelta
from pathlib import Path

from db import migrate, sites
from db.connect import Connection, connect
from db.embedded import EmbeddedPostgres
from db.parts import Recorded
from db.roles import Roles
from db.session import Session
from hpc import day, models, receipt, registry
from hpc.config import Settings
from hpc.engine_options import EngineOptions
from hpc.feeds.ledger import LedgerFeed
from hpc.feeds.ledger.renewer import Renewer
from hpc.model import Run
from hpc.pipeline import Tools
from hpc.ports import Source
from hpc.sources.local import folder_for
from hpc.stages.decode import DecodeLimits, DecoderPool
from hpc.stages.ingest import ingest
from hpc.stages.record import Recorder
from hpc.stages.transcribe import EngineProcess
from hpc.stages.unpack import ArchiveLimits


def embedded(settings: Settings) -> EmbeddedPostgres:
    """The server of one's own under home, started by nobody yet."""
    return EmbeddedPostgres(settings.home / "postgres")


def ledger_dsn(settings: Settings) -> str:
    """Where the ledger is. Without a setting it is our own server, which is started and brought up to date here."""
    given = settings.ledger.conninfo
    if given is not None:
        return given
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


def source(site: sites.Site) -> Source:
    """The adapter that lists the site's files."""
    made: Source = registry.load("sources", site.source)(site.location)
    return made


def register(settings: Settings, session: Session, site: sites.Site, on: date) -> day.Registered:
    """List a day at its source into the ledger."""
    attempts, staged = settings.worker.max_attempts, folder_for(site.location, on)
    return day.register(session, site, on, source(site), staged, max_attempts=attempts)


def engine_options(settings: Settings) -> tuple[EngineOptions, list[models.Model]]:
    """What the engine is told, its models found and checked; nothing heavy is imported."""
    chosen = settings.engine.model_dump(exclude={"name"})
    options = EngineOptions(**chosen)
    if settings.engine.name == "echo":
        return options, []
    return models.resolve(options, settings.models)


def run_of(settings: Settings, *, why: str) -> tuple[EngineOptions, Run]:
    """The options and the receipt of what would be made now."""
    options, found = engine_options(settings)
    run = receipt.make_run(
        options, found, engine=settings.engine.name, who=getpass.getuser(), why=why, image_digest=None
    )
    return options, run


@contextmanager
def worker(
    settings: Settings, session: Session, *, why: str, stop: Callable[[], bool], day_id: int | None = None
) -> Iterator[Tools]:
    """A worker's tools: the feed with its renewer, the decoders, the engine's process, the recorder."""
    wanted = settings.worker
    options, run = run_of(settings, why=why)
    lease = timedelta(seconds=wanted.lease_seconds)
    stall = timedelta(seconds=wanted.engine_hang_seconds)
    engine = EngineProcess(
        registry.target("engines", settings.engine.name), options, hang_seconds=wanted.engine_hang_seconds
    )
    with ExitStack() as held:
        renewer = Renewer(session.dsn, require_tls=session.require_tls, lease=lease, stall=stall)
        held.callback(renewer.close)
        feed = LedgerFeed(
            session, renewer, lease=lease, patience=wanted.database_wait_seconds, stop=stop, day_id=day_id
        )
        decoders = held.enter_context(DecoderPool(children=wanted.decoders, limits=_decode_limits(settings)))
        held.callback(engine.close)

        def record(path: Path) -> Recorded:
            return session(ingest, path, actor=feed.owner)

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
            feed, decoders, engine, recorder, limits, wanted.leases, wanted.batch_recordings, wanted.batch_seconds
        )


def _decode_limits(settings: Settings) -> DecodeLimits:
    wanted = settings.worker
    return DecodeLimits(
        seconds=wanted.max_hours * 3600, timeout=wanted.decode_seconds, memory=wanted.decode_memory_mb << 20
    )
