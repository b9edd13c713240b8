"""Brings models to a machine with a network, as one bundle that is whole and locked before it is called so."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from db.errors import DayscribeError
from hpc import model_bundle as bundles
from hpc import model_hub as hub
from hpc.errors import BadSetting, InFlight, ModelChanged, ModelMissing, NoAnswer, NotVerified, TargetFull
from hpc.model_bundle import PARTIAL, Entry
from hpc.model_lock import BANDS, Kind, Model, describe, ensure, lacking, lock, lock_file
from hpc.model_wishes import PUNKT, Origin, Wish
from hpc.models import hash_memory, kind_of

# torchaudio and NLTK say how large their files are only once they come. These are a little more than was seen.
TORCHAUDIO_BYTES, NLTK_BYTES = 400_000_000, 60_000_000
_LOOK_SECONDS = 0.5
_REPLACED = ".replaced"
_SMALL = 50_000_000  # bytes; an aligner's *.json and *.txt are far below
_OF_WHISPER = re.compile(r"config\.json|preprocessor_config\.json|model\.bin|tokenizer\.json|vocabulary\.\w+")
_COMMIT = re.compile(r"[0-9a-f]{7,40}")
# torch and NLTK are the engine's; a child imports them, so that nothing of ours waits for them or dies with them.
CHILD = (sys.executable, "-P", "-c", "from hpc.engines.whisperx.fetching import main; main()")


@dataclass(frozen=True, slots=True)
class Offer:
    """A wish, and what fulfils it: the model that is here already, or files to come."""

    wish: Wish
    kind: Kind
    size: int  # bytes
    here: Model | None = None
    listing: hub.Listing | None = None
    files: tuple[hub.HubFile, ...] = ()

    @property
    def revision(self) -> str:
        return self.here.revision if self.here else self.listing.commit if self.listing else ""


def survey(wanted: Sequence[Wish], folder: Path) -> list[Offer]:
    """What is here already and what would come. Asks the hub, changes nothing."""
    return [_here(wish, folder) or _offer(wish) for wish in wanted]


def fetch(
    wanted: Sequence[Wish], folder: Path, *, on_offers: Callable[[list[Offer]], None], on_done: Callable[[Model], None]
) -> list[tuple[Offer, Model]]:
    """Bring everything that is not here yet into the folder, each model whole or not at all, and list it."""
    with _alone_in(folder) as partial:
        for old in partial.glob(f"*{_REPLACED}"):
            shutil.rmtree(old)
        bundle = bundles.read(folder) or bundles.Bundle()
        offers = survey(wanted, folder)
        _must_fit([offer for offer in offers if not offer.here], folder, partial)
        for wish in wanted:
            if not (known := bundle.at(wish.path)) or not known.digest:
                bundle = bundle.having(wish.entry)
        bundles.write(folder, bundle)  # from here on it is known what the bundle lacks
        on_offers(offers)
        done = []
        for offer in offers:
            model = offer.here or _publish(offer, _bring(offer, partial), folder)
            entry = bundles.entry_of(model, _merged(offer.wish.entry, bundle.at(offer.wish.path)))
            bundle = bundle.having(entry)
            bundles.write(folder, bundle)
            on_done(model)
            done.append((offer, model))
    return done


def may_write(folder: Path) -> bool:
    """Whether models can be put there; the folder itself need not exist yet."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)


class Watch:
    """Tells how far a fetch is, by what lies in its folder: none of the libraries says it in one way."""

    def __init__(self, folder: Path, tell: Callable[..., None]) -> None:
        self._folder, self._tell, self._total, self._whole = folder, tell, 0, 0
        self._expected: dict[str, int] = {}
        self._over = threading.Event()

    def expect(self, offers: Sequence[Offer]) -> None:
        self._expected = {offer.wish.path: offer.size for offer in offers if not offer.here}
        self._total = sum(self._expected.values())

    def arrived(self, model: Model) -> None:
        path = model.path.relative_to(self._folder).as_posix()
        self._whole += self._expected.pop(path, 0)
        self._say()

    def run(self) -> None:
        while not self._over.wait(_LOOK_SECONDS):
            self._say()

    def stop(self) -> None:
        self._over.set()

    def _say(self) -> None:
        done = min(self._whole + coming(self._folder), self._total)
        self._tell(done=round(done / 1e6), total=round(self._total / 1e6) or None)


@contextlib.contextmanager
def watched(folder: Path, tell: Callable[..., None]) -> Iterator[Watch]:
    watch = Watch(folder, tell)
    thread = threading.Thread(target=watch.run, daemon=True)
    thread.start()
    try:
        yield watch
    finally:
        watch.stop()
        thread.join()


