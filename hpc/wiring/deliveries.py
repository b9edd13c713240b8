"""What delivers days, made of our settings: who packs, who sends, and the one place where a mover is made for it."""

from __future__ import annotations

import getpass
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial

from db.session import Session
from hpc.config import Settings
from hpc.deliver import Hands
from hpc.errors import BadSetting
from hpc.packing import Bars
from hpc.parcel import Target
from hpc.ports import Mover, Sender
from hpc.senders.carried import CarriedSender, Sizes
from hpc.senders.rsync import Login, RsyncSender
from hpc.stages.decode import DecodeLimits, DecoderPool
from hpc.stages.opus import encoders
from hpc.stages.slot_audio import Studio
from hpc.stages.unpack import ArchiveLimits
from hpc.wiring import movers


def target(settings: Settings, given: str | None, site: str) -> Target:
    """Where to, as --target or the settings say."""
    text = given or settings.deliver.to
    if not text:
        raise BadSetting("Say where to: --target TARGET, or the setting deliver.to.")
    return Target.parse(text, site=site)


def hands(settings: Settings, session: Session, *, bars: Bars, stop: Callable[[], bool], by_job: bool = False) -> Hands:
    """What a delivery works with. `by_job`: nobody waits in front of it, and no mover is waited for."""
    return Hands(
        session, getpass.getuser(), settings.home / "deliveries", settings.results_folder,
        settings.deliver.bitrate_kbit, partial(studio, settings), partial(sender, settings, wait=not by_job), bars,
        stop, by_job,
    )  # fmt: skip


def sender(settings: Settings, target: Target, ours: str, stop: Callable[[], bool], *, wait: bool) -> Sender:
    """What brings files to this kind of target; `ours` is our folder below home/deliveries."""
    if target.kind == "globus":
        mover, sizes = mover_for(settings, target, ours)
        return CarriedSender(mover, sizes, wait, timedelta(hours=settings.transfer.deadline_hours), stop=stop)
    wanted = settings.deliver
    return RsyncSender(target, Login(wanted.ssh_key, wanted.known_hosts, wanted.connect_seconds), stop=stop)


def mover_for(settings: Settings, target: Target, ours: str) -> tuple[Mover, Sizes]:
    """A mover from our folder to the target's collection, and what tells the sizes of files that are there."""
    wanted = settings.deliver
    if wanted.collection is None:
        raise BadSetting(
            f"To send to {target}, name the collection that has {settings.home / 'deliveries'}: deliver.collection."
        )
    movers.needs_sdk()
    from hpc.sources.globus import GlobusMover, Spot, folders

    here, consents = movers.access(settings), tuple(settings.globus.data_access)
    source = Spot(wanted.collection, f"{wanted.collection_folder or settings.home / 'deliveries'}/{ours}")
    there = Spot(target.collection, target.path)
    mover = GlobusMover(source, there, here, data_access=consents, encrypt=settings.transfer.encrypt)
    return mover, lambda paths: folders.sizes(here, consents, there, paths)


@contextmanager
def studio(settings: Settings) -> Iterator[Studio]:
    """As many children that encode as there are that decode."""
    wanted = settings.worker
    limits = ArchiveLimits(
        members=wanted.max_members, member_bytes=wanted.max_member_mb << 20, total_bytes=wanted.max_archive_gb << 30
    )
    decode = DecodeLimits(
        seconds=wanted.max_hours * 3600, timeout=wanted.decode_seconds, memory=wanted.decode_memory_mb << 20
    )
    with (
        DecoderPool(children=wanted.decoders, limits=decode) as decoders,
        encoders(wanted.decoders) as encoding,
    ):
        yield Studio(decoders, encoding, limits, settings.deliver.bitrate_kbit, wanted.decoders + 2)
