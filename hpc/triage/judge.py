"""One transcript judged: pure functions from evidence to flags. What has no evidence gives no flag."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence

from hpc.model import compression_ratio
from hpc.triage import languages, phrases, rules
from hpc.triage.evidence import Captions, Evidence, Flag, Heard
from hpc.words import is_sign, length, longest_word, loop, size, tokens

LONGEST_DETAIL = 200  # characters


def judge(evidence: Evidence) -> tuple[Flag, ...]:
    """Every flag of a transcript, each at most once, in the table's order."""
    found = ((name, _RULES[name](evidence)) for name in rules.FLAGS)
    return tuple(Flag(name, *_kept(*said)) for name, said in found if said is not None)


Said = tuple[float | None, str] | None  # the number and the words of a flag


def _kept(value: float | None, detail: str) -> tuple[float | None, str]:
    short = detail if len(detail) <= LONGEST_DETAIL else detail[: LONGEST_DETAIL - 1] + "…"
    return (None if value is None else round(value, 4)), short


def _repetition(evidence: Evidence) -> Said:
    ratio, where = max(_ratios(evidence), default=(0.0, ""))
    if ratio > rules.LOOPS:
        return ratio, f"compression ratio {ratio:.2f}{where}"
    said = tokens(evidence.text)
    loops = [(times, words) for words, times in loop(said, rules.LONGEST_GRAM) if _is_loop(words, times)]
    if not loops:
        return None
    times, words = max(loops)
    return float(times), f"{times} times in a row: {_joined(words)}"


def _ratios(evidence: Evidence) -> Iterator[tuple[float, str]]:
    """Of the chunks; where these are not known, of the segments. Never of a whole text: long ones are always above."""
    known = [chunk for chunk in evidence.chunks if chunk.compression_ratio is not None]
    for chunk in known:
        yield chunk.compression_ratio or 0.0, _at(chunk)
    if not known:
        for one in evidence.segments:
            yield compression_ratio(one.text) or 0.0, "" if one.start is None else f" at {one.start:.1f} s"


def _is_loop(words: Sequence[str], times: int) -> bool:
    signs = all(map(is_sign, words))
    if len(words) == 1:
        return times >= (rules.REPEATS_OF_SIGN if signs else rules.REPEATS_OF_ONE)
    return times >= rules.REPEATS and (not signs or times * len(words) >= rules.REPEATED_SIGNS)


def _long_word(evidence: Evidence) -> Said:
    word = longest_word(evidence.text)
    letters = length(word)
    return (float(letters), f"{letters} letters: {word}") if letters > rules.LONGEST_WORD else None


def _known_phrase(evidence: Evidence) -> Said:
    language = languages.code(evidence.language)
    wholes = [(phrases.Whole.TEXT, evidence.text)]
    wholes += [(phrases.Whole.CHUNK, chunk.text) for chunk in evidence.chunks]
    wholes += [(phrases.Whole.SEGMENT, one.text) for one in evidence.segments]
    for whole, text in wholes:
        part, phrase = phrases.share(tokens(text), language, whole)
        if part >= rules.PHRASE_SHARE:
            return part, f"{phrase} (the whole {whole.name.lower()})"
    return None


def _unsure(evidence: Evidence) -> Said:
    least = evidence.avg_logprob
    if least is None or least >= rules.UNSURE:
        return None
    return least, f"average log-probability {least:.2f} in its worst chunk"


def _rate(evidence: Evidence) -> tuple[float, float] | None:
    """Letters, and seconds of speech."""
    return None if evidence.speech is None else (size(evidence.text), evidence.speech)


def _too_much_text(evidence: Evidence) -> Said:
    rate = _rate(evidence)
    if rate is None or rate[1] < rules.SHORT_SPEECH or rate[0] / rate[1] <= rules.MOST_LETTERS:
        return None
    return rate[0] / rate[1], f"{rate[0]:.0f} letters in {rate[1]:.1f} s of speech"


def _too_little_text(evidence: Evidence) -> Said:
    rate = _rate(evidence)
    if rate is None or rate[1] < rules.SOME_SPEECH or rate[0] / rate[1] >= rules.LEAST_LETTERS:
        return None
    return rate[0] / rate[1], f"{rate[0]:.0f} letters in {rate[1]:.1f} s of speech"


