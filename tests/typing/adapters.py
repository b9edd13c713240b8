"""Checked by mypy, never run: every adapter fits its port."""

from __future__ import annotations

from hpc.engine_options import EngineOptions
from hpc.engines.echo import EchoEngine
from hpc.engines.whisperx.batched import BatchedEngine
from hpc.engines.whisperx.per_file import PerFileEngine
from hpc.feeds.ledger import LedgerFeed, LedgerLease
from hpc.feeds.plan import PlanFeed, PlanLease
from hpc.launchers.slurm import SlurmLauncher
from hpc.origin import Origin
from hpc.ports import Engine, Feed, Launcher, Lease, Mover, Sender, Source
from hpc.senders.carried import CarriedSender
from hpc.senders.rsync import RsyncSender
from hpc.sources.globus import GlobusMover, GlobusSource
from hpc.sources.local import LocalMover, LocalSource


def fit(origin: Origin, feed: LedgerFeed, lease: LedgerLease) -> tuple[Source, Feed, Lease]:
    """Each on the shelf of its port."""
    return LocalSource(origin), feed, lease


def fit_engines(options: EngineOptions) -> tuple[Engine, Engine, Engine]:
    """Those that hear."""
    return EchoEngine(options), BatchedEngine(options), PerFileEngine(options)


def fit_jobs(feed: PlanFeed, lease: PlanLease, launcher: SlurmLauncher) -> tuple[Feed, Lease, Launcher]:
    """Those of jobs."""
    return feed, lease, launcher


def fit_movers(source: GlobusSource, far: GlobusMover, near: LocalMover) -> tuple[Source, Mover, Mover]:
    """Those that bring files here."""
    return source, far, near


def fit_senders(rsync: RsyncSender, carried: CarriedSender) -> tuple[Sender, Sender]:
    """Those that bring days elsewhere."""
    return rsync, carried
