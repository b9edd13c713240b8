"""What a person sees of a name from outside."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from db.names import AUDIO_SUFFIXES, MAX_SHOWN, display, stem

ANY_NAME = st.binary(max_size=600) | st.text(max_size=300).map(lambda text: text.encode("utf-8", "surrogatepass"))


@given(ANY_NAME)
@example(b"bad\xff\xfe.mp3")
@example("\u202egnp.3pm".encode())
@example(b"\xed\xa0\x80")  # a lone surrogate, as bytes
@example(b"x" * 5000)
def test_any_name_is_shown_printable_on_one_line_and_short(name: bytes) -> None:
    shown = display(name)
    assert len(shown) <= MAX_SHOWN
    assert shown.encode("utf-8").decode("utf-8") == shown
    assert all(unicodedata.category(character)[0] != "C" for character in shown)
    assert len(shown.splitlines()) <= 1
    assert "\x00" not in shown


@given(st.binary(max_size=60), st.binary(max_size=60))
@example(b"\\xff", b"\xff")
@example("\u00e9".encode(), "e\u0301".encode())
def test_two_names_that_fit_whole_are_never_shown_alike(one: bytes, other: bytes) -> None:
    assert (display(one) == display(other)) == (one == other)


@given(ANY_NAME, st.sampled_from(sorted(AUDIO_SUFFIXES)))
def test_a_stem_is_what_display_shows_of_the_last_component(name: bytes, suffix: str) -> None:
    last = name.replace(b"/", b"_").strip(b".") or b"x"
    assert stem(b"folder/../" + last + suffix.encode()) == display(last)
    assert stem(b"/" + last + suffix.upper().encode()) == display(last)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        (b"clip 1.mp3", "clip 1.mp3"),
        ("zürich-日本😀.mp3".encode(), "zürich-日本😀.mp3"),
        (b"latin\xe9.mp3", "latin\\xe9.mp3"),
        (b"new\nline\x1b[31m\x7f", "new\\x0aline\\x1b[31m\\x7f"),
        ("\u202egnp.3pm".encode(), "\\u202egnp.3pm"),
        ("line\u2028end\ufeff".encode(), "line\\u2028end\\ufeff"),
        (b"back\\slash", "back\\\\slash"),
        (b"", ""),
        (b"x" * 255, "x" * 255),
        (b"x" * 256, "x" * 254 + "…"),
        (b"y" * 252 + b"\xff\xff", "y" * 252 + "…"),
    ],
)
def test_display_shows(name: bytes, shown: str) -> None:
    assert display(name) == shown


@pytest.mark.parametrize(
    ("name", "meta_id"),
    [
        (b"2025-02-01_08_10_0001.mp3", "2025-02-01_08_10_0001"),
        (b"a/b/c.MP3", "c"),
        (b"../../evil.opus", "evil"),
        (b"no suffix", "no suffix"),
        (b"12.30.00", "12.30.00"),
        (b"v1.2.wav", "v1.2"),
        (b".mp3", ".mp3"),
        (b"..mp3", "..mp3"),
        (b"...", "..."),
        (b"notes.pdf", "notes.pdf"),
        (b"folder/", "folder"),
        (b"/", ""),
    ],
)
def test_the_stem_is_the_name_without_folders_and_audio_suffix(name: bytes, meta_id: str) -> None:
    assert stem(name) == meta_id
