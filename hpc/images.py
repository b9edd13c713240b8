"""Images: which one a job runs in, its recorded digest, and what must not have come in with us from outside."""

from __future__ import annotations

import os
import re
import site
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from hpc.errors import BadSetting, MachineUnfit
from hpc.sections import ContainersSettings

RECORD = "images.sha256"  # as sha256sum writes it, beside the images
AUDIO = ("process", "redo")  # the kinds of jobs that transcribe: they have the audio image
# Where Python code may lie inside; everything else was brought along from the host.
PLACES = ("/opt/venv/", "/opt/dayscribe", "/opt/packages", "/usr/lib/python3", "/usr/local/lib/python3")
_SECRET = re.compile(
    r"PG(?!CLIENTENCODING|TZ)\w+|.*(PASSWORD|PASSWD|SECRET|TOKEN|CREDENTIAL|API_?KEY|DSN).*", re.IGNORECASE
)


def of(settings: ContainersSettings, kind: str) -> Path | None:
    """The image of jobs of this kind."""
    return settings.audio if kind in AUDIO else settings.utils


def digest_of(image: Path) -> str | None:
    """The sha256 that was recorded when it was built; None for a folder, which has none."""
    if image.is_dir():
        return None
    if not image.is_file():
        raise BadSetting(
            f"There is no image {image}: build it with containers/build_containers.sh, or change containers.*"
        )
    file = image.parent / RECORD
    try:
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        lines = []
    except OSError as error:
        raise BadSetting(f"{file} cannot be read: {error.strerror}.") from error
    for line in lines:
        found = re.fullmatch(r"([0-9a-f]{64}) [ *](.+)", line)
        if found and found[2] == image.name:
            return found[1]
    raise BadSetting(
        f"{file} has no digest of {image.name}. containers/build_containers.sh records it; for an image from elsewhere:"
        f" (cd {image.parent} && sha256sum {image.name} >>{RECORD})"
    )


def staged(folders: Iterable[str]) -> tuple[str, ...]:
    """The fewest of these folders that hold them all: what a task without a ledger reads."""
    found: list[str] = []
    for folder in sorted({folder for folder in folders if folder}):
        if not found or not (folder + "/").startswith(found[-1].rstrip("/") + "/"):
            found.append(folder)
    return tuple(found)


def bindable(folders: Iterable[str]) -> str:
    """The folders as one variable for the job script."""
    named = list(folders)
    if bad := [folder for folder in named if re.search(r"[:,\n]", folder)]:
        raise BadSetting(f"{bad[0]} cannot be shown to an image: a colon or a comma is in its name.")
    return ":".join(named)


def inside(environment: Mapping[str, str] = os.environ) -> str | None:
    """Which of our images we run in, as the job script says: audio or utils."""
    return environment.get("DAYSCRIBE_INSIDE") or None


def running(environment: Mapping[str, str] = os.environ) -> str | None:
    """The digest of the image that this job was ordered in, which its script has checked."""
    return environment.get("DAYSCRIBE_IMAGE_SHA256") or None


def leaks(environment: Mapping[str, str], path: Iterable[str], *, image: str, user_site: bool) -> list[str]:
    """What came in from outside: code of the host, and secrets where there should be none."""
    found = [name for name in ("PYTHONPATH", "PYTHONHOME", "PYTHONUSERBASE") if environment.get(name)]
    found += ["packages of the user's own"] if user_site else []
    found += [entry for entry in path if entry and not entry.startswith(PLACES)]
    if image == "audio":
        found += sorted(name for name in environment if _SECRET.fullmatch(name))
    return found


def refuse_leaks() -> None:
    """Asked when a task starts in one of our images; MachineUnfit names what leaked, and never a value."""
    image = inside()
    if image is not None and (found := leaks(os.environ, sys.path, image=image, user_site=bool(site.ENABLE_USER_SITE))):
        raise MachineUnfit(f"the image is not closed: {', '.join(found)} came in from outside")
