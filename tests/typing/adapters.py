"""Checked by mypy, never run: every adapter fits its port."""

from __future__ import annotations

from hpc.engine_options import EngineOptions
from hpc.engines.echo import EchoEngine
from hpc.engines.whisperx import WhisperXEngine
from hpc.feeds.ledger import LedgerFeed, LedgerLease
from hpc.feeds.plan import PlanFeed, PlanLease
from hpc.launchers.slurm import SlurmLauncher
from hpc.ports import Engine, Feed, Launcher, Lease, Source
from hpc.sources.local import LocalSource


def fit(feed: LedgerFeed, lease: LedgerLease) -> tuple[Source, Engine, Engine, Feed, Lease]:
    """Each on the shelf of its port."""
    return LocalSource("/audio"), EchoEngine(EngineOptions()), WhisperXEngine(EngineOptions()), feed, lease


def fit_jobs(feed: PlanFeed, lease: PlanLease, launcher: SlurmLauncher) -> tuple[Feed, Lease, Launcher]:
    """Those of jobs."""
    return feed, lease, launcher