def coming(folder: Path) -> int:
    """Bytes of what is on its way."""
    return hub.weight(folder / PARTIAL)


def _merged(entry: Entry, known: Entry | None) -> Entry:
    """The languages of earlier fetches stay."""
    languages = {*entry.languages, *(known.languages if known else ())}
    kept = known.asked if known and known.digest and "@" not in entry.asked else entry.asked
    return Entry(entry.name, entry.path, entry.kind, kept, tuple(sorted(languages)))


def _here(wish: Wish, folder: Path) -> Offer | None:
    """The model, if it is here, locked and as it was locked. A revision that was asked for has to be the one."""
    path = folder / wish.path
    kind = kind_of(path) if path.exists() else None
    if kind is None or not lock_file(path).is_file():
        return None
    model = describe(wish.name, path, kind)
    try:
        if _is_asked_for(model, wish):
            return Offer(wish, kind, model.size, ensure(model, cache=hash_memory()))
    except (ModelChanged, ModelMissing):
        pass  # it comes again
    return None


def _is_asked_for(model: Model, wish: Wish) -> bool:
    if wish.source:
        return model.digest == ensure(describe(wish.name, wish.source, model.kind), cache=hash_memory()).digest
    if not wish.revision or wish.origin is not Origin.HUB:
        return True
    if _COMMIT.fullmatch(wish.revision) and model.revision.startswith(wish.revision):
        return True
    return hub.ask(wish.name, wish.revision).commit == model.revision


def _offer(wish: Wish) -> Offer:
    if wish.origin is Origin.TORCHAUDIO:
        return Offer(wish, Kind.ALIGNER, TORCHAUDIO_BYTES)
    if wish.origin is Origin.NLTK:
        return Offer(wish, Kind.SENTENCES, NLTK_BYTES)
    if wish.origin is Origin.FOLDER:
        assert wish.source is not None
        assert wish.kind is not None
        return Offer(wish, wish.kind, describe(wish.name, wish.source, wish.kind).size)
    listing = hub.ask(wish.name, wish.revision)
    kind = wish.kind or _kind_among({file.name for file in listing.files})
    files = _loaded(listing.files, kind)
    absent = [one for one in lacking(kind, (file.name for file in files)) if not (kind is Kind.ASR and one == BANDS)]
    if absent:
        what = "a speech model for faster-whisper" if kind is Kind.ASR else "an aligner that WhisperX can load"
        raise BadSetting(f"{wish.name} is not {what}: it has no {', no '.join(absent)}.")
    return Offer(wish, kind, sum(file.size for file in files), listing=listing, files=files)


def _kind_among(names: set[str]) -> Kind:
    return Kind.ALIGNER if "vocab.json" in names and "model.bin" not in names else Kind.ASR


def _loaded(files: Sequence[hub.HubFile], kind: Kind) -> tuple[hub.HubFile, ...]:
    """The files that are loaded, small ones first; never what a name would put into another folder."""
    flat = {file.name: file for file in files if re.fullmatch(r"[\w-][\w.-]*", file.name)}
    if kind is Kind.ASR:
        chosen = [file for name, file in flat.items() if _OF_WHISPER.fullmatch(name)]
    else:  # the same weights for other libraries stay where they are
        weights = [flat[name] for name in ("model.safetensors", "pytorch_model.bin") if name in flat][:1]
        words = [file for name, file in flat.items() if name.endswith((".json", ".txt")) and file.size < _SMALL]
        chosen = [file for file in words if not file.name.endswith(".index.json")] + weights
    return tuple(sorted(chosen, key=lambda file: (file.size, file.name)))


def _must_fit(offers: Sequence[Offer], folder: Path, partial: Path) -> None:
    came = coming(folder)
    need, free = max(0, sum(offer.size for offer in offers) - came), shutil.disk_usage(partial).free
    if need > free:
        raise TargetFull(
            f"{folder} has no room: {need / 1e9:.1f} GB are to come, {free / 1e9:.1f} GB are free. "
            "Free some, or name another folder with --to."
        )


def _bring(offer: Offer, partial: Path) -> Path:
    """The model in a folder of its own below `partial`, whole and right; what is there already is not fetched again."""
    place = partial / offer.wish.path.replace("/", "--")
    with _writing(place):
        if offer.wish.origin in (Origin.FOLDER, Origin.NLTK):  # quick to begin anew
            shutil.rmtree(place, ignore_errors=True)
        place.mkdir(exist_ok=True)
        if offer.wish.origin is Origin.FOLDER:
            _copy(offer, place)
        elif offer.listing is None:
            _by_child(offer.wish, place)
        else:
            _from_hub(offer.listing, offer.files, place, partial.parent / offer.wish.path)
    return place / offer.wish.path if offer.wish.origin is Origin.TORCHAUDIO else place


