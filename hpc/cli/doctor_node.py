"""The doctor at a node: the job that is sent there, what it looks at, and the report that comes back."""

from __future__ import annotations

import os
import shutil
import signal
import site
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from hpc.cli import doctor_here
from hpc.cli.options import App

if TYPE_CHECKING:
    from hpc.doctor.finding import Finding
    from hpc.doctor.runtime import Host
    from hpc.job_folder import Order


def send(app: App, *, minutes: int, wait: float) -> list[Finding]:
    """Submit the job, wait for it, and say what it found. Ctrl-C takes it back."""
    from hpc import wiring
    from hpc.doctor import visit
    from hpc.errors import BadSetting, NoAnswer

    if not shutil.which("sbatch"):
        raise BadSetting("There is no sbatch on this host: look at a node from where SLURM's commands are.")
    slurm = wiring.doctors_slurm(app.settings, command_seconds=app.settings.slurm.command_seconds)
    spec = wiring.doctors_job(app.settings, minutes=minutes)
    job = slurm.submit(spec)
    visit.remember(spec.folder, job)
    try:
        with _ending_on(signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            app.display.say(f"Job {job} looks at a node; its folder is {spec.folder}. Ctrl-C takes it back.")
            with app.display.progress(f"job {job}", unit="seconds") as bar:
                return visit.follow(
                    slurm, spec.folder, job, wait=wait, minutes=minutes,
                    tell=lambda seconds, words: bar.update(done=round(seconds), note=words),
                )  # fmt: skip
    except KeyboardInterrupt:
        with suppress(NoAnswer):
            slurm.cancel(job, only_pending=False)
            app.display.say(f"Job {job} was taken back.")
        raise


@contextmanager
def _ending_on(*numbers: signal.Signals) -> Iterator[None]:
    """Each of them ends the wait as Ctrl-C does, also where the shell that started us told us not to listen."""
    before = {number: signal.signal(number, signal.default_int_handler) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def report(app: App, folder: Path) -> list[Finding]:
    """What a job found that was not waited for."""
    from hpc import wiring
    from hpc.doctor import cluster, visit

    here = shutil.which("squeue") is not None
    slurm = wiring.doctors_slurm(app.settings, command_seconds=cluster.COMMAND_SECONDS) if here else None
    return visit.report(slurm, folder)


def look(app: App, target: Path | None) -> list[Finding]:
    """What this node has and lacks, written after each finding."""
    from hpc.doctor import visit

    signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # the job's warning of its end, which there is nothing to do about
    found: list[Finding] = []
    for finding in _findings(app, time.time()):
        found.append(finding)
        if target is not None:
            visit.write(target, found, complete=False)
    if target is not None:
        visit.write(target, found, complete=True)
    return found


def _findings(app: App, arrived: float) -> Iterator[Finding]:
    from hpc import images
    from hpc.doctor import machine, node, runtime, visit
    from hpc.job_folder import JobFolder

    folder = Path(os.environ.get("DAYSCRIBE_JOB") or ".").absolute()
    order = JobFolder(folder).order()
    host_file, image = folder / visit.HOST, images.inside()
    host = runtime.read(host_file.read_text(errors="replace")) if host_file.exists() else runtime.Host()
    yield node.place(node.node_name(os.environ), os.environ.get("SLURM_JOB_ID", ""), image, images.running())
    if image is not None:
        yield from _outside(app, host, arrived)
        yield from _inside(image)
    else:
        yield machine.import_paths(os.environ, user_site=bool(site.ENABLE_USER_SITE))
    yield machine.python(sys.version_info[:2])
    speech = app.settings.engine.name.startswith("whisperx")
    yield machine.packages((*node.PACKAGES, *machine.SPEECH_PACKAGES) if speech else node.PACKAGES)
    yield machine.our_names(Path(__file__).resolve().parents[2])
    yield from _places(app, folder, order, image)
    yield from _device(app, host, order, speech=speech)


def _outside(app: App, host: Host, arrived: float) -> Iterator[Finding]:
    from hpc.doctor import runtime

    settings = app.settings
    audio = settings.containers.audio
    sif = audio is not None and os.environ.get("DAYSCRIBE_IMAGE_SHA256") is not None
    yield from runtime.findings(host, wanted=settings.containers.runtime, modules=settings.slurm.modules, sif=sif)
    if host.began is not None:
        yield runtime.took(arrived - host.began)


def _inside(image: str) -> Iterator[Finding]:
    from hpc import images
    from hpc.doctor import node

    yield node.leaks(images.leaks(os.environ, sys.path, image=image, user_site=bool(site.ENABLE_USER_SITE)))
    yield node.closed_root()
    yield node.offline(os.environ)


def _places(app: App, folder: Path, order: Order, image: str | None) -> Iterator[Finding]:
    from hpc.doctor import containers, node
    from hpc.doctor.finding import attempt, nearest
    from hpc.models import hash_memory

    settings = app.settings
    yield node.writable("job's folder", folder)
    yield node.writable("results", settings.results_folder)
    yield node.writable("cache", nearest(hash_memory().parent))
    place = containers.scratch_of(None if image else settings.containers.scratch, {} if image else os.environ)
    yield containers.scratch(containers.look_at_scratch(place), here_it_counts=image is not None)
    if image is not None:
        yield node.read_only("staged audio", [name for planned in order.shards for name in planned.files])
    if order.mode == "ledger" and settings.ledger.conninfo is not None:
        yield attempt("ledger", lambda: doctor_here.ledger(settings), wanted="reachable, with a schema we speak")
    yield attempt("model and aligner", lambda: doctor_here.models(settings), wanted="on this node, as locked")


def _device(app: App, host: Host, order: Order, *, speech: bool) -> Iterator[Finding]:
    from hpc import wiring
    from hpc.accelerator import ask_driver, installed
    from hpc.doctor import machine, node
    from hpc.doctor.finding import attempt

    device = app.settings.engine.device
    for finding in (node.driver(host.driver), node.gpu_unused(device, asked=order.gpu)):
        if finding is not None:
            yield finding
    yield machine.graphics(device, None if device == "cpu" else ask_driver(), installed("ctranslate2"))
    if device == "cuda":
        yield node.kernels(os.environ)
    if not speech:
        return

    def sing() -> str:
        song = wiring.canary(app.settings, device, engine=app.settings.engine.name)
        return f"{song.heard!r} on {song.device} in {song.seconds:g} s, loaded in {song.load_seconds:g} s"

    yield node.torch(device, node.ask_torch())
    yield attempt("canary", sing, wanted="the clip's words")
