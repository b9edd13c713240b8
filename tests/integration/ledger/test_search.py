"""Search: both ways to the hits find the same ones in the same order, page after page, and say where and when."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from datetime import date
from typing import Any

import pytest

from db import formats, search, shards, substrings, transcripts
from db.migrate import MIGRATIONS
from db.search import NoSuchHit, Question
from db.substrings import BadQuery
from db.transcripts import Scope

COMMON, RARE = "tram", "seldom"


@pytest.fixture
def months(books: Any, speech: Callable[..., Any], failure: Callable[..., Any]) -> list[int]:
    """Days of two sites, the common word in nearly all that is said; gives all recordings' ids."""
    chance = random.Random(7)
    for on in (date(2025, 1, 3), date(2025, 1, 1), date(2025, 1, 2)):
        for site in ("zurich", "arosa"):
            books.day("a", on=on, site=site)
            said = [_something(chance, ordinal, speech, failure) for ordinal in range(80)]
            assert books.record(books.one(), said, seal=80).settled
    books.connection.execute(
        "INSERT INTO flags (transcript_id, flag, day_id, value)"
        " SELECT current_id, 'repetition', day_id, 3 FROM recordings WHERE current_id IS NOT NULL AND id % 5 = 0"
    )
    return list(books.rows("SELECT id FROM recordings ORDER BY id"))


def _something(chance: random.Random, ordinal: int, speech: Callable[..., Any], failure: Callable[..., Any]) -> Any:
    if chance.random() < 0.1:
        return failure(ordinal)
    words = [word for word, share in ((COMMON, 0.9), (RARE, 0.05), ("filler", 1)) if chance.random() < share]
    return speech(ordinal, " ".join(words), language=chance.choice(["en", "de"]))


