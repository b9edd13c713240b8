"""The random model's tokens: an invented vocabulary with large-v3's size and ids, from bytes to timestamps."""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import reduce

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from whisperx.utils import LANGUAGES  # the hundred of large-v3, in its order

TEXT = 50_257  # bytes, what is merged from them, and "", by which CTranslate2 knows a multilingual model
LANGUAGE_TOKENS = tuple(f"<|{code}|>" for code in LANGUAGES)
_CONTROL = ("<|translate|>", "<|transcribe|>", "<|startoflm|>", "<|startofprev|>", "<|nospeech|>", "<|notimestamps|>")
SPECIAL = ("<|endoftext|>", "<|startoftranscript|>", *LANGUAGE_TOKENS, *_CONTROL)
TIMES = tuple(f"<|{step * 0.02:.2f}|>" for step in range(1501))
SIZE = TEXT + len(SPECIAL) + len(TIMES)

END, START = TEXT, TEXT + 1
LANGUAGE_IDS = range(START + 1, START + 1 + len(LANGUAGE_TOKENS))
TRANSLATE, TRANSCRIBE, START_OF_LM, PREVIOUS, NO_SPEECH, NO_TIMES = range(LANGUAGE_IDS.stop, LANGUAGE_IDS.stop + 6)

_ONSETS = (*"bdfghklmnprstvwz", "ch", "sh", "th", "st")
_VOWELS, _CLOSINGS = (*"aeiou", "ai", "ea", "oo"), (*"nrslt",)
_MARKS = (
    "...", "--", "!!", "??", "'s", "'t", "'m", "'re", "'ll", " -", " '", ' "', " (", " [", " {", " <", " #", " *", " $",
    "$£", " £", "%,", " @", " &", " +", " =", "::", " /", "))", "((", "]]", "[[", "\n\n",
)  # fmt: skip
_CHINESE, _KANA, _KOREAN, _EMOJI = (
    range(0x4E00, 0x5E00), range(0x3041, 0x30F7), range(0xAC00, 0xB400), range(0x1F300, 0x1F650),
)  # fmt: skip
_CYRILLIC_VOWELS, _CYRILLIC_CONSONANTS = "аеёиоуыэюя", "бвгджзйклмнпрстфхцчшщ"
_ARABIC = "ابتثجحخدذرزسشصضطظعغفقكلمنهوي"


def _byte_letters() -> dict[int, str]:
    """The letter that stands for each byte; bytes in the order of their ids. Both are as in GPT-2's vocabulary."""
    printable = (*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100))
    rest = (byte for byte in range(256) if byte not in printable)
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + place) for place, byte in enumerate(rest)}


_LETTERS = _byte_letters()
SPACE = list(_LETTERS).index(0x20)


class _Merged:
    """A vocabulary that grows by joining two tokens that it has; it is full before it has as many as large-v3's."""

    def __init__(self) -> None:
        self.ids = {letter: place for place, letter in enumerate(_LETTERS.values())}
        self.merges: list[tuple[str, str]] = []

    def join(self, left: str, right: str) -> str:
        token = left + right
        if token not in self.ids:
            self.ids[token] = len(self.ids)
            self.merges.append((left, right))
        return token

    def spell(self, text: str) -> str:
        """A text as one token, joined byte by byte; what it begins with becomes a token too."""
        return reduce(self.join, (_LETTERS[byte] for byte in text.encode()))

    def pairs(self, lefts: Sequence[str], rights: Sequence[str], count: int) -> list[str]:
        """So many joined pairs, or all, drawn from all over both lists."""
        every = range(len(lefts) * len(rights))
        drawn = random.Random(len(self.ids)).sample(every, min(count, len(every)))
        return [self.join(lefts[place // len(rights)], rights[place % len(rights)]) for place in drawn]


def _other_scripts(merged: _Merged) -> None:
    """Characters of two, three and four bytes, and (as in large-v3) the halves of some."""
    space = _LETTERS[0x20]
    for character in (*_CHINESE, *_KANA, *_KOREAN, *_EMOJI):
        merged.spell(chr(character))
    kana = [merged.spell(chr(character)) for character in _KANA]
    merged.pairs(kana, kana, 1_200)
    vowels, consonants = ([merged.spell(one) for one in some] for some in (_CYRILLIC_VOWELS, _CYRILLIC_CONSONANTS))
    for capital in (_CYRILLIC_VOWELS + _CYRILLIC_CONSONANTS).upper():
        merged.spell(capital)
    syllables = merged.pairs(consonants, vowels, 999)
    merged.pairs(merged.pairs([space], syllables, 999), syllables, 1_500)
    arabic = [merged.spell(letter) for letter in _ARABIC]
    merged.pairs(merged.pairs([space], arabic, 99), merged.pairs(arabic, arabic, 400), 1_200)


def _latin(merged: _Merged) -> None:
    """Numbers, marks and words of syllables, with and without a space before them; words fill what room is left."""
    space = _LETTERS[0x20]
    digits = list("0123456789")
    numbers = merged.pairs(digits, digits, 100)
    merged.pairs(numbers, digits, 400)
    merged.pairs(merged.pairs([space], digits, 10), numbers, 300)
    for mark in _MARKS:
        merged.spell(mark)
    onsets, vowels = [merged.spell(onset) for onset in _ONSETS], [merged.spell(vowel) for vowel in _VOWELS]
    syllables = merged.pairs(onsets, vowels, 999)
    syllables += merged.pairs(syllables, _CLOSINGS, 999)
    capitals = merged.pairs(merged.pairs([space], [onset.upper() for onset in _ONSETS[:16]], 99), vowels, 999)
    spaced = merged.pairs([space], syllables, 1_999)
    merged.pairs(syllables, syllables, 5_000)
    names = merged.pairs(capitals, syllables, 1_500)
    words = merged.pairs(spaced, syllables, 15_000)
    for mark, count in ((".", 1_500), (",", 1_000), ("?", 200)):
        merged.pairs(words[:5_000] + names, [mark], count)
    while room := TEXT - 1 - len(merged.ids):  # twice at most: some pairs are one word ("ba" + "sta", "bas" + "ta")
        merged.pairs(words, syllables, room)


def build() -> Tokenizer:
    """Make the tokenizer. It takes no seed: the tokens are always the same."""
    merged = _Merged()
    _other_scripts(merged)
    _latin(merged)
    tokenizer = Tokenizer(models.BPE(vocab=merged.ids | {"": TEXT - 1}, merges=merged.merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    tokenizer.add_tokens([AddedToken(token, special=False, normalized=False) for token in TIMES])
    return tokenizer
