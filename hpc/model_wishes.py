"""What names and languages on the command line stand for: which models, from where, and what they will be called."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from hpc.errors import BadSetting, ModelMissing, UnknownName
from hpc.model_bundle import Entry
from hpc.model_lock import Kind
from hpc.models import (
    SENTENCES,
    kind_of,
    repository,
    spoken_languages,
    torchaudio_file,
    usual_aligners,
    whisper_names,
)

PUNKT = "punkt_tab"  # NLTK's name of the sentence data


class Origin(StrEnum):
    HUB = "hub"
    TORCHAUDIO = "torchaudio"
    NLTK = "nltk"
    FOLDER = "folder"


@dataclass(frozen=True, slots=True)
class Wish:
    """A model that is asked for, and where it comes from."""

    origin: Origin
    name: str  # what it is called from then on
    path: str  # in the bundle
    asked: str = ""
    revision: str = ""
    kind: Kind | None = None  # None: its files tell
    languages: tuple[str, ...] = ()
    source: Path | None = None  # the folder that it is copied from

    @property
    def entry(self) -> Entry:
        return Entry(self.name, self.path, self.kind.value if self.kind else "", self.asked, self.languages)


def wishes(names: Sequence[str], languages: Sequence[str], *, aligner: str | None = None) -> list[Wish]:
    """What these names and languages stand for; `aligner` takes the place of WhisperX's for the first language."""
    found = [_named(name) for name in names]
    for code in languages:
        _must_be_spoken(code)
    aligners = {code: name for code, name in usual_aligners().items() if code in languages}
    if aligner and languages:
        aligners[languages[0]] = aligner
    for name in dict.fromkeys(aligners.values()):
        found.append(_named(name, Kind.ALIGNER, tuple(sorted(code for code in aligners if aligners[code] == name))))
    if aligners:
        found.append(Wish(Origin.NLTK, SENTENCES, SENTENCES, PUNKT, kind=Kind.SENTENCES))
    return list({wish.path: wish for wish in found}.values())


def languages_of_aligners(names: Sequence[str]) -> list[str]:
    """The languages of these models, if they are aligners and nothing else."""
    found = [_named(name) for name in names]
    if any(wish.kind is not Kind.ALIGNER for wish in found):
        return []
    return sorted({code for wish in found for code in wish.languages})


def without_aligner(languages: Sequence[str]) -> list[str]:
    """Those that Whisper hears and WhisperX cannot align: their words get no times."""
    return [code for code in languages if code not in usual_aligners()]


def _named(asked: str, kind: Kind | None = None, languages: tuple[str, ...] = ()) -> Wish:
    here = Path(asked).expanduser()
    if here.is_dir():
        here = here.resolve()
        found = kind_of(here)
        if found is None:
            raise ModelMissing(f"{here} is no model: it has not the files of a speech model or an aligner.")
        return Wish(Origin.FOLDER, here.name, here.name, here.name, kind=found, languages=languages, source=here)
    name, _, revision = asked.partition("@")
    if file := torchaudio_file(name):
        return Wish(Origin.TORCHAUDIO, name, file, asked, revision, Kind.ALIGNER, languages or _languages(name))
    if "/" not in name and name not in whisper_names():
        close = difflib.get_close_matches(name, [*whisper_names(), *usual_aligners().values()], n=1)
        hint = f"did you mean {close[0]}?" if close else f"faster-whisper knows {', '.join(whisper_names())}."
        raise UnknownName(f"There is no model {name!r}; {hint} Others are named as OWNER/NAME, or by their folder.")
    place = repository(name)
    if name in whisper_names():
        kind = Kind.ASR
    elif _languages(place):
        kind = Kind.ALIGNER
    return Wish(Origin.HUB, place, place, asked, revision, kind, languages or _languages(place))


def _languages(aligner: str) -> tuple[str, ...]:
    return tuple(sorted(code for code, name in usual_aligners().items() if name == aligner))


def _must_be_spoken(code: str) -> None:
    known = spoken_languages()
    if code not in known:
        by_name = {name: code for code, name in known.items()}
        close = difflib.get_close_matches(code.lower(), [*known, *by_name], n=1)
        hint = f"; did you mean {by_name.get(close[0], close[0])}?" if close else "; it is a code such as en or de."
        raise BadSetting(f"{code!r} is no language that Whisper knows{hint}")