def _from_hub(listing: hub.Listing, files: Sequence[hub.HubFile], place: Path, before: Path) -> None:
    """Every file of these and no other; what another revision, or a damaged model, has of them is taken from there."""
    for file in files:
        if not (place / file.name).exists() and hub.is_right(before / file.name, file):
            _take(before / file.name, place / file.name)
        hub.download(listing, file, place)
    wanted = {file.name for file in files}
    for path in place.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name not in wanted:
            path.unlink()


def _take(source: Path, target: Path) -> None:
    try:
        os.link(source, target)  # nothing that has its name is ever written to
    except OSError:
        shutil.copyfile(source, target)


def _copy(offer: Offer, place: Path) -> None:
    assert offer.wish.source is not None
    source = describe(offer.wish.name, offer.wish.source, offer.kind)
    for file in source.files:
        (place / file.path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source.path / file.path, place / file.path)
    if source.locked:
        shutil.copyfile(lock_file(source.path), lock_file(place))


def _by_child(wish: Wish, place: Path) -> None:
    name = PUNKT if wish.origin is Origin.NLTK else wish.name
    command = [*CHILD, wish.origin.value, name, str(place), str(os.getpid())]
    ran = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False)
    try:
        said = json.loads(ran.stdout)
    except ValueError:
        raise NoAnswer(
            f"The process that fetches {wish.name} ended without a word (status {ran.returncode})."
        ) from None
    if not said:
        return
    by = {Origin.NLTK: "NLTK", Origin.TORCHAUDIO: "torchaudio"}[wish.origin]
    words = f"{wish.name}, which {by} fetches by itself: {said['said']}"
    match said["trouble"]:
        case "network":
            raise NoAnswer(f"{words}. Run the same command again where there is a network.")
        case "local" if int(said["errno"]) in (errno.ENOSPC, errno.EDQUOT):
            raise TargetFull(f"{words}. Free some room, and run the same command again.")
        case "local":
            raise BadSetting(words)
        case "missing":
            raise BadSetting(f"{words}. Install this project with its extra 'speech' (make demo does).")
        case _:
            raise NotVerified(f"{words}. What came is thrown away: run the same command again.")


def _publish(offer: Offer, brought: Path, folder: Path) -> Model:
    """Lock it, and give it its name in one step."""
    wish, target = offer.wish, folder / offer.wish.path
    commit = offer.listing.commit if offer.listing else ""
    found = Model(wish.name, brought, offer.kind)
    if not lock_file(brought).is_file() or offer.listing:
        lock(found, repository=wish.name if commit else "", revision=commit)
    whole = ensure(describe(wish.name, brought, offer.kind), cache=hash_memory())
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.is_dir():  # another revision, or one that was damaged
        old = brought.with_name(f"{brought.name}{_REPLACED}")
        target.replace(old)
        brought.replace(target)
        shutil.rmtree(old)
    elif brought.is_file():
        beside = lock_file(brought)
        beside.replace(target.with_name(beside.name))
        brought.replace(target)
        brought.parent.rmdir()
    else:
        brought.replace(target)
    return describe(wish.name, target, whole.kind)


@contextlib.contextmanager
def _alone_in(folder: Path) -> Iterator[Path]:
    """The folder for what is on its way, and nobody else's fetch in it."""
    partial = folder / PARTIAL
    try:
        partial.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(partial, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise BadSetting(f"{folder} cannot be written: {error.strerror}. Name another with --to.") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InFlight(f"Another fetch is at work in {folder}; run the same command when it has ended.") from None
        except OSError:
            pass  # a file system without locks: then nobody is told
        if not partial.exists() or os.fstat(descriptor).st_ino != partial.stat().st_ino:
            raise InFlight(f"Another fetch in {folder} has just ended; run the same command again.")
        try:
            yield partial
        finally:
            with contextlib.suppress(OSError):
                partial.rmdir()  # unless something waits in it to go on
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _writing(place: Path) -> Iterator[None]:
    try:
        yield
    except DayscribeError:
        raise
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise TargetFull(f"{place} has no room left. Free some, and run the same command again.") from error
        raise BadSetting(f"{error.filename or place} cannot be written: {error.strerror}.") from error
