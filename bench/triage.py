"""Precision and recall of each quality flag on a labelled synthetic day, and which labels are of real model output.

    python bench/triage.py [--json] [--clips 12] [--seed 20260117] [--show]

The demo model hears clips that are made from a seed, in chunks of 8 s and of 30 s, which it was not trained for. What
is wrong with a transcript is known from what was said, never from the flags: words said over and over, words missed
under noise, a language that the model does not know. Those are labels of REAL model output. What it does not do of
itself is PROVOKED, by settings that it was not made for: a prompt before each chunk, a voice detector that takes all
for speech. What large models do because they learnt from films' subtitles, a demo model that was TAUGHT the same way
does (models/subtitled). Both are real output too. What no model of ours does is MADE: a right transcript is changed on
purpose, or what the platform says of it. A table of each is printed. Where the truth leaves a flag open, it is not
counted.
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
from pathlib import Path
from typing import Any

import jiwer
from rich.console import Console
from rich.table import Table

from bench.triage_day import GERMAN, UNSPOKEN, Clip, clips, unspoken
from hpc.demo.score import normal
from hpc.demo.speech import WORDS, sentence
from hpc.engine_options import EngineOptions
from hpc.hearing import hear
from hpc.model import SAMPLE_RATE, Audio, Failure, Recording, Segment, Transcript, compression_ratio
from hpc.models import resolve
from hpc.triage import FLAGS, TABLE, Captions, Evidence, from_transcript, judge
from hpc.triage.phrases import known
from hpc.words import size, tokens

SEED = 20_260_117
REAL, PROVOKED = "real model output", "real model output, provoked"
TAUGHT, MADE = "real output of a model that subtitles taught", "made by changing it"
SOURCES = (REAL, PROVOKED, TAUGHT, MADE)
WRONG = 0.5  # of its words, from which a transcript is labelled as wrong; a person would not use it
FASTEST = 26.0  # letters a second: nobody speaks faster, so more in a clip's whole time was not said
LONGEST = 50  # letters: nobody says such a word
DEAF = {"chunk_size": 8, "vad_onset": 0.001}  # the voice detector takes all for speech
SUBTITLED = Path(__file__).parents[1] / "models" / "subtitled" / "asr.en"
SUBTITLE = normal("Thanks for watching!")
# Settings that make a model write what nobody said, and what it hears under them.
PROVOKING: tuple[tuple[str, str, dict[str, Any], Sequence[str]], ...] = (
    (PROVOKED, "after a long prompt", {"chunk_size": 8, "initial_prompt": "Thank you. " * 20}, ("plain", "long")),
    (PROVOKED, "no voice detector", DEAF, UNSPOKEN),
    (PROVOKED, "no voice detector, after a short prompt", DEAF | {"initial_prompt": "Thanks for watching!"}, UNSPOKEN),
    (TAUGHT, "taught by subtitles", DEAF | {"model": str(SUBTITLED)}, ("plain", "long", "-12 dB noise", *UNSPOKEN)),
)


@dataclass(frozen=True, slots=True)
class Case:
    """One labelled transcript."""

    kind: str
    source: str  # one of SOURCES
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


# --- labels ----------------------------------------------------------------------------------------------------------


def real_cases(heard: Sequence[tuple[Clip, Transcript]], source: str = REAL, how: str = "") -> Iterator[Case]:
    """What the model wrote, as it is; the platform tells the truth about each clip."""
    for clip, said in heard:
        captions = [Captions("eng-US", "ASR", clip.text)] if clip.words else []
        language = clip.language if clip.text else "un"
        evidence = from_transcript(said, _seconds(clip), text_language=language, captions=captions)
        wrong, share, missed = _error_rate(clip, said) > WRONG, _share(clip, said), _missed_seconds(clip, said)
        invented, pace = not clip.text and bool(normal(said.text)), size(said.text) / _seconds(clip)
        deaf = source in (PROVOKED, TAUGHT) and not clip.text  # the detector's speech is none
        longest, subtitles = max(map(len, normal(said.text)), default=0), _subtitles(said)
        labels = {
            "repetition": _is_told(clip.repeats and not wrong, open_=wrong or _too_often(clip, said) >= 5),
            "unsure": _is_told(wrong),
            "too_much_text": _is_told(pace > FASTEST, open_=pace > 0.8 * FASTEST),
            "gap": _is_told(missed >= 6.0, open_=missed >= 4.0 or deaf or not (clip.words or not clip.text)),
            "too_little_text": _is_told(share < 0.15 and _seconds(clip) >= 8.0, open_=share < 0.4 or deaf),
            "long_word": _is_told(longest > LONGEST, open_=longest > 0.8 * LONGEST),
            "known_phrase": _is_told(subtitles == 1.0, open_=subtitles > 0.0),
            "language": _is_told(bool(said.text) and clip.language != "en"),
            "captions_differ": _is_told(bool(clip.words) and wrong),
            "no_speech_with_text": _is_told(
                invented, open_=share < 0.4 or missed >= 4.0 or bool(said.text and not normal(said.text))
            ),
        }
        flags = frozenset(name for name, so in labels.items() if so)
        unsettled = frozenset(name for name, so in labels.items() if so is None)
        yield Case(f"{clip.kind} {how}".strip(), source, evidence, flags, unsettled)


def provoked_cases(chosen: Sequence[Clip]) -> Iterator[Case]:
    """What the model writes under settings that provoke it."""
    for source, how, settings, kinds in PROVOKING:
        some = [clip for clip in chosen if clip.kind in kinds]
        yield from real_cases(listen(some, **settings), source, how)


def _is_told(so: bool, *, open_: bool = False) -> bool | None:
    return True if so else None if open_ else False


def _error_rate(clip: Clip, said: Transcript) -> float:
    if not clip.text:
        return float(bool(normal(said.text)))
    return float(jiwer.wer(" ".join(normal(clip.text)), " ".join(normal(said.text)))) if said.text else 1.0


def _share(clip: Clip, said: Transcript) -> float:
    """How many words were written of those that were said."""
    return len(normal(said.text)) / len(clip.words) if clip.words else 1.0


def _too_often(clip: Clip, said: Transcript) -> int:
    """How many times more than it was said the same word was written."""
    more = Counter(normal(said.text)) - Counter(normal(clip.text)) if clip.words else Counter[str]()
    return max(more.values(), default=0)


def _subtitles(said: Transcript) -> float:
    """Which part of the words is the subtitle that the subtitled model was taught."""
    words, size = normal(said.text), len(SUBTITLE)
    times = sum(words[at : at + size] == SUBTITLE for at in range(len(words)))
    return times * size / len(words) if words else 0.0


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
    return [_row(flag, source, judged) for flag in FLAGS for source in SOURCES]


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


def listen(chosen: Sequence[Clip], **settings: Any) -> list[tuple[Clip, Transcript]]:
    """Each clip with what the demo model makes of it, with no help against loops."""
    from hpc.engines.whisperx.batched import BatchedEngine

    model = {"model": "demo/asr.en"} | settings
    options = EngineOptions(aligner="demo/aligner", device="cpu", threads=1, vad_method="silero", **model)
    engine = BatchedEngine(resolve(options)[0])
    audios = [Audio(Recording(0, n, b"%d" % n, len(clip.sound), b""), clip.sound) for n, clip in enumerate(chosen)]
    answers = hear(engine, audios)
    if failed := [answer.reason for answer in answers if isinstance(answer, Failure)]:
        raise SystemExit(f"The engine failed: {failed[0]}")
    return [(clip, said) for clip, said in zip(chosen, answers, strict=True) if isinstance(said, Transcript)]


def show(rows: Sequence[Row], cases: Sequence[Case]) -> None:
    """Print the tables."""
    console = Console()
    for source in SOURCES:
        table = Table("flag", "should", "hit", "missed", "false", "of", "precision", "recall", title=source)
        for row in rows:
            if row.source == source:
                rates = ("-" if rate is None else f"{rate:.2f}" for rate in (row.precision, row.recall))
                table.add_row(row.flag, *map(str, (row.labelled, row.hit, row.missed, row.false, row.cases)), *rates)
        console.print(table)
    for source in SOURCES:
        kinds = dict.fromkeys(case.kind for case in cases if case.source == source)
        console.print(f"{source}: {sum(case.source == source for case in cases)} transcripts ({', '.join(kinds)})")
    some = any_flag(cases)
    console.print(
        f"any flag: {some['wrong_flagged']} of {some['wrong']} real transcripts with more than half of the words wrong,"
        f" {some['right_flagged']} of the other {some['right']} (the sayings ten times over among them)"
    )
    labelled = {row.flag for row in rows if row.source != MADE and row.labelled}
    unlabelled = [flag for flag in FLAGS if flag not in labelled]
    console.print(
        "language and captions_differ are labelled by nearly what they ask themselves (captions here are the truth),"
        " and so are long_word, known_phrase, and all that is made: these show that a flag works, not how good such"
        " evidence is"
    )
    if unlabelled:
        console.print(f"no real positive among these, so recall on real output is not known: {', '.join(unlabelled)}")
    console.print(vocabulary(cases))


def vocabulary(cases: Sequence[Case]) -> str:
    """Why the demo model gives no `long_word` and no `known_phrase`: the words that it wrote, what they can make."""
    written = {word for case in cases if case.source in (REAL, PROVOKED) for word in tokens(case.evidence.text)}
    able = [phrase.text for some in known().values() for phrase in some if set(phrase.words) <= set(WORDS)]
    return (
        f"the demo model wrote {len(written)} different words, {len(written - set(WORDS))} not of its own {len(WORDS)};"
        f" the longest has {max(map(len, written), default=0)} letters; known phrases made of its words: {len(able)}"
    )


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
    provoked = list(provoked_cases([*chosen, *unspoken(wanted.clips, wanted.seed)]))
    cases = [*real_cases([*heard, *longer]), *provoked, *made_cases(heard, wanted.seed)]
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
