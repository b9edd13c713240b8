"""The flags in one table: what each says, the number from which it is raised, and where that number comes from.

Whoever changes a number, a phrase or how something is counted raises RULES: what was judged by older rules is then
judged anew.
"""

from __future__ import annotations

from dataclasses import dataclass

RULES = 1  # fits a smallint; kept with each shard

# Whisper's own numbers: openai/whisper, whisper/transcribe.py, the defaults of transcribe().
LOOPS = 2.4  # compression_ratio_threshold
UNSURE = -1.0  # logprob_threshold
NO_SPEECH = 0.6  # no_speech_threshold

# Ours: chosen beforehand, not fitted to anything. bench/triage.py measures what they find and miss.
REPEATS = 4  # times in a row, of two words and more
REPEATS_OF_ONE = 6  # of one word: people do say "no no no no"
REPEATS_OF_SIGN = 12  # of one sign in a script without spaces: laughter is written so
REPEATED_SIGNS = 16  # a loop is at least so many letters long in all
LONGEST_GRAM = 12  # words that may make up what is repeated
LONGEST_WORD = 45  # letters; "pneumonoultramicroscopicsilicovolcanoconiosis", the longest in an English dictionary
PHRASE_SHARE = 0.8  # of the words of a text, chunk or segment that a known phrase makes up
MOST_LETTERS = 35.0  # a second of speech
LEAST_LETTERS = 2.0
# Of seven languages the fastest have 7.8 syllables a second ("A cross-language perspective on speech information rate",
# Language 87(3), 2011); at some 3.3 letters each that is 26, and 35 leaves room. Other scripts are counted in letters.
SHORT_SPEECH = 2.0  # seconds; of less, the edges that the voice detector sees are too large a part
SOME_SPEECH = 5.0  # seconds with hardly any text
GAP_SECONDS = 5.0  # of speech without a word; who speaks does not pause for so long
CAPTIONS_WER = 0.5  # half of the words are others; captions are evidence, not truth
CAPTIONS_WORDS = 5  # of which a rate can be told


@dataclass(frozen=True, slots=True)
class Rule:
    """One flag."""

    says: str  # of a flagged recording, in a line
    value: str  # what its number is
    threshold: float | None  # the number from which it is raised; None: the number does not decide
    needs: str  # without which nothing is said
    source: str


_WHISPER = "Whisper's own threshold"
_OURS = "a choice of ours; bench/triage.py measures it"
_RATES = "a choice of ours, far from the speech rates of seven languages (Language 87(3), 2011)"
TABLE: dict[str, Rule] = {
    "repetition": Rule(
        "the text goes round in circles", "compression ratio of a chunk; else how many times in a row", LOOPS,
        "text", f"{_WHISPER}; {REPEATS} times in a row (one word {REPEATS_OF_ONE}): {_OURS}",
    ),
    "long_word": Rule(
        "a word is longer than words are", "letters", LONGEST_WORD, "text of a script with spaces",
        "the longest word of an English dictionary",
    ),
    "known_phrase": Rule(
        "what models say where nobody speaks", "its share of the words", PHRASE_SHARE, "text",
        "hpc/triage/phrases.toml",
    ),
    "unsure": Rule("the model was not sure", "least average log-probability", UNSURE, "avg_logprob", _WHISPER),
    "too_much_text": Rule(
        "more text than anybody says in that time", "letters a second of speech", MOST_LETTERS,
        f"coverage, {SHORT_SPEECH:g} s of speech", _RATES,
    ),
    "too_little_text": Rule(
        "speech, and hardly any text", "letters a second of speech", LEAST_LETTERS,
        f"coverage, {SOME_SPEECH:g} s of speech", _RATES,
    ),
    "gap": Rule(
        "a stretch of speech has no words", "seconds of speech", GAP_SECONDS, "chunks with their speech, times",
        _OURS,
    ),
    "language": Rule(
        "another language than the platform says", "probability of the language heard", None,
        "language of text, subtitles or automatic captions", "",
    ),
    "no_speech_with_text": Rule(
        "text where the model heard no speech", "no-speech probability", NO_SPEECH, "no_speech_prob, text", _WHISPER
    ),
    "captions_differ": Rule(
        "the platform's captions say something else", "word error rate against the captions", CAPTIONS_WER,
        f"captions of the same language, {CAPTIONS_WORDS} words", _OURS,
    ),
}  # fmt: skip
FLAGS = tuple(TABLE)
