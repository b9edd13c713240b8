"""Each flag where it belongs and nowhere else: texts of many languages, numbers at their thresholds, no evidence."""

from __future__ import annotations

import math
import unicodedata
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from db.states import QualityFlag
from hpc.demo.speech import WORDS
from hpc.model import Chunk, Segment, Transcript, Word
from hpc.triage import FLAGS, RULES, TABLE, Captions, Evidence, Flag, from_row, from_transcript, judge, languages, rules
from hpc.triage.evidence import Heard, Stretch
from hpc.triage.phrases import known
from hpc.words import longest_word, size, tokens

CALM = (
    "Good morning everyone, today I want to show you how I repaired the old bicycle that my neighbour gave me"
    " last summer, because a few of you have asked about the brakes and the chain."
)
DOCS = Path(__file__).parents[2] / "docs" / "how-to" / "quality.md"


def names(evidence: Evidence) -> list[str]:
    return [flag.name for flag in judge(evidence)]


def the(name: str, evidence: Evidence) -> Flag:
    """The only flag there is."""
    [flag] = judge(evidence)
    assert flag.name == name
    return flag


def said(text: str, **more: Any) -> Evidence:
    """A text in English of which nothing else is known."""
    return Evidence(text, "en", **more)


def heard(**more: Any) -> Heard:
    known = {"start": 0.0, "end": 20.0, "speech": 20.0, "no_speech_prob": 0.0, "compression_ratio": 1.2, "text": CALM}
    return Heard(**known | more)


# --- the table -------------------------------------------------------------------------------------------------------


def test_the_table_has_every_flag_of_the_ledger_in_its_order() -> None:
    assert FLAGS == tuple(TABLE) == tuple(flag.value for flag in QualityFlag)


def test_the_page_tells_of_every_flag_with_its_number() -> None:
    table = DOCS.read_text(encoding="utf-8").partition("## The flags")[2].partition("\n## ")[0]
    lines = [line for line in table.splitlines() if line.startswith("| `")]
    assert [line.split("`")[1] for line in lines] == list(FLAGS)
    told = {line.split("`")[1]: line for line in lines}
    numbers = {name: rule.threshold for name, rule in TABLE.items() if rule.threshold is not None}
    assert {name: n for name, n in numbers.items() if f"{n:g}".replace("-", "−") not in told[name]} == {}


def test_the_rules_have_a_number_that_fits_its_column_and_is_no_judges_mark() -> None:
    assert 0 < RULES < 2**15


def test_calm_speech_with_all_its_evidence_has_no_flag() -> None:
    segment = Stretch(CALM, 0.0, 12.0)
    calm = said(
        CALM, language_probability=0.99, seconds=12.0, segments=[segment], spans=[(0.0, 12.0)],
        chunks=[heard(end=12.0, speech=11.5)], avg_logprob=-0.2, coverage=0.96, text_language="en",
        subtitle_language="eng-US", captions=[Captions("eng-US", "ASR", CALM.lower())],
    )  # fmt: skip
    assert judge(calm) == ()


def test_what_has_no_evidence_gives_no_flag() -> None:
    assert judge(Evidence("")) == ()
    assert judge(Evidence(CALM)) == ()


# --- repetition ------------------------------------------------------------------------------------------------------


def test_a_chunk_that_compresses_too_well_is_a_repetition_with_its_ratio() -> None:
    looped = heard(compression_ratio=9.25, start=20.5, end=30.0)
    flag = the("repetition", said(CALM, chunks=[heard(), looped], spans=[(0.0, 30.0)]))
    assert flag == Flag("repetition", 9.25, "compression ratio 9.25 at 20.5–30.0 s")
    assert judge(said(CALM, chunks=[heard(compression_ratio=rules.LOOPS)], spans=[(0.0, 20.0)])) == ()


def test_without_chunks_a_segment_is_compressed_and_never_a_whole_text() -> None:
    looped = Stretch("and so on it goes " * 20, 3.0, 20.0)
    assert the("repetition", said("x", segments=[looped])).value == pytest.approx(10, rel=0.5)
    long = " ".join(f"{CALM} And number {number} is another one." for number in range(40))
    assert judge(said(long, segments=[Stretch(CALM, 0.0, 9.0)])) == ()


