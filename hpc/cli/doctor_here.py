"""The doctor on this host: the machine, and where images or SLURM are used, the runtime, the images and the cluster."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hpc.cli.options import App

if TYPE_CHECKING:
    from hpc.config import Settings
    from hpc.doctor.finding import Finding


def look(app: App, *, read_images: bool) -> Iterator[Finding]:
    """All findings of this host, one after the other."""
    from hpc.doctor import cluster
    from hpc.doctor.finding import attempt
    from hpc.doctor.machine import Machine, examine
    from hpc.sections import SlurmSettings

    settings = app.settings
    yield from examine(
        Machine(
            home=settings.home,
            results=settings.results_folder,
            embedded=settings.ledger.conninfo is None,
            speech=settings.engine.name.startswith("whisperx"),
            device=settings.engine.device,
            purged=tuple(settings.purged),
            staging=settings.transfer.staging,
        )
    )
    yield attempt("ledger", lambda: ledger(settings), wanted="reachable, with a schema we speak")
    chosen = settings.containers
    found = attempt("model and aligner", lambda: models(settings), wanted="on this machine, as locked")
    yield cluster.soften(found) if chosen.audio else found  # they may be in the image, or only on the nodes
    if chosen.audio or chosen.utils:
        yield from _images(app, read_images=read_images)
    commands = [name for name in cluster.COMMANDS if shutil.which(name)]
    wants_slurm = settings.slurm != SlurmSettings() or bool(chosen.audio or chosen.utils)
    if commands or wants_slurm:
        for finding in _slurm(settings, commands):
            yield finding if wants_slurm else cluster.soften(finding)


def _images(app: App, *, read_images: bool) -> Iterator[Finding]:
    from importlib.metadata import version

    from hpc import wiring
    from hpc.doctor import containers, runtime

    settings, chosen = app.settings, app.settings.containers
    host = runtime.ask(wiring.job_scripts(), chosen.runtime)
    named = {"audio": chosen.audio, "utils": chosen.utils}
    there = {kind: path for kind, path in named.items() if path is not None}
    sif = any(not path.is_dir() for path in there.values())
    yield from runtime.findings(host, wanted=chosen.runtime, modules=settings.slurm.modules, sif=sif)
    yield runtime.variables(os.environ)
    for kind, path in there.items():
        found = containers.look(path, runtime=host.runtime, hashed=_hasher(app, every=read_images))
        yield from containers.image(kind, found, shared=settings.shared, ours=version("dayscribe"))
        if found.packages == "bound":
            yield containers.packages(kind, chosen.binds)
    yield containers.binds(chosen.binds, models=settings.models)
    yield containers.names(_bound(settings))
    if chosen.audio:
        yield _models_seen(settings)
    place = containers.scratch_of(chosen.scratch, os.environ)
    yield containers.scratch(containers.look_at_scratch(place), here_it_counts=False)


def _hasher(app: App, *, every: bool) -> Callable[[Path, int], str | None]:
    from hpc.doctor.containers import READ_AT_MOST, hash_file

    def hashed(path: Path, size: int) -> str | None:
        if size > READ_AT_MOST and not every:
            return None
        with app.display.progress(f"reading {path.name}", total=round(size / 1e6), unit="MB") as bar:
            return hash_file(path, lambda count: bar.update(done=round(count / 1e6)))

    return hashed


def _bound(settings: Settings) -> dict[str, Path]:
    """The folders whose names the runtime has to understand."""
    models = {f"models ({number})": path for number, path in enumerate(settings.models, 1)}
    return {"home": settings.home, "results": settings.results_folder} | models


def _models_seen(settings: Settings) -> Finding:
    from db.errors import DayscribeError
    from hpc import wiring
    from hpc.doctor import containers

    try:
        found = [model.path for model in wiring.engine_options(settings)[1]]
    except DayscribeError:
        found = []  # said by `model and aligner`
    engine = settings.engine
    named = [Path(name) for name in (engine.model, engine.aligner or "") if name.startswith("/")]
    return containers.models_seen(found, [*settings.models, *named, Path(__file__).resolve().parents[2] / "models"])


def _slurm(settings: Settings, commands: Sequence[str]) -> Iterator[Finding]:
    from hpc import wiring
    from hpc.doctor import cluster

    slurm = wiring.doctors_slurm(settings, command_seconds=cluster.COMMAND_SECONDS)
    yield from cluster.findings(slurm, settings.slurm, found=commands)
    if named := settings.slurm.modules:
        yield cluster.modules(named, command=cluster.has_module())
    if (loaded := cluster.loaded(os.environ)) is not None:
        yield loaded
    if settings.containers.audio is not None:
        yield cluster.SECRETS


def ledger(settings: Settings) -> str:
    """What answers where the ledger is."""
    from db import migrate
    from db.connect import connect
    from db.places import refuse_network
    from hpc import wiring

    dsn = settings.ledger.conninfo
    if dsn is None:
        server = wiring.embedded(settings)
        refuse_network(server.root)
        if not server.running():
            return "our own server, started when it is needed"
        dsn = server.start()
    with connect(dsn, application="dayscribe-doctor", require_tls=settings.ledger.require_tls) as connection:
        version = migrate.check(connection)
        return f"PostgreSQL {connection.info.parameter_status('server_version')}, schema {version}"


def models(settings: Settings) -> str:
    """Which models there are for these settings."""
    from hpc import wiring

    _, found = wiring.engine_options(settings)
    return ", ".join(model.name for model in found) or "none needed"
