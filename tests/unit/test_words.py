"""What a word is: the same in every comparison, flag and error rate."""

from __future__ import annotations

import pytest

from hpc.words import is_sign, tokens


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Don't, DON\u2019T!", ["dont", "dont"]),
        ("[Music] (laughs) yes \u266a", ["yes"]),
        ("na\u00efve nai\u0308ve", ["na\u00efve", "na\u00efve"]),
        ("\u4f60\u597d hello", ["\u4f60", "\u597d", "hello"]),
        ("\u0e19\u0e49\u0e33", ["\u0e19\u0e49\u0e4d", "\u0e32"]),  # a tone and a vowel stand on their sign
        ("\u1000\u103b\u1031", ["\u1000\u103b\u1031"]),
        ("\u0301 ... \u2014", []),
    ],
)
def test_a_text_is_its_words_in_one_spelling(text: str, words: list[str]) -> None:
    assert tokens(text) == words


def test_texts_that_differ_in_a_vowel_sign_differ() -> None:
    assert tokens("\u0e01\u0e34") != tokens("\u0e01\u0e35")
    assert is_sign(tokens("\u0e01\u0e34")[0])
