"""What runs images here, and how one starts: a mount by root, setuid or FUSE, or unpacked anew each time."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from hpc.doctor.finding import Finding, Verdict, good_or_advice

# From these on a definition may have arguments, which containers/*.def do.
BUILDS = {"apptainer": (1, 2), "singularity-ce": (4, 0)}
NEWER = "Apptainer 1.2 or SingularityCE 4"
SLOW_START = 30.0  # seconds
SECONDS = 60.0  # longest that slurm/host.sh may take
# Kept by slurm/container.sh, or made by the runtime itself for what runs inside.
_HARMLESS = re.compile(
    r"(APPTAINER|SINGULARITY)_(CACHEDIR|TMPDIR|DOCKER_\w+|CONTAINER|NAME|COMMAND|ENVIRONMENT|APPNAME|INIT)"
)


@dataclass(frozen=True, slots=True)
class Host:
    """What slurm/host.sh says of the machine outside of images; empty where it said nothing."""

    runtime: str = ""  # the program's path
    version: str = ""  # as it says it itself
    root: bool = False
    setuid: bool = False
    squashfuse: bool = False
    fuse: str = "absent"  # open, closed
    profile: bool = False  # AppArmor knows the runtime
    userns_clone: str = ""
    max_userns: str = ""
    restrict_userns: str = ""
    driver: str = ""  # NVIDIA's
    began: float | None = None  # seconds since 1970: when a job script started our program

    @property
    def kind(self) -> str:
        """apptainer, singularity-ce, singularity (the old one), or nothing."""
        found = re.match(r"([a-z-]+) version", self.version)
        return found[1] if found else ""

    @property
    def number(self) -> tuple[int, int] | None:
        found = re.search(r"(\d+)\.(\d+)", self.version)
        return (int(found[1]), int(found[2])) if found else None

    @property
    def namespaces_closed(self) -> str:
        """Why an ordinary user cannot make a user namespace; empty when he can."""
        if self.userns_clone == "0":
            return "kernel.unprivileged_userns_clone is 0"
        if self.max_userns == "0":
            return "user.max_user_namespaces is 0"
        if self.restrict_userns == "1" and not self.profile:
            return "AppArmor keeps them from programs that it has no profile of"
        return ""


def read(text: str) -> Host:
    """The lines NAME=VALUE; what is not known is passed over."""
    said = {name: value for name, equals, value in (line.partition("=") for line in text.splitlines()) if equals}
    began = said.get("began", "")
    return Host(
        runtime=said.get("runtime", ""),
        version=said.get("version", ""),
        root=said.get("user") == "0",
        setuid=said.get("setuid") == "yes",
        squashfuse=said.get("squashfuse") == "yes",
        fuse=said.get("fuse", "absent"),
        profile=said.get("profile") == "yes",
        userns_clone=said.get("userns_clone", ""),
        max_userns=said.get("max_userns", ""),
        restrict_userns=said.get("restrict_userns", ""),
        driver=said.get("driver", ""),
        began=float(began) if re.fullmatch(r"\d+(\.\d+)?", began) else None,
    )


def ask(scripts: Path, runtime: str) -> Host:
    """This host, asked by the script that asks nodes, too."""
    environment = {**os.environ, "DAYSCRIBE_CONTAINERS__RUNTIME": runtime}
    try:
        done = subprocess.run(
            ["bash", str(scripts / "host.sh")], env=environment, stdin=subprocess.DEVNULL, capture_output=True,
            text=True, errors="replace", timeout=SECONDS, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return Host()
    return read(done.stdout)


def findings(host: Host, *, wanted: str, modules: str, sif: bool) -> Iterator[Finding]:
    """`wanted` and `modules` are settings; `sif`: one of the images is a file, and no folder."""
    yield runtime(host, wanted=wanted, modules=modules)
    if host.runtime:
        yield start(host, sif=sif)


def runtime(host: Host, *, wanted: str, modules: str) -> Finding:
    what, name = "container runtime", wanted or "apptainer or singularity"
    if not host.runtime:
        if modules:
            mend = f"Nothing, if slurm.modules ({modules}) brings it; `dayscribe doctor --gpu-node` looks at a node."
            return Finding(what, Verdict.ADVICE, f"no {name} here", NEWER, mend)
        mend = "Name it in containers.runtime, or its module in slurm.modules; or ask the administrators for it."
        return Finding(what, Verdict.WANTING, f"no {name} here", NEWER, mend)
    found = f"{host.runtime}, {host.version or 'which does not say its version'}"
    least = BUILDS.get(host.kind)
    good = least is not None and host.number is not None and host.number >= least
    mend = "" if good else f"Images may run here. To build them here {NEWER} is needed: build them elsewhere."
    return Finding(what, good_or_advice(good), found, NEWER, mend)


def start(host: Host, *, sif: bool) -> Finding:
    """How an image will start here."""
    what, wanted = "start of images", "a mount: by root, setuid or FUSE"
    if host.root:
        return Finding(what, Verdict.OK, "as root: the kernel mounts them", wanted)
    if host.setuid:
        return Finding(what, Verdict.OK, "setuid starter: the kernel mounts them", wanted)
    if closed := host.namespaces_closed:
        found = f"no setuid starter, and user namespaces are closed ({closed})"
        mend = "No image can start: ask the administrators for user namespaces, or for the runtime's setuid package."
        return Finding(what, Verdict.WANTING, found, wanted, mend)
    if not sif or (host.squashfuse and host.fuse == "open"):
        how = "mounted by squashfuse" if sif else "a folder needs no mount"
        return Finding(what, Verdict.OK, f"in a user namespace, {how}", wanted)
    return _without_mount(host, what, wanted)


def _without_mount(host: Host, what: str, wanted: str) -> Finding:
    """A user namespace alone mounts no image."""
    if host.squashfuse and host.kind == "apptainer":
        found = f"squashfuse is here, and /dev/fuse is {host.fuse}: every start fails"
        mend = "Ask the administrators to open /dev/fuse (mode 0666), or for the setuid package of Apptainer."
        return Finding(what, Verdict.WANTING, found, wanted, mend)
    lacking = f"/dev/fuse is {host.fuse}" if host.squashfuse else "no squashfuse"
    found = f"no setuid starter, {lacking}: unpacked into a temporary folder at every start"
    mend = (
        "Each start costs seconds and gigabytes: ask the administrators for FUSE (squashfuse and /dev/fuse) or the"
        " runtime's setuid package, or build the images as folders: containers/build_containers.sh --sandbox."
    )
    return Finding(what, Verdict.ADVICE, found, wanted, mend)


def variables(environment: Mapping[str, str]) -> Finding:
    """A person's own settings of the runtime. Only names are told: a value may be a secret."""
    own = sorted(
        name for name in environment if name.startswith(("APPTAINER", "SINGULARITY")) and not _HARMLESS.fullmatch(name)
    )
    mend = "Nothing for jobs: their scripts drop these. By hand: unset them before you start an image." if own else ""
    found = ", ".join(own) or "none"
    return Finding("runtime's variables", good_or_advice(not own), found, "none that bind or pass things on", mend)


def took(seconds: float) -> Finding:
    """How long an image took from the job script to our program's first line."""
    slow = seconds >= SLOW_START
    mend = "Is it unpacked at every start, or on a slow file system? See `start of images`." if slow else ""
    return Finding("time to start", good_or_advice(not slow), f"{seconds:.1f} s", f"below {SLOW_START:.0f} s", mend)