@pytest.fixture(params=["by the index", "by walking", "by small steps"])
def way(request: pytest.FixtureRequest, books: Any, months: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Nobody has counted the tables yet: the index is asked. Or they are counted: what is common is walked to."""
    if request.param != "by the index":
        books.connection.execute("ANALYZE")
        monkeypatch.setattr(search, "COUNTED", 0)
    if request.param == "by small steps":
        monkeypatch.setattr(search, "STEP_MOST", 7)  # of a day's 80 recordings
    yield request.param


def pages(books: Any, question: Question) -> Iterator[search.Found]:
    """All pages of an answer."""
    found = search.search(books.connection, question)
    yield found
    while found.next is not None:
        found = search.search(books.connection, Question(**_parts(question) | {"after": found.next}))
        yield found


def _parts(question: Question) -> dict[str, Any]:
    return {name: getattr(question, name) for name in question.__slots__}


def all_of(books: Any, where: str) -> list[int]:
    """The recordings of which something is true, in the order of hits; asked without any index or walk of ours."""
    return list(
        books.rows(
            "SELECT r.id FROM recordings r JOIN transcripts t ON t.id = r.current_id JOIN days d ON d.id = r.day_id"
            f" JOIN sites i ON i.id = d.site_id WHERE {where} ORDER BY d.date DESC, d.id, r.id"
        )
    )


QUESTIONS = [
    ({}, "true"),
    ({"only": "de"}, "t.language = 'de'"),
    ({"flag": "repetition"}, "mod(r.id, 5) = 0"),
    ({"scope": Scope("arosa")}, "i.name = 'arosa'"),
    ({"scope": Scope(None, date(2025, 1, 2), None)}, "d.date >= '2025-01-02'"),
    ({"scope": Scope(None, None, date(2025, 1, 2))}, "d.date <= '2025-01-02'"),
    ({"limit": 7}, "true"),
    ({"limit": 500}, "true"),
]


@pytest.mark.parametrize(("asked", "where"), QUESTIONS, ids=str)
@pytest.mark.parametrize("word", [COMMON, RARE])
def test_both_ways_find_all_that_match_once_and_in_order_page_after_page(
    books: Any, way: str, word: str, asked: dict[str, Any], where: str
) -> None:
    wanted = all_of(books, f"position('{word}' in t.text) > 0 AND {where}")
    assert wanted
    answers = list(pages(books, Question(word, **asked)))
    assert [hit["recording_id"] for found in answers for hit in found.hits] == wanted
    full = asked.get("limit", 20)
    assert all(len(found.hits) == full for found in answers[:-1])
    counted = {len(wanted)} if way == "by the index" else {None, len(wanted)}
    assert {found.total for found in answers} <= counted, "what nobody counted is not told"


def test_what_is_common_is_walked_to_and_what_is_rare_is_looked_up(
    books: Any, months: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    books.connection.execute("ANALYZE")
    assert search.search(books.connection, Question(COMMON)).total == len(all_of(books, "t.text ~ 'tram'")), (
        "few enough"
    )
    monkeypatch.setattr(search, "COUNTED", 100)
    assert search.search(books.connection, Question(COMMON)).total is None
    assert search.search(books.connection, Question(RARE)).total == len(all_of(books, "t.text ~ 'seldom'"))


def test_a_walk_that_does_not_find_what_was_expected_asks_the_index(
    books: Any, speech: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for on, said in ((date(2025, 1, 1), COMMON), (date(2025, 1, 2), "other words")):
        books.day("a", on=on)
        assert books.record(books.one(), [speech(n, said) for n in range(250)], seal=250).settled
    books.connection.execute("ANALYZE")
    monkeypatch.setattr(search, "COUNTED", 0)
    whole = Question(COMMON)
    assert search.search(books.connection, whole).total is None
    monkeypatch.setattr(search, "AT_LEAST", 0)
    monkeypatch.setattr(search, "LOOKED_UP", 0.2)
    monkeypatch.setattr(search, "PATIENCE", 1)
    given_up = search.search(books.connection, whole)
    assert given_up.total == 250
    assert [hit["date"] for hit in given_up.hits] == [date(2025, 1, 1)] * 20


def test_only_the_version_that_readers_see_is_found(books: Any, way: str) -> None:
    books.connection.execute(
        "INSERT INTO transcripts (recording_id, run_id, run_key, version, outcome, language, text, words, word_count,"
        f" part_id) SELECT recording_id, run_id, decode(repeat('aa', 16), 'hex'), 2, outcome, 'en', '{COMMON} unseen',"
        " words, 2, part_id FROM transcripts"
    )
    assert search.search(books.connection, Question("unseen")).hits == []
    hits = search.search(books.connection, Question(COMMON, limit=500)).hits
    assert {hit["version"] for hit in hits} == {1}
    assert [hit["recording_id"] for hit in hits] == all_of(books, f"t.text ~ '{COMMON}'")


@pytest.mark.parametrize("query", [f"-{RARE}", "-zzzz", f"zzzz or -{COMMON}"])
def test_what_holds_no_speech_is_not_found_by_what_it_does_not_say(
    books: Any, speech: Callable[..., Any], way: str, query: str
) -> None:
    books.day("a", on=date(2025, 1, 4))
    silent = [speech(n, "") for n in range(40)]
    assert books.record(books.one(), [*silent, speech(40, "filler")], seal=41).settled
    word = query.rpartition("-")[2]
    wanted = all_of(books, f"t.text <> '' AND position('{word}' in t.text) = 0")
    answers = list(pages(books, Question(query, limit=500)))
    assert [hit["recording_id"] for found in answers for hit in found.hits] == wanted
    assert answers[0].total in (None, len(wanted))
    assert len(wanted) <= answers[0].denominator["transcribed"]


def test_what_is_not_sealed_is_not_walked_into(books: Any, speech: Callable[..., Any], way: str) -> None:
    books.day("a", on=date(2025, 1, 4))
    books.record(books.one(), [speech(n, COMMON) for n in range(3)])
    assert search.search(books.connection, Question(COMMON)).hits[0]["date"] == date(2025, 1, 3)


def test_a_page_goes_on_after_a_recording_that_is_there(books: Any, months: list[int]) -> None:
    with pytest.raises(NoSuchHit, match="no recording 99999999 to go on after"):
        search.search(books.connection, Question(COMMON, after=99999999))


def test_a_page_that_goes_on_after_a_recording_elsewhere_holds_only_what_is_looked_through(
    books: Any, way: str
) -> None:
    [elsewhere] = books.rows(
        "SELECT min(r.id) FROM recordings r JOIN days d ON d.id = r.day_id JOIN sites i ON i.id = d.site_id"
        " WHERE i.name = 'zurich' AND d.date = '2025-01-03'"
    )
    found = search.search(books.connection, Question(COMMON, Scope("arosa"), limit=500, after=elsewhere))
    assert {hit["site"] for hit in found.hits} == {"arosa"}
    assert [hit["recording_id"] for hit in found.hits] == all_of(books, f"t.text ~ '{COMMON}' AND i.name = 'arosa'")


def test_a_query_of_stop_words_looks_for_nothing_and_says_so(books: Any, months: Any) -> None:
    found = search.search(books.connection, Question("the or and"))
    assert (found.hits, found.total, found.terms) == ([], 0, 0)
    assert search.search(books.connection, Question(COMMON)).terms == 1


@pytest.mark.parametrize("query", ["", " ", "'", "%", "-", '""', "-%", "% or '", "\0"])
def test_a_query_without_a_word_or_a_number_is_refused(books: Any, query: str) -> None:
    with pytest.raises(BadQuery, match="no word and no number"):
        search.search(books.connection, Question(query))


@pytest.mark.parametrize("query", ["", " ", '""', '-"'])
def test_a_query_without_a_sign_is_refused_in_a_language_without_spaces(books: Any, query: str) -> None:
    with pytest.raises(BadQuery, match="Say what to look for"):
        search.search(books.connection, Question(query, language="ja"))


@pytest.mark.parametrize("query", ["7", "or", "the", "été", "電車", "'50%'"])
def test_a_query_of_a_word_or_a_number_is_answered(books: Any, query: str) -> None:
    assert search.search(books.connection, Question(query)).hits == []


def test_search_stems_each_text_in_its_own_language(books: Any, speech: Callable[..., Any]) -> None:
    books.day("a")
    books.record(
        books.one(),
        [
            speech(0, "die Häuser am See", language="de"),
            speech(1, "two houses by the lake", language="en"),
            speech(2, "sprechen wir nicht davon", language="xx"),
        ],
        seal=3,
    )

    def found(query: str, language: str, only: str | None = None) -> list[str]:
        hits = search.search(books.connection, Question(query, language=language, only=only)).hits
        return sorted(hit["meta_id"] for hit in hits)

    assert found("Haus", "de") == ["clip0"]  # Haus and Häuser have one German stem …
    assert found("Häus", "en") == []  # … and no English one
    assert found("house", "en") == ["clip1"]
    assert found("house", "en", only="de") == []
    assert found("sprechen", "xx") == ["clip2"]  # a language without a dictionary: word by word
    assert found("sprecht", "xx") == []
    assert books.rows("SELECT search::text FROM transcripts WHERE language = 'de'") == ["'haus':2 'see':4"]


def test_search_says_what_it_looked_through(
    books: Any, speech: Callable[..., Any], failure: Callable[..., Any]
) -> None:
    books.day("a")
    books.record(books.one(), [speech(0), speech(1, ""), failure(2)], seal=3)
    books.day("b", on=date(2025, 1, 2))
    books.record(books.one(), [0])
    found = search.search(books.connection, Question("hello\0"))
    assert found.denominator == {
        "transcribed": 1, "no_speech": 1, "quarantined": 1, "unsealed": 1,
        "expected_archives": 2, "missing_archives": 0,
    }  # fmt: skip
    assert [row["date"] for row in found.open_days] == [date(2025, 1, 2)]
    assert [(hit["excerpt"], hit["marks"]) for hit in found.hits] == [("hello world", [[0, 5]])]
    scope = Scope(start=date(2025, 1, 2))
    later = search.search(books.connection, Question("hello", scope))
    assert (later.denominator["unsealed"], later.hits) == (1, [])
    assert transcripts.denominator(books.connection, scope) == later.denominator


def test_search_says_which_archives_are_missing_from_a_days_summary_as_from_a_count(
    books: Any, speech: Callable[..., Any]
) -> None:
    def looked(on: int) -> tuple[int, int]:
        scope = Scope(start=date(2025, 1, on), stop=date(2025, 1, on))
        counts = transcripts.denominator(books.connection, scope)
        return counts["expected_archives"], counts["missing_archives"]

    files = (
        "INSERT INTO files (day_id, path, kind, state, size, since, seen, reason, gone, arrived, shard)"
        " SELECT %s, convert_to(kind || state || arrived, 'UTF8'), kind, state, 1, 1, 1, 'why', now(),"
        " CASE WHEN arrived THEN now() END, CASE WHEN arrived THEN 'a' END FROM (VALUES"
        " ('archive', 'missing', false), ('archive', 'wrong', false), ('loose', 'waived', false),"
        " ('archive', 'gone', false), ('archive', 'gone', true), ('archive', 'arrived', true),"
        " ('metadata', 'missing', false), ('double', 'missing', false), ('archive', 'listed', false))"
        " AS f (kind, state, arrived)"
    )
    day = books.day("a", "b")
    books.connection.execute(files, [day.id])
    assert looked(1) == (2 + 4 + 1, 4), "what is listed is expected, and missing only once it did not come"
    one, other = books.claim(2)
    cut = ("archive_damaged", "it is cut")
    shards.fail(books.connection, other.id, other.epoch, failure=cut, actor="worker", discard=True)
    assert looked(1) == (7, 5)
    books.connection.execute("UPDATE files SET state = 'arrived', arrived = now(), shard = 'b' WHERE state = 'listed'")
    books.record(one, [speech(0)], seal=1)
    assert books.state(day) == "completed_with_errors"
    assert looked(1) == (6, 5)
    books.connection.execute("UPDATE days SET summary = summary || '{\"missing_files\": 9}'")
    assert looked(1) == (11, 10), "a finished day is told by its summary"
    books.connection.execute("UPDATE days SET summary = summary - 'missing_files'")
    assert looked(1) == (6, 5), "and by a count, where an older program wrote that"
    assert looked(2) == (0, 0)


# --- where and when --------------------------------------------------------------------------------------------------


def test_no_text_can_mark_itself(books: Any, speech: Callable[..., Any]) -> None:
    books.day("a")
    books.record(books.one(), [speech(0, f"{search.BEGIN}so{search.END} we said hello to <<everybody>> there")], seal=1)
    [hit] = search.search(books.connection, Question("hello")).hits
    assert [hit["excerpt"][start:stop] for start, stop in hit["marks"]] == ["hello"]
    assert hit["excerpt"] == "said hello to <<everybody>> there"


def test_a_hit_says_when_it_is_said(books: Any, speech: Callable[..., Any]) -> None:
    words = ({"word": "one", "start": 3.0}, {"word": "2"}, {"word": "three", "start": 4.5})
    segments = [
        {"start": 0.5, "end": 2.0, "text": " no words here", "words": []},
        {"start": 3.0, "end": 5.0, "text": " one 2 three", "words": list(words)},
    ]
    books.day("a")
    row = speech(0, "no words here one 2 three") | {"words": formats.pack(segments)}
    books.record(books.one(), [row], seal=1)

    def said(query: str) -> tuple[float | None, float | None]:
        [hit] = search.search(books.connection, Question(query)).hits
        return hit["segment"], hit["second"]

    assert said("three") == (3.0, 4.5)
    assert said("2") == (3.0, 3.0), "a word without a time has its neighbour's"
    assert said("words") == (0.5, 0.5), "a segment without words has its own"
    assert said("three or one") == (3.0, 3.0), "the first of several"
    assert said("-absent") == (None, None), "what is not there is said at no time"


# --- languages without spaces ----------------------------------------------------------------------------------------

TEXTS = (
    ("ja", "東京都で電車が遅れた。"), ("ja", "京都の 電車は速い"), ("zh", "我们坐电车去北京"), ("th", "รถไฟสายนี้เร็วมาก"),
    ("ja", "Tokyo駅に着いた"),
    ("en", "the word 電車 in English"), ("ja", "東京と京都"),
)  # fmt: skip
PARTS = [
    ("京都", "ja", {0, 1, 6}),  # part of another city's name too: that is what a part is
    ("東京", "ja", {0, 6}),
    ("電車", "ja", {0, 1}),  # the English text is not among them: its words are found as words
    ("電", "ja", {0, 1}),
    ("京都の電車", "ja", {1}),  # spaces mean nothing in these texts …
    ('"京都の 電車"', "ja", {1}),  # … nor in what is looked for
    ("東京 遅れ", "ja", {0}),
    ("京都 -東京", "ja", {1}),
    ("tokyo駅", "ja", {4}),
    ("京東", "ja", set()),
    ("都東京", "ja", set()),  # all its pieces are in the last text, but not side by side
    ("สายนี้", "th", {3}),
    ("电车", "zh", {2}),
]


@pytest.fixture
def without_spaces(books: Any, speech: Callable[..., Any]) -> list[int]:
    books.day("a")
    rows = [speech(n, text, language=language) for n, (language, text) in enumerate(TEXTS)]
    books.record(books.one(), rows, seal=len(rows))
    return list(books.rows("SELECT id FROM recordings ORDER BY id"))


@pytest.mark.parametrize(("query", "language", "wanted"), PARTS, ids=[query for query, _, _ in PARTS])
def test_any_part_of_a_text_without_spaces_is_found(
    books: Any, without_spaces: list[int], query: str, language: str, wanted: set[int]
) -> None:
    found = search.search(books.connection, Question(query, language=language))
    assert {without_spaces.index(hit["recording_id"]) for hit in found.hits} == wanted
    assert found.total == len(wanted)


def test_what_is_found_in_a_text_without_spaces_is_marked_and_timed(books: Any, speech: Callable[..., Any]) -> None:
    text = "京都の 電車は速い。電車"
    words = [{"word": sign, "start": n / 2} for n, sign in enumerate(text) if sign != " "]
    row = speech(0, text, language="ja") | {
        "words": formats.pack([{"start": 0.0, "end": 6.0, "text": text, "words": words}])
    }
    books.day("a")
    books.record(books.one(), [row], seal=1)
    [hit] = search.search(books.connection, Question("電車", language="ja")).hits
    assert [hit["excerpt"][start:stop] for start, stop in hit["marks"]] == ["電車", "電車"]
    assert (hit["segment"], hit["second"]) == (0.0, text.index("電") / 2)


def test_parts_of_texts_are_looked_up_in_their_index(books: Any, without_spaces: list[int]) -> None:
    asked, _ = search.asked(books.connection, Question("京都", language="ja"))
    with books.connection.transaction():
        books.connection.execute("SET LOCAL enable_seqscan = off")
        plan = books.connection.execute("EXPLAIN " + search.SQL["by_index"], asked).fetchall()
    assert any("transcripts_pieces" in row["QUERY PLAN"] for row in plan)


@pytest.mark.parametrize("query", ["東京 or 京都", "-東京"])
def test_a_query_that_means_nothing_without_spaces_is_refused(books: Any, query: str) -> None:
    with pytest.raises(BadQuery):
        search.search(books.connection, Question(query, language="ja"))


def test_the_ledger_and_this_program_name_the_same_languages_without_spaces() -> None:
    named = "'{" + ",".join(substrings.LANGUAGES) + "}'"
    assert named in (MIGRATIONS / "0015_substrings_index.sql").read_text(encoding="utf-8")
    assert all(named in search.SQL[statement] for statement in ("expect", "by_index", "walk"))


def test_an_excerpt_of_a_long_text_holds_the_first_of_what_is_found_and_no_mark_beyond_it() -> None:
    text, marks, letters = substrings.excerpt("あ" * 100 + "東京" + "い" * 100 + "東京", ["東京"])
    assert (len(text), [text[start:stop] for start, stop in marks], letters) == (80, ["東京"], 100)
    assert substrings.excerpt("aba", ["ab", "ba"])[1] == [[0, 2], [2, 3]], "marks do not overlap"