@pytest.mark.parametrize(
    ("text", "times"),
    [
        ("you know you know you know you know", 4),
        ("Well, thank you. Thank you! THANK YOU thank you and goodbye", 4),
        ("no no no no no no", 6),
        ("we go round and round and round and round and round", 4),
        ("ありがとうありがとうありがとうありがとう", 4),
        ("はははははははははははは", 12),
        ("谢谢大家谢谢大家谢谢大家谢谢大家", 4),
        ("สวัสดีสวัสดีสวัสดีสวัสดี", 4),
        ("да да да да да да да", 7),
    ],
)
def test_words_that_are_said_again_and_again_are_a_repetition(text: str, times: int) -> None:
    assert {flag.name: flag.value for flag in judge(Evidence(text, "xx"))} == {"repetition": times}


@pytest.mark.parametrize(
    "text",
    [
        "no no no no no", "you know you know you know", "ははははは", "1 2 3 4 5 6 7 8 9 10",
        "one two one two three one two",
        "five five zero five five five zero", "very very very very good", "哈哈哈哈哈哈", "a b a b a b",
    ],
)  # fmt: skip
def test_people_may_repeat_themselves(text: str) -> None:
    assert judge(Evidence(text)) == ()


# --- long words ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "flagged"),
    [
        ("a" * 46, True),
        ("a" * 45, False),
        ("Rindfleischetikettierungsüberwachungsgesetz", False),
        ("one-two-" * 12, False),
        ("https://example.org/a/very/long/address/which/has/many/parts", False),
        ("今日はとても良い天気ですね" * 6 + "明日はどうでしょうか", False),  # no spaces, and no word
        ("วันนี้อากาศดีมากและพรุ่งนี้ก็น่าจะดีเช่นกันเพราะไม่มีฝนตกเลยสักนิดเดียว", False),
        ("मैं" * 46, True),
        ("मैं" * 45, False),
        ("Щ" * 60, True),
        ("ab" * 23 + "漢字", True),
    ],
)
def test_a_word_is_too_long_by_its_letters_and_signs_without_spaces_are_no_word(text: str, flagged: bool) -> None:
    assert ("long_word" in names(Evidence(text))) is flagged


# --- known phrases ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("Thanks for watching!", "en"),
        ("Thank you for watching. Please like and subscribe.", "en"),
        ("Untertitel der Amara.org-Community", "de"),
        ("Untertitel im Auftrag des ZDF, 2018", "de"),
        ("Untertitel im Auftrag des ZDF, 2018", "nl"),  # heard as another language
        ("Sous-titrage Société Radio-Canada", "fr"),
        ("Sous-titrage ST’ 501", "fr"),
        ("Merci d’avoir regardé cette vidéo !", "fr"),
        ("Sottotitoli e revisione a cura di QTSS", "it"),
        ("Продолжение следует", "ru"),
        ("ご視聴ありがとうございました。", "ja"),
        ("請不吝點贊 訂閱 轉發 打賞支持明鏡與點點欄目", "zh"),
        ("시청해주셔서 감사합니다!", "ko"),
        ("İzlediğiniz için teşekkürler", "tr"),
        ("[Music] Thank you.", "en"),
        ("you", "en"),
    ],
)
def test_what_models_write_where_nobody_speaks_is_known(text: str, language: str) -> None:
    flag = the("known_phrase", Evidence(text, language))
    assert flag.value is not None and flag.value >= rules.PHRASE_SHARE


@pytest.mark.parametrize(
    ("text", "language"),
    [
        (f"{CALM} Thanks for watching!", "en"),
        ("Thanks for watching the children while I was away", "en"),
        ("Thank you for your letter", "en"),
        ("Danke", "en"),  # who says this in English does say it
        ("Thank you", "de"),
        ("Je vous remercie d'avoir regardé le compteur avec moi", "fr"),
        ("Die Untertitel des Films waren schlecht", "de"),
        ("mi amor", "es"),
    ],
)
def test_who_does_say_something_is_not_suspect(text: str, language: str) -> None:
    assert judge(Evidence(text, language)) == ()


