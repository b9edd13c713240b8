"""The Hugging Face hub, or a mirror: what a repository holds, and its files, each held to what the hub says of it."""

from __future__ import annotations

import contextlib
import difflib
import errno
import hashlib
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from db.errors import DayscribeError
from hpc.errors import BadSetting, NeedsLogin, NoAnswer, NotVerified, TargetFull, UnknownName
from hpc.models import repository as repository_of
from hpc.models import usual_aligners, whisper_names

PAUSES = (1.0, 3.0, 9.0)  # seconds before what failed is tried again; what makes progress is tried on and on
MAIN = "main"
_TIMEOUT = 30.0  # seconds for an answer; for bytes of a file the library's own HF_HUB_DOWNLOAD_TIMEOUT counts
_LATER = "What came is kept: run the same command again, later or where there is a network."
_Result = TypeVar("_Result")
# Set before the library is imported, unless the person chose otherwise. Its other protocol (Xet) speaks to more hosts,
# and begins a file anew after an interruption.
_MANNERS = {
    "HF_HUB_DISABLE_XET": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
}


@dataclass(frozen=True, slots=True)
class HubFile:
    """A file of a repository, as the hub describes it."""

    name: str
    size: int
    sha256: str = ""  # of large files
    git: str = ""  # git's hash, of small ones


@dataclass(frozen=True, slots=True)
class Listing:
    """A repository at one commit."""

    repository: str
    commit: str
    files: tuple[HubFile, ...]


def ask(repository: str, revision: str = MAIN) -> Listing:
    """What the hub has under this name now."""

    def once() -> Listing:
        with _explained(repository, revision):
            info = (
                _library()
                .HfApi(endpoint=_endpoint(), library_name="dayscribe")
                .model_info(repository, revision=revision or MAIN, files_metadata=True, timeout=_TIMEOUT)
            )
            return Listing(repository, str(info.sha), tuple(_file(one) for one in info.siblings or ()))

    return _again_and_again(once)


def download(listing: Listing, file: HubFile, folder: Path) -> bool:
    """Bring one file into the folder, from where an interrupted download left off. False: it was there already."""
    target = folder / file.name
    if is_right(target, file):
        return False

    def once() -> None:
        try:
            with _explained(listing.repository, listing.commit):
                _library().hf_hub_download(
                    listing.repository, file.name, revision=listing.commit, local_dir=folder, endpoint=_endpoint(),
                    library_name="dayscribe", etag_timeout=_TIMEOUT,
                )  # fmt: skip
        except NotVerified:
            _forget(folder, target)
            raise
        if not is_right(target, file):
            _forget(folder, target)
            raise NotVerified(
                f"{file.name} of {listing.repository} did not arrive as {_host()} describes it, and was thrown away. "
                "Run the same command again; if it stays so, something on the way changes files: a mirror, or a proxy."
            )

    target.unlink(missing_ok=True)
    _again_and_again(once, progress=lambda: weight(folder))
    return True


def is_right(path: Path, file: HubFile) -> bool:
    """Whether the file is here with exactly the bytes that the hub names."""
    try:
        if path.stat().st_size != file.size:
            return False
    except OSError:
        return False
    with path.open("rb") as content:
        if file.sha256:
            return hashlib.file_digest(content, "sha256").hexdigest() == file.sha256
        blob = hashlib.sha1(f"blob {file.size}\0".encode(), usedforsecurity=False)
        while piece := content.read(1 << 20):
            blob.update(piece)
        return blob.hexdigest() == file.git


@cache
def _library() -> Any:
    for name, value in _MANNERS.items():
        os.environ.setdefault(name, value)
    try:
        import huggingface_hub
    except ImportError as error:
        raise BadSetting(
            "Models are fetched with huggingface_hub, which is not installed here. "
            "Install this project with its extra 'speech' (make demo does)."
        ) from error
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # its warnings quote signed addresses
    return huggingface_hub


def _endpoint() -> str | None:
    return os.environ.get("HF_ENDPOINT", "").rstrip("/") or None


def _host() -> str:
    """The hub's name, never what a mirror's address may hold besides."""
    return urlsplit(_endpoint() or "").hostname or "Hugging Face"


def _file(said: Any) -> HubFile:
    sha256 = str(said.lfs.sha256) if said.lfs else ""
    if said.size is None or not (sha256 or said.blob_id):
        raise BadSetting(f"{_host()} does not say how its files should be, so they could not be verified.")
    return HubFile(str(said.rfilename), int(said.size), sha256, str(said.blob_id or ""))


def _again_and_again(call: Callable[[], _Result], *, progress: Callable[[], int] = lambda: 0) -> _Result:
    """Try until it works, failed a few times in a row without any progress, or brought something wrong twice."""
    failed, wrong, came = 0, 0, progress()
    while True:
        try:
            return call()
        except NotVerified:
            wrong += 1
            if wrong > 1:
                raise
            came = progress()
        except NoAnswer:
            now = progress()
            failed, came = (0 if now > came else failed + 1), now
            if failed > len(PAUSES):
                raise
            time.sleep(PAUSES[failed - 1] if failed else 0)


