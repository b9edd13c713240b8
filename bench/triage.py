"""Precision and recall of each quality flag on a labelled synthetic day, and which labels are of real model output.

    python bench/triage.py [--json] [--clips 12] [--seed 20260117] [--show]

The demo model hears clips that are made from a seed, in chunks of 8 s and of 30 s, which it was not trained for. What
is wrong with a transcript is known from what was said, never from the flags: words said over and over, words missed
under noise, a language that the model does not know. Those are labels of REAL model output. What the demo model cannot
be made to do (it knows sixty words of one language) is MADE: a right transcript is changed on purpose, or what the
platform says of it. A table of each is printed. Where the truth leaves a flag open, it is not counted.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jiwer
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from hpc.demo.score import normal
from hpc.demo.sounds import hum, music, noise
from hpc.demo.speech import TRAINED_VOICES, Speaker, sentence
from hpc.engine_options import EngineOptions
from hpc.hearing import hear
from hpc.model import SAMPLE_RATE, Audio, Failure, Recording, Segment, Transcript, compression_ratio
from hpc.models import resolve
from hpc.triage import FLAGS, TABLE, Captions, Evidence, from_transcript, judge

SEED = 20_260_117
REAL, MADE = "real model output", "made by changing it"
WRONG = 0.5  # of its words, from which a transcript is labelled as wrong; a person would not use it
Sound = NDArray[np.int16]


@dataclass(frozen=True, slots=True)
class Clip:
    """A sound, and what is known of it."""

    kind: str
    sound: Sound
    text: str  # what is said; "" where nobody speaks
    words: tuple[tuple[str, float, float], ...] = ()  # those of the model's language, with their times
    repeats: bool = False  # it says the same over and over
    language: str = "en"  # spoken


@dataclass(frozen=True, slots=True)
class Case:
    """One labelled transcript."""

    kind: str
    source: str  # REAL or MADE
    evidence: Evidence
    flags: frozenset[str]  # those that it should have
    unsettled: frozenset[str] = frozenset()  # not counted: the label does not say


@dataclass(frozen=True, slots=True)
class Row:
    """The figures of one flag over the cases of one source."""

    flag: str
    source: str
    cases: int
    labelled: int
    hit: int
    missed: int
    false: int

    @property
    def precision(self) -> float | None:
        return self.hit / (self.hit + self.false) if self.hit + self.false else None

    @property
    def recall(self) -> float | None:
        return self.hit / self.labelled if self.labelled else None


# --- the day ---------------------------------------------------------------------------------------------------------


def clips(count: int, seed: int) -> Iterator[Clip]:
    """`count` of each kind; no two alike."""
    rng, generator, speaker = random.Random(f"triage {seed}"), np.random.default_rng(seed), Speaker()
    for number in range(count):
        voice = rng.choice(TRAINED_VOICES)
        yield _said(speaker, rng, voice, "plain", sentences=2)
        long = _said(speaker, rng, voice, "long", sentences=8)
        yield long
        yield replace(long, kind="0 dB noise", sound=_noisy(generator, long.sound, 0.0))
        yield replace(long, kind="-12 dB noise", sound=_noisy(generator, long.sound, -12.0))
        backwards = long.sound[::-1].copy()
        yield replace(long, kind="backwards", sound=backwards, text="(nothing that anybody understands)", words=())
        yield _drowned(speaker, rng, generator, voice, (-6.0, -15.0)[number % 2])
        yield _repeated(speaker, rng, voice)
        german = speaker.say(rng.choice(GERMAN), voice="gmw/de", pitch=rng.randint(30, 70))
        yield Clip("german", german.pcm, "(german)", language="de")
        length = 15 * SAMPLE_RATE
        unspoken = (noise(generator, length), hum(generator, length), music(generator, length), np.zeros(length))
        yield Clip("nobody speaks", _loud(unspoken[number % 4]), "")


GERMAN = (
    "guten morgen meine damen und herren, heute ist ein schöner tag und wir gehen im wald spazieren",
    "die katze schläft unter dem tisch und der hund wartet vor der tür auf seinen besitzer",
    "bitte beachten sie dass der zug nach zürich heute von gleis sieben abfährt",
    "ich habe gestern abend ein buch gelesen das mir meine schwester geschenkt hat",
)


def _said(speaker: Speaker, rng: random.Random, voice: str, kind: str, *, sentences: int) -> Clip:
    text = " ".join(" ".join(sentence(rng)) for _ in range(sentences))
    spoken = speaker.say(text + ".", voice=voice, rate=rng.randint(130, 190))
    return Clip(kind, spoken.pcm, text, spoken.words)


def _repeated(speaker: Speaker, rng: random.Random, voice: str) -> Clip:
    """The same two to four words ten times, with the sound of one saying."""
    words = " ".join(sentence(rng)[:4][: rng.randint(2, 4)])
    words = words if " " in words else f"{words} {words} over"
    once = speaker.say(words, voice=voice).pcm
    return Clip("said ten times", np.concatenate([once] * 10), " ".join([words] * 10), repeats=True)


def _drowned(speaker: Speaker, rng: random.Random, generator: np.random.Generator, voice: str, decibels: float) -> Clip:
    """A sentence, then ten seconds of speech under noise."""
    first, rest = (_said(speaker, rng, voice, "", sentences=n) for n in (2, 8))
    under, later = _noisy(generator, rest.sound[: 10 * SAMPLE_RATE], decibels), len(first.sound) / SAMPLE_RATE
    words = [(word, start + later, end + later) for word, start, end in rest.words if end <= 10]
    text = " ".join([first.text, *(word for word, _, _ in words)])
    kind = f"10 s under {decibels:g} dB noise"
    return Clip(kind, np.concatenate([first.sound, under]), text, (*first.words, *words))


def _noisy(generator: np.random.Generator, sound: Sound, decibels: float) -> Sound:
    speech = sound.astype(np.float64)
    level = np.sqrt(np.mean(speech**2)) * 10 ** (-decibels / 20)
    mixed = speech + noise(generator, len(sound), colour="pink") * level
    return np.asarray(np.clip(mixed * min(1.0, 20_000 / np.abs(mixed).max()), -32768, 32767)).astype(np.int16)


def _loud(sound: NDArray[Any]) -> Sound:
    return np.asarray(np.clip(3000 * sound, -32768, 32767)).astype(np.int16)


# --- labels ----------------------------------------------------------------------------------------------------------


def real_cases(heard: Sequence[tuple[Clip, Transcript]]) -> Iterator[Case]:
    """What the model wrote, as it is; the platform tells the truth about each clip."""
    for clip, said in heard:
        captions = [Captions("eng-US", "ASR", clip.text)] if clip.words else []
        language = clip.language if clip.text else "un"
        evidence = from_transcript(said, _seconds(clip), text_language=language, captions=captions)
        wrong, share, missed = _error_rate(clip, said) > WRONG, _share(clip, said), _missed_seconds(clip, said)
        labels = {
            "repetition": _is_told(clip.repeats and not wrong, open_=wrong or _too_often(clip, said) >= 5),
            "unsure": _is_told(wrong),
            "gap": _is_told(missed >= 6.0, open_=missed >= 4.0 or not (clip.words or not clip.text)),
            "too_little_text": _is_told(share < 0.15 and _seconds(clip) >= 8.0, open_=share < 0.4),
            "language": _is_told(bool(said.text) and clip.language != "en"),
            "captions_differ": _is_told(bool(clip.words) and wrong),
            "no_speech_with_text": _is_told(bool(said.text) and not clip.text, open_=share < 0.4 or missed >= 4.0),
        }
        flags = frozenset(name for name, so in labels.items() if so)
        yield Case(clip.kind, REAL, evidence, flags, frozenset(name for name, so in labels.items() if so is None))


def _is_told(so: bool, *, open_: bool = False) -> bool | None:
    return True if so else None if open_ else False


def _error_rate(clip: Clip, said: Transcript) -> float:
    if not clip.text:
        return 0.0
    return float(jiwer.wer(" ".join(normal(clip.text)), " ".join(normal(said.text)))) if said.text else 1.0


def _share(clip: Clip, said: Transcript) -> float:
    """How many words were written of those that were said."""
    return len(normal(said.text)) / len(clip.words) if clip.words else 1.0


def _too_often(clip: Clip, said: Transcript) -> int:
    """How many times more than it was said the same word was written."""
    more = Counter(normal(said.text)) - Counter(normal(clip.text)) if clip.words else Counter[str]()
    return max(more.values(), default=0)


def _missed_seconds(clip: Clip, said: Transcript) -> float:
    """The most seconds of words in a row in whose time nothing was written."""
    written = [(word.start, word.end) for one in said.segments for word in one.words]
    longest = current = 0.0
    for _, start, end in clip.words:
        heard = any(a is not None and b is not None and a < end and b > start for a, b in written)
        current = 0.0 if heard else current + end - start
        longest = max(longest, current)
    return longest


def made_cases(heard: Sequence[tuple[Clip, Transcript]], seed: int) -> Iterator[Case]:
    """Right transcripts of plain clips, each changed in one way; and the same unchanged."""
    rng = random.Random(f"made {seed}")
    sound = [(clip, said) for clip, said in heard if clip.kind in ("plain", "long") and _error_rate(clip, said) < 0.1]
    for clip, said in sound:
        yield Case("unchanged", MADE, _evidence(clip, said), frozenset())
        phrase = rng.choice(PHRASES)
        yield Case("a phrase instead", MADE, _evidence(clip, _instead(said, phrase)), frozenset({"known_phrase"}),
                   frozenset({"too_little_text", "gap", "captions_differ"}))  # fmt: skip
        yield Case("a phrase within", MADE, _evidence(clip, _instead(said, f"{said.text} thanks for watching")),
                   frozenset())  # fmt: skip
        joined = "".join(normal(said.text))[:80]
        yield Case("spaces gone", MADE, _evidence(clip, _instead(said, joined)),
                   frozenset({"long_word"}) if len(joined) > 60 else frozenset(),
                   frozenset({"captions_differ"} | ({"long_word"} if len(joined) <= 60 else set())))  # fmt: skip
        more = " ".join(" ".join(sentence(rng)) for _ in range(60))
        yield Case("text of a minute more", MADE, _evidence(clip, _instead(said, f"{said.text} {more}")),
                   frozenset({"too_much_text"}), frozenset({"repetition", "captions_differ"}))  # fmt: skip
        yield Case("a loop added", MADE, _evidence(clip, _instead(said, said.text + " and so on" * rng.randint(6, 30))),
                   frozenset({"repetition"}), frozenset({"too_much_text", "captions_differ"}))  # fmt: skip
        other = rng.choice([one for one, _ in sound if one is not clip])
        yield Case("captions of another", MADE, replace(_evidence(clip, said), captions=[
                   Captions("eng-US", "ASR", other.text)]), frozenset({"captions_differ"}))  # fmt: skip
        yield Case("captions a little other", MADE, replace(_evidence(clip, said), captions=[
                   Captions("eng-US", "ASR", _worn(rng, clip.text))]), frozenset())  # fmt: skip
        yield Case("captions translated", MADE, replace(_evidence(clip, said), captions=[
                   Captions("deu-DE", "MT", rng.choice(GERMAN))]), frozenset())  # fmt: skip
        foreign = replace(_evidence(clip, said), text_language="deu-DE", subtitle_language="de", captions=())
        yield Case("metadata in german", MADE, foreign, frozenset({"language"}))
        unheard = replace(said, chunks=tuple(replace(chunk, no_speech_prob=0.9) for chunk in said.chunks))
        yield Case("no speech was heard", MADE, _evidence(clip, unheard), frozenset({"no_speech_with_text"}))


PHRASES = (
    "Thanks for watching!", "Untertitel der Amara.org-Community", "Untertitel im Auftrag des ZDF, 2021",
    "Sous-titrage Société Radio-Canada", "Продолжение следует", "ご視聴ありがとうございました", "you",
)  # fmt: skip


def _evidence(clip: Clip, said: Transcript) -> Evidence:
    captions = [Captions("eng-US", "ASR", clip.text)]
    return from_transcript(said, _seconds(clip), text_language="en", captions=captions)


def _instead(said: Transcript, text: str) -> Transcript:
    """The same chunks with another text in the first."""
    first, last = said.segments[0], said.segments[-1]
    chunks = (replace(said.chunks[0], end=said.chunks[-1].end, compression_ratio=compression_ratio(text),
                      speech=sum(chunk.speech or 0.0 for chunk in said.chunks)),)  # fmt: skip
    return replace(said, segments=(Segment(text, first.start, last.end),), chunks=chunks)


def _worn(rng: random.Random, text: str) -> str:
    """Captions as they are: a fifth of the words is another."""
    return " ".join(rng.choice(("uh", "the", "well")) if rng.random() < 0.2 else word for word in text.split()).upper()


def _seconds(clip: Clip) -> float:
    return len(clip.sound) / SAMPLE_RATE


# --- figures ---------------------------------------------------------------------------------------------------------


def figures(cases: Sequence[Case]) -> list[Row]:
    """For each flag, of real and of made cases."""
    judged = [(case, frozenset(flag.name for flag in judge(case.evidence))) for case in cases]
    return [_row(flag, source, judged) for flag in FLAGS for source in (REAL, MADE)]


def _row(flag: str, source: str, judged: Sequence[tuple[Case, frozenset[str]]]) -> Row:
    counted = [(flag in case.flags, flag in found) for case, found in judged
               if case.source == source and flag not in case.unsettled]  # fmt: skip
    return Row(
        flag,
        source,
        cases=len(counted),
        labelled=sum(wanted for wanted, _ in counted),
        hit=sum(wanted and got for wanted, got in counted),
        missed=sum(wanted and not got for wanted, got in counted),
        false=sum(got and not wanted for wanted, got in counted),
    )


def any_flag(cases: Sequence[Case]) -> dict[str, int]:
    """Of the real transcripts: how many are wrong and right, and how many of these have a flag at all."""
    real = [(bool(judge(case.evidence)), "unsure" in case.flags) for case in cases if case.source == REAL]
    return {
        "wrong": sum(wrong for _, wrong in real),
        "wrong_flagged": sum(flagged and wrong for flagged, wrong in real),
        "right": sum(not wrong for _, wrong in real),
        "right_flagged": sum(flagged and not wrong for flagged, wrong in real),
    }


def listen(chosen: Sequence[Clip], *, chunk_size: int) -> list[tuple[Clip, Transcript]]:
    """Each clip with what the demo model makes of it, with no help against loops."""
    from hpc.engines.whisperx.batched import BatchedEngine

    options = EngineOptions(
        model="demo/asr.en", aligner="demo/aligner", device="cpu", chunk_size=chunk_size, threads=1, vad_method="silero"
    )
    engine = BatchedEngine(resolve(options)[0])
    audios = [Audio(Recording(0, n, b"%d" % n, len(clip.sound), b""), clip.sound) for n, clip in enumerate(chosen)]
    answers = hear(engine, audios)
    if failed := [answer.reason for answer in answers if isinstance(answer, Failure)]:
        raise SystemExit(f"The engine failed: {failed[0]}")
    return [(clip, said) for clip, said in zip(chosen, answers, strict=True) if isinstance(said, Transcript)]


def show(rows: Sequence[Row], cases: Sequence[Case]) -> None:
    """Print the tables."""
    console = Console()
    for source in (REAL, MADE):
        table = Table("flag", "should", "hit", "missed", "false", "of", "precision", "recall", title=source)
        for row in rows:
            if row.source == source:
                rates = ("-" if rate is None else f"{rate:.2f}" for rate in (row.precision, row.recall))
                table.add_row(row.flag, *map(str, (row.labelled, row.hit, row.missed, row.false, row.cases)), *rates)
        console.print(table)
    for source in (REAL, MADE):
        kinds = dict.fromkeys(case.kind for case in cases if case.source == source)
        console.print(f"{source}: {sum(case.source == source for case in cases)} transcripts ({', '.join(kinds)})")
    some = any_flag(cases)
    console.print(
        f"any flag: {some['wrong_flagged']} of {some['wrong']} real transcripts with more than half of the words wrong,"
        f" {some['right_flagged']} of the other {some['right']} (the sayings ten times over among them)"
    )
    unlabelled = [row.flag for row in rows if row.source == REAL and not row.labelled]
    console.print(
        "language and captions_differ are labelled by nearly what they ask themselves (captions here are the truth),"
        " and so is all that is made: these show that a flag works, not how good such evidence is"
    )
    console.print(f"no real positive among these, so recall on real output is not known: {', '.join(unlabelled)}")


def main() -> None:
    """Make, hear, judge, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--clips", type=int, default=12, help="of each kind")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--show", action="store_true", help="print each case that was judged otherwise than labelled")
    wanted = parser.parse_args()
    os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1", PYANNOTE_METRICS_ENABLED="0")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    began = time.monotonic()
    chosen = list(clips(wanted.clips, wanted.seed))
    heard, longer = (listen(chosen, chunk_size=seconds) for seconds in (8, 30))
    cases = [*real_cases([*heard, *longer]), *made_cases(heard, wanted.seed)]
    rows = figures(cases)
    if wanted.json:
        told = [{name: getattr(row, name) for name in (*Row.__slots__, "precision", "recall")} for row in rows]
        thresholds = {name: rule.threshold for name, rule in TABLE.items()}
        about = {"seed": wanted.seed, "clips": wanted.clips, "thresholds": thresholds, "any_flag": any_flag(cases)}
        json.dump(about | {"rows": told}, sys.stdout, indent=1)
        return
    if wanted.show:
        _show_differing(cases)
    show(rows, cases)
    print(f"seed {wanted.seed}, {len(heard)} clips, {time.monotonic() - began:.0f} s")


def _show_differing(cases: Sequence[Case]) -> None:
    for case in cases:
        found = {flag.name: flag.detail for flag in judge(case.evidence)}
        differ = (case.flags ^ found.keys()) - case.unsettled
        if differ:
            print(
                case.kind,
                "|",
                case.source,
                "| should",
                sorted(case.flags),
                "| has",
                found,
                "|",
                case.evidence.text[:120],
            )


if __name__ == "__main__":
    main()
