"""A child process that lets torchaudio and NLTK fetch their own data: they know where it lies, we do not have to."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import os
import shutil
import signal
import socket
import sys
import urllib.error
from collections.abc import Callable, Mapping
from pathlib import Path

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_SILENT_SECONDS = 60.0  # neither library gives up on a server that says nothing
PUNKT = "punkt_tab"


def main() -> None:
    """`fetching.main()` with a source, a name, a folder and the parent's id as arguments; answers one line of JSON."""
    source, name, folder, parent = sys.argv[1:]
    _die_with(int(parent))
    socket.setdefaulttimeout(_SILENT_SECONDS)
    with contextlib.redirect_stdout(sys.stderr):  # the libraries talk
        answer = _told(lambda: SOURCES[source](name, Path(folder)))
    print(json.dumps(answer))


def from_torchaudio(name: str, folder: Path) -> None:
    """Have torchaudio fetch a model and load it, which is the only check of it there is: it announces no digest.

    Only weights are unpickled, so that nothing in the file can run.
    """
    import torchaudio

    for rest in folder.glob("*.partial"):  # of a download that was killed: torch cannot go on with it
        rest.unlink()
    try:
        getattr(torchaudio.pipelines, name).get_model(
            dl_kwargs={"model_dir": str(folder), "weights_only": True, "map_location": "cpu", "progress": False}
        )
    except Exception as error:
        if isinstance(error, (urllib.error.URLError, TimeoutError, ConnectionError)) or _is_the_disks(error):
            raise
        for file in folder.iterdir():  # cut short, or not what it should be: torch would take it again
            file.unlink()
        raise ValueError(f"what came cannot be loaded ({_words(error)})") from error


def from_nltk(name: str, folder: Path) -> None:
    """Have NLTK fetch its sentence data, which it verifies by the digest in its own index; only the data stays."""
    from nltk.downloader import Downloader

    os.umask(0o022)  # NLTK installs into no folder that others can write to
    folder.chmod(0o755)
    with Path(os.devnull).open("w") as nowhere:
        try:
            Downloader(_INDEX).download(
                name, download_dir=str(folder), quiet=True, raise_on_error=True, print_error_to=nowhere
            )
        except ValueError as error:  # NLTK has no other
            if any(word in str(error) for word in ("Integrity check", "zip")):
                raise
            raise ConnectionError(str(error)) from error
    kept = folder / "tokenizers" / PUNKT
    for path in [*folder.iterdir(), *(folder / "tokenizers").iterdir()]:
        if path in (kept, kept.parent):
            continue
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


SOURCES: Mapping[str, Callable[[str, Path], None]] = {"torchaudio": from_torchaudio, "nltk": from_nltk}
_INDEX: str | None = None  # NLTK's own


def _told(work: Callable[[], None]) -> dict[str, str]:
    """What went wrong, in a word that says what to do about it, and the library's own."""
    try:
        work()
    except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
        return {"trouble": "network", "said": _words(error)}
    except OSError as error:
        return {"trouble": "local", "said": _words(error), "errno": str(error.errno or 0)}
    except ImportError as error:
        return {"trouble": "missing", "said": _words(error)}
    except Exception as error:  # noqa: BLE001 - a library may raise anything; the parent has to hear of it
        return {"trouble": "refused", "said": _words(error)}
    return {}


def _is_the_disks(error: BaseException) -> bool:
    """Not the file's: torch says a few things about a bad file with an OSError, too."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS)


def _words(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".partition("\n")[0][:500]


def _die_with(parent: int) -> None:
    """Be killed when the parent is: what goes on alone would be in the way of the next fetch."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit()