def test_a_credit_is_found_in_a_segment_and_a_farewell_only_where_a_whole_chunk_says_no_more() -> None:
    def ending(words: str, *, chunked: bool) -> Evidence:
        segments = [Stretch(CALM, 0.0, 12.0), Stretch(words, 31.0, 33.0)]
        chunks = [heard(end=30.0, speech=30.0), heard(start=30.5, end=34.0, speech=3.0, text=words)] if chunked else []
        spans = [(0.0, 30.0), (31.0, 33.0)]
        return said(f"{CALM} {words}", segments=segments, chunks=chunks, spans=spans)

    credit, farewell = "Subtitles by the Amara.org community.", "Thanks for watching!"
    assert the("known_phrase", ending(credit, chunked=False)).detail == f"{credit[:-1]} (the whole segment)"
    assert judge(ending(farewell, chunked=False)) == ()
    assert the("known_phrase", ending(farewell, chunked=True)).detail == "Thanks for watching (the whole chunk)"


def test_every_phrase_of_the_file_has_words_and_is_found_by_itself() -> None:
    phrases = [phrase for some in known().values() for phrase in some]
    assert len(phrases) > 100
    for phrase in phrases:
        flagged = [flag.name for flag in judge(Evidence(phrase.text, phrase.language))]
        assert flagged == ["known_phrase"], phrase


# --- the model's own numbers -----------------------------------------------------------------------------------------


def test_the_demo_models_words_can_make_no_known_phrase_and_no_long_word() -> None:
    """So a model that was taught other words gives these two flags: bench/triage.py, models/subtitled."""
    able = [phrase.text for some in known().values() for phrase in some if set(phrase.words) <= set(WORDS)]
    assert able == []
    assert max(map(len, WORDS)) < rules.LONGEST_WORD


def test_a_model_that_was_not_sure_is_told_with_its_log_probability() -> None:
    assert the("unsure", said(CALM, avg_logprob=-1.25)).value == -1.25
    assert judge(said(CALM, avg_logprob=rules.UNSURE)) == ()


def test_text_of_a_chunk_in_which_no_speech_was_heard_is_told() -> None:
    flag = the("no_speech_with_text", said(CALM, chunks=[heard(no_speech_prob=0.875)], spans=[(0.0, 20.0)]))
    assert (flag.value, flag.detail) == (0.875, "no-speech probability 0.88 of a chunk with text at 0.0–20.0 s")
    for chunk in (heard(no_speech_prob=rules.NO_SPEECH), heard(no_speech_prob=0.875, text="")):
        assert judge(said(CALM, chunks=[chunk], spans=[(0.0, 20.0)])) == ()


# --- text against speech ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "speech", "flags"),
    [
        ("a" * 40 + " " + "b" * 40, 2.0, ["too_much_text"]),  # 40 letters a second
        ("a" * 40 + " " + "b" * 30, 2.0, []),  # 35
        ("a" * 40 + " " + "b" * 40, 1.9, []),  # too short to tell
        ("Hello there", 5.0, []),  # 2 letters a second
        ("Hello ther", 5.0, ["too_little_text"]),
        ("Hello", 4.9, []),
        ("", 60.0, ["too_little_text"]),
        ("今天天气很好我们去公园散步吧你觉得怎么样", 4.0, []),  # 20 signs in 4 s: quick, and possible
        ("今天天气很好我们去公园散步吧你觉得怎么样", 2.0, ["too_much_text"]),
        ("今天很好", 5.0, []),  # 4 signs say as much as 16 letters
    ],
)
def test_text_is_measured_against_the_seconds_of_speech(text: str, speech: float, flags: list[str]) -> None:
    assert names(Evidence(text, seconds=2 * speech, coverage=0.5)) == flags


def test_without_seconds_or_their_share_of_speech_nothing_is_said_of_the_length() -> None:
    assert judge(Evidence("", seconds=60.0)) == judge(Evidence("", coverage=1.0)) == ()


@pytest.mark.parametrize(
    ("spans", "speech", "seconds"),
    [
        ([(0.0, 10.0)], 20.0, 10.0),
        ([(0.0, 5.0), (12.0, 20.0)], 20.0, 7.0),
        ([(0.0, 5.0), (12.0, 20.0)], 18.0, 5.0),  # 2 s of it may be silence
        ([(0.0, 5.0), (12.0, 20.0)], 17.9, None),
        ([(0.0, 4.0), (8.0, 12.0), (16.0, 20.0)], 20.0, None),  # pauses
        ([(30.0, 40.0)], 20.0, 20.0),  # words elsewhere
        ([(-5.0, 40.0)], 20.0, None),
        ([(0.0, 10.0)], None, None),
    ],
)
def test_a_stretch_of_speech_without_words_is_a_gap(
    spans: list[tuple[float, float]], speech: float | None, seconds: float | None
) -> None:
    flags = judge(said(CALM, chunks=[heard(speech=speech)], spans=spans))
    assert [(flag.name, flag.value) for flag in flags] == ([] if seconds is None else [("gap", seconds)])