def _gap(evidence: Evidence) -> Said:
    if not evidence.text:
        return None  # then all of it is too little text
    found = [(_wordless(chunk, evidence.spans), chunk) for chunk in evidence.chunks]
    seconds, chunk = max(found, key=lambda one: one[0], default=(0.0, None))
    if chunk is None or seconds < rules.GAP_SECONDS:
        return None
    return seconds, f"{seconds:.1f} s of speech without a word{_at(chunk)}"


def _wordless(chunk: Heard, spans: Sequence[tuple[float, float]]) -> float:
    """Seconds of speech that are for certain in the chunk's longest stretch without words: silence may lie in it, at
    most as much as the chunk has in all."""
    if chunk.start is None or chunk.end is None or chunk.speech is None or chunk.end <= chunk.start:
        return 0.0
    longest, at = 0.0, chunk.start
    for start, end in spans[bisect_right(spans, chunk.start, key=lambda span: span[1]) :]:
        if start >= chunk.end:
            break
        longest, at = max(longest, start - at), end
    silence = max(chunk.end - chunk.start - chunk.speech, 0.0)
    return max(max(longest, chunk.end - at) - silence, 0.0)


def _language(evidence: Evidence) -> Said:
    heard = languages.code(evidence.language)
    told = {
        "the post's text": languages.code(evidence.text_language),
        "its subtitles": languages.code(evidence.subtitle_language),
        "automatic captions": _spoken(evidence.captions),
    }
    known = {where: code for where, code in told.items() if code is not None}
    if heard is None or not known or heard in known.values():
        return None
    says = ", ".join(f"{where} {code}" for where, code in known.items())
    return evidence.language_probability, f"heard {heard}; {says}"


def _spoken(captions: Sequence[Captions]) -> str | None:
    """The language of what a machine wrote down from the sound; other captions may be translations."""
    codes = {languages.code(one.language) for one in captions if one.kind.casefold() == "asr"} - {None}
    return codes.pop() if len(codes) == 1 else None


def _no_speech_with_text(evidence: Evidence) -> Said:
    unheard = (chunk for chunk in evidence.chunks if (chunk.no_speech_prob or 0.0) > rules.NO_SPEECH)
    with_text = [(chunk.no_speech_prob or 0.0, _at(chunk)) for chunk in unheard if chunk.text]
    if not with_text:
        return None
    most, where = max(with_text)
    return most, f"no-speech probability {most:.2f} of a chunk with text{where}"


def _captions_differ(evidence: Evidence) -> Said:
    said = tokens(evidence.text)
    compared = [(_differing(theirs, said), one) for one, theirs in _comparable(evidence)]
    if not compared:
        return None
    rate, captions = min(compared, key=lambda one: one[0])
    if rate <= rules.CAPTIONS_WER:
        return None
    return rate, f"word error rate {rate:.2f} against captions in {captions.language} {captions.kind}".rstrip()


def _comparable(evidence: Evidence) -> Iterator[tuple[Captions, list[str]]]:
    """Captions of the transcript's language. Where no words were heard no language was, but a machine's captions of the
    sound say that there were some."""
    heard = languages.code(evidence.language)
    for one in evidence.captions:
        same = languages.code(one.language) == heard if heard else one.kind.casefold() == "asr" and not evidence.text
        if same and len(words := tokens(one.text)) >= rules.CAPTIONS_WORDS:
            yield one, words


def _differing(theirs: Sequence[str], ours: Sequence[str]) -> float:
    import jiwer

    return float(jiwer.wer(" ".join(theirs), " ".join(ours))) if ours else 1.0


def _at(chunk: Heard) -> str:
    return "" if chunk.start is None or chunk.end is None else f" at {chunk.start:.1f}–{chunk.end:.1f} s"


def _joined(words: Sequence[str]) -> str:
    return ("" if all(map(is_sign, words)) else " ").join(words)


_RULES: dict[str, Callable[[Evidence], Said]] = {
    "repetition": _repetition,
    "long_word": _long_word,
    "known_phrase": _known_phrase,
    "unsure": _unsure,
    "too_much_text": _too_much_text,
    "too_little_text": _too_little_text,
    "gap": _gap,
    "language": _language,
    "no_speech_with_text": _no_speech_with_text,
    "captions_differ": _captions_differ,
}