def weight(folder: Path) -> int:
    """Bytes of the files in a folder in which others are at work: what vanishes meanwhile weighs nothing."""
    total = 0
    for place, _, names in os.walk(folder):  # unlike glob it leaves a folder that has vanished aside
        for name in names:
            with contextlib.suppress(OSError):
                total += Path(place, name).stat().st_size
    return total


def _forget(folder: Path, target: Path) -> None:
    """What the library remembers of a wrong file would have it go on with that."""
    target.unlink(missing_ok=True)
    shutil.rmtree(folder / ".cache", ignore_errors=True)


@contextlib.contextmanager
def _explained(repository: str, revision: str) -> Iterator[None]:
    """The library's errors as ours. Their own words stay inside: they quote addresses, and those can hold secrets."""
    _library()
    import requests
    from huggingface_hub import errors

    try:
        yield
    except errors.LocalEntryNotFoundError as error:  # "not in the cache, and the hub did not answer"
        raise _explanation(error.__cause__ or error, repository, revision) from error
    except (requests.RequestException, errors.HFValidationError, OSError, KeyError, TypeError, AttributeError) as error:
        raise _explanation(error, repository, revision) from error


def _explanation(error: BaseException, repository: str, revision: str) -> Exception:
    import requests
    from huggingface_hub import errors

    response = getattr(error, "response", None)
    if isinstance(error, requests.HTTPError) and response is not None:
        return _refusal(error, int(response.status_code), repository, revision)
    meanings: tuple[tuple[type[BaseException], type[DayscribeError], str], ...] = (
        (errors.OfflineModeIsEnabled, BadSetting, "HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE is set: unset both here."),
        (errors.HFValidationError, UnknownName, f"{repository!r} is no repository's name{_near(repository)}"),
        (
            requests.exceptions.SSLError, BadSetting,
            f"The certificate of {_host()} is not trusted here. If it is a proxy's, name it in REQUESTS_CA_BUNDLE.",
        ),
        (
            requests.exceptions.ProxyError, BadSetting,
            f"The proxy does not let us through to {_host()}: see https_proxy and no_proxy.",
        ),
        (requests.exceptions.Timeout, NoAnswer, f"{_host()} takes too long to answer. {_LATER}"),
        (
            requests.exceptions.InvalidJSONError, NoAnswer,
            f"{_host()} does not answer as a hub does. Is there a login page of the network before it?",
        ),
        (
            requests.RequestException, NoAnswer,
            f"{_host()} cannot be reached, or the connection broke. {_LATER} A mirror is named with HF_ENDPOINT.",
        ),
    )  # fmt: skip
    ours = next(((kind, said) for theirs, kind, said in meanings if isinstance(error, theirs)), None)
    return ours[0](ours[1]) if ours else _local(error)


def _refusal(error: BaseException, status: int, repository: str, revision: str) -> Exception:
    from huggingface_hub import errors

    known = _library().get_token() is not None
    token = (
        "If it is a private one, the token that is used here may not see it."
        if known
        else "If it is a private one, it wants a token (HF_TOKEN)."
    )
    if isinstance(error, errors.RevisionNotFoundError):
        return UnknownName(f"{_host()} has {repository}, but no revision {revision!r} of it.")
    if isinstance(error, errors.GatedRepoError) or status == 403:
        return NeedsLogin(
            f"{repository} is given out only to those who accepted its terms: do so on its page at {_host()}, then set "
            "HF_TOKEN to a token of that account."
        )
    if status == 401 and not isinstance(error, errors.RepositoryNotFoundError):
        return NeedsLogin(f"{_host()} does not accept the token: see HF_TOKEN, or `hf auth login`.")
    if isinstance(error, errors.RepositoryNotFoundError) or status == 404:
        return UnknownName(f"{_host()} shows no repository {repository}{_near(repository)} {token}")
    if status == 416:
        return NotVerified(f"{_host()} has less of a file of {repository} than came before.")
    return NoAnswer(f"{_host()} answers with status {status}. {_LATER}")


def _local(error: BaseException) -> Exception:
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return TargetFull("There is no room left. What came is kept: free some, and run the same command again.")
    if isinstance(error, OSError) and error.errno is not None:
        return BadSetting(f"{error.filename or 'A file'} cannot be written: {error.strerror}.")
    return NoAnswer(f"{_host()} does not answer as a hub does ({type(error).__name__}). Run the same command again.")


def _near(repository: str) -> str:
    known = {repository_of(name): name for name in reversed(whisper_names())} | {
        name: name for name in usual_aligners().values()
    }
    close = difflib.get_close_matches(repository, [*known, *whisper_names()], n=1)
    return f"; did you mean {known.get(close[0], close[0])}?" if close else "."