def test_words_without_times_leave_their_segments_place() -> None:
    segments = (Segment("one two", 0.0, 6.0, (Word("one", None, None, None),)), Segment("three", 14.0, 15.0))
    transcript = Transcript("en", segments, chunks=(Chunk(0.0, 20.0, 20.0),))
    assert from_transcript(transcript, 40.0).spans == [(0.0, 6.0), (14.0, 15.0)]


# --- what the platform says ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("language", "text_language", "subtitles", "flagged"),
    [
        ("en", "en", None, False), ("en", "eng-US", "eng-US", False), ("en", "de", None, True),
        ("en", None, "deu-DE", True),
        ("en", "de", "eng-US", False), ("en", "un", None, False), ("en", "", "", False), ("no", "nb", None, False),
        ("zh", "zh-Hans", None, False), ("zh", None, "cmn-Hans-CN", False), ("yue", "zh", None, False),
        ("de", "gsw", None, False), ("pt", "por-BR", None, False), ("pt", "spa-ES", None, True),
        (None, "de", None, False),
        ("en", "['de']", None, True), ("en", '["eng-US", "deu-DE"]', None, False), ("en", "Deutsch", None, False),
        ("hr", "srp", None, False), ("he", "iw", None, False), ("en", "x" * 100_000, None, False),
    ],
)  # fmt: skip
def test_a_language_that_the_platform_does_not_speak_of_is_told(
    language: str | None, text_language: str | None, subtitles: str | None, flagged: bool
) -> None:
    evidence = Evidence(
        CALM, language, language_probability=0.75, text_language=text_language, subtitle_language=subtitles
    )
    assert names(evidence) == (["language"] if flagged else [])
    if flagged:
        assert the("language", evidence).value == 0.75


def test_automatic_captions_tell_a_language_and_translated_ones_do_not() -> None:
    german = Captions("deu-DE", "ASR", "ja")
    assert the("language", said(CALM, captions=[german])).detail == "heard en; automatic captions de"
    assert judge(said(CALM, captions=[replace(german, kind="MT")])) == ()


def test_captions_that_say_something_else_are_told_with_the_word_error_rate() -> None:
    words = "one two three four five six seven eight"
    for theirs, rate in ((words, None), ("one two three four a b c d", None), ("one two three a b c d e", 0.625)):
        flags = judge(said(words, captions=[Captions("eng-US", "ASR", theirs)]))
        assert [(flag.name, flag.value) for flag in flags] == ([] if rate is None else [("captions_differ", rate)])


def test_captions_are_compared_without_case_punctuation_and_what_is_no_word() -> None:
    theirs = "[Music] GOOD morning, Everyone! It’s (laughs) ♪ a lovely day"
    assert judge(said("Good morning everyone, it's a lovely day.", captions=[Captions("en", "", theirs)])) == ()


def test_signs_without_spaces_are_compared_one_by_one() -> None:
    ours = Evidence(
        "今天天气很好我们去公园", "zh", captions=[Captions("zh-Hans", "ASR", "今天 天气 真好，我们 去 公园。")]
    )
    assert judge(ours) == ()


@pytest.mark.parametrize(
    "captions",
    [
        Captions("deu-DE", "MT", "eins zwei drei vier fünf sechs"),
        Captions("und", "ASR", "eins zwei drei vier fünf sechs"),
        Captions("eng-US", "ASR", "too few words"),
        Captions("eng-US", "ASR", ""),
    ],
)
def test_captions_of_another_language_or_too_few_words_are_no_evidence(captions: Captions) -> None:
    assert judge(said(CALM, captions=[captions])) == ()


def test_of_several_captions_the_nearest_counts() -> None:
    other = Captions("eng-US", "MT", "something else that was never said at all")
    assert judge(said(CALM, captions=[other, Captions("eng-GB", "ASR", CALM)])) == ()
    assert names(said(CALM, captions=[other])) == ["captions_differ"]


def test_silence_where_a_machine_wrote_words_down_is_told_and_where_a_person_did_is_not() -> None:
    words = "one two three four five"
    assert the("captions_differ", Evidence("", captions=[Captions("eng-US", "ASR", words)])).value == 1.0
    assert judge(Evidence("", captions=[Captions("eng-US", "", words)])) == ()


# --- whatever comes --------------------------------------------------------------------------------------------------

numbers = st.none() | st.floats() | st.integers(-(10**6), 10**6)
texts = st.text(max_size=200) | st.text("ab漢は ไ\u0e31\u0301'’#[(.1²٣", max_size=60)
times = st.fixed_dictionaries({}, optional={"start": numbers, "end": numbers, "score": numbers})
segments = st.builds(
    lambda text, place, words: {"text": text, "words": words} | place,
    texts,
    times,
    st.lists(st.builds(lambda word, place: {"word": word} | place, texts, times), max_size=4),
)
chunks = st.fixed_dictionaries(
    {},
    optional=dict.fromkeys(("start", "end", "speech", "no_speech_prob", "compression_ratio"), numbers)
    | {"flags": st.lists(texts)},
)
captions = st.fixed_dictionaries({"language": texts, "kind": st.sampled_from(["", "ASR", "MT"]), "text": texts})
rows = st.fixed_dictionaries(
    {
        "text": texts, "language": st.none() | st.sampled_from(["en", "de", "zh", "xx"]),
        "language_probability": numbers, "seconds": numbers, "segments": st.none() | st.lists(segments, max_size=4),
        "chunks": st.none() | st.lists(chunks, max_size=4), "avg_logprob": numbers, "coverage": numbers,
        "text_language": st.none() | texts, "subtitle_language": st.none() | texts,
    }
)  # fmt: skip
NOTHING = dict.fromkeys(
    ("language", "language_probability", "seconds", "segments", "chunks", "avg_logprob", "coverage", "text_language",
     "subtitle_language")
)  # fmt: skip


@given(rows, st.lists(captions, max_size=3))
@example(NOTHING | {"text": "\ud800\0"}, [])
@example(NOTHING | {"text": "\ufdfa" * 100, "seconds": 1e308, "coverage": 1e308}, [])
@example(NOTHING | {"text": "a b c d e"}, [{"language": "", "kind": "ASR", "text": "' ’ ' ’ ' ٣ ² # # # # # #"}])
def test_no_row_raises_and_every_number_is_one(row: dict[str, Any], told: list[dict[str, Any]]) -> None:
    flags = judge(from_row(row, told))

    assert [flag.name for flag in flags] == [name for name in FLAGS if name in {flag.name for flag in flags}]
    assert all(flag.value is None or (math.isfinite(flag.value) and abs(flag.value) < 3e38) for flag in flags)
    assert all(0 < len(flag.detail) <= 200 for flag in flags)


@given(st.text())
def test_a_text_is_split_the_same_whatever_its_case_and_every_part_has_a_letter_or_digit(text: str) -> None:
    split = tokens(text)
    assert tokens(" ".join(split)) == split
    assert all(any(sign.isalnum() for sign in token) and " " not in token for token in split)
    assert size(text) >= 0
    assert longest_word(text) in unicodedata.normalize("NFC", text)


@given(st.text())
def test_a_language_code_is_short_or_none(text: str) -> None:
    found = languages.code(text)
    assert found is None or (2 <= len(found) <= 3 and found.isascii() and found.islower())


def test_a_row_of_the_ledger_and_an_engines_answer_are_the_same_evidence() -> None:
    words = tuple(Word(word, n * 1.0, n + 0.5, 0.9) for n, word in enumerate(("one", "two", "three")))
    chunk = Chunk(0.0, 8.0, 6.0, -0.5, 0.25, 1.5)
    engine = from_transcript(Transcript("en", (Segment("one two three", 0.0, 3.0, words),), 0.75, (), (chunk,)), 10.0)
    ledger = from_row(
        NOTHING
        | {"text": "one two three", "language": "en", "language_probability": 0.75, "seconds": 10.0, "coverage": 0.6}
        | {"avg_logprob": -0.5, "chunks": [{"start": 0.0, "end": 8.0, "speech": 6.0, "no_speech_prob": 0.25,
                                            "compression_ratio": 1.5}]}
        | {"segments": [{"text": "one two three", "start": 0.0, "end": 3.0,
                         "words": [{"word": w.text, "start": w.start, "end": w.end} for w in words]}]}
    )  # fmt: skip
    assert engine == ledger
