"""A transcript as JSON, TXT, SRT, VTT or TSV, and its segments as one compressed value: pure functions.

Documents are plain mappings. A segment is {"start", "end", "text", "words": [{"word", "start", "end", "score"}],
"avg_logprob"} in WhisperX's words; a word that the aligner could not place lacks its times. What WhisperX's own writers
print, we print byte for byte, except where theirs would be a broken file: a blank line or an arrow inside a cue, a line
break inside a TSV row.
"""

from __future__ import annotations

import json
import math
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from db.errors import BadData

LANGUAGES_WITHOUT_SPACES = frozenset({"ja", "zh"})
LINE_WIDTH = 1000  # characters; where WhisperX breaks a cue's line when it is given no width
PACKED_V1 = b"\x01"  # compact UTF-8 JSON under zlib
UNPACKED_LIMIT = 256 * 1024 * 1024  # bytes; four hours of dense speech are below 5 MB

_BLANK_LINES = re.compile(r"[\r\n]\s*[\r\n]")
_ARROW = re.compile(r"-{2,}>")
_ROW_BREAKS = str.maketrans("\t\r\n", "   ")


def render(document: Mapping[str, Any], kind: str) -> str:
    """The document {"language", "segments", …} in the format `kind`, which is one of KINDS."""
    try:
        renderer = _RENDERERS[kind]
    except KeyError:
        raise BadData(f"There is no format {kind!r}; the formats are {', '.join(KINDS)}.") from None
    return renderer(document)


def pack(segments: Iterable[Mapping[str, Any]]) -> bytes:
    """Segments with their words (or chunks) as one value; times and scores that are not numbers are left out."""
    plain = json.dumps(
        [_plain(segment) for segment in segments], ensure_ascii=False, separators=(",", ":"), allow_nan=False
    )
    return PACKED_V1 + zlib.compress(plain.encode("utf-8", "replace"))


def unpack(packed: bytes) -> list[dict[str, Any]]:
    """The segments that pack() was given."""
    if packed[:1] != PACKED_V1:
        raise BadData(f"Packed segments begin with {packed[:1]!r}; this program reads {PACKED_V1!r} only.")
    inflate = zlib.decompressobj()
    try:
        plain = inflate.decompress(packed[1:], UNPACKED_LIMIT)
    except zlib.error as error:
        raise BadData(f"Packed segments are damaged: {error}.") from error
    if not inflate.eof:
        raise BadData("Packed segments are cut short, or longer than any transcript can be.")
    segments: list[dict[str, Any]] = json.loads(plain)
    return segments


def opened(row: Mapping[str, Any]) -> dict[str, Any]:
    """A recording's row with what is packed in it open, `words` as `segments` and `chunks`; None where is none."""
    rest = {key: value for key, value in row.items() if key != "words"}
    segments, chunks = (None if row[key] is None else unpack(row[key]) for key in ("words", "chunks"))
    return rest | {"segments": segments, "chunks": chunks}


def _plain(value: Any) -> Any:
    """The value without None and without numbers that JSON cannot say."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items() if not _absent(item)}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(item) for item in value]
    return value


def _absent(value: Any) -> bool:
    return value is None or (isinstance(value, float) and not math.isfinite(value))


def _json(document: Mapping[str, Any]) -> str:
    segments = [_plain(segment) for segment in document["segments"]]
    whole: dict[str, Any] = {
        "segments": segments,
        "word_segments": [word for segment in segments for word in segment.get("words", ())],
        "language": document.get("language"),
    }
    whole |= {key: document[key] for key in ("chunks", "recording", "receipt") if key in document}
    return json.dumps(whole, ensure_ascii=False)


def _txt(document: Mapping[str, Any]) -> str:
    return "".join(f"{segment['text'].strip()}\n" for segment in document["segments"])


def _tsv(document: Mapping[str, Any]) -> str:
    rows = [
        f"{round(1000 * segment['start'])}\t{round(1000 * segment['end'])}\t"
        f"{segment['text'].strip().translate(_ROW_BREAKS)}\n"
        for segment in document["segments"]
    ]
    return "start\tend\ttext\n" + "".join(rows)


def _srt(document: Mapping[str, Any]) -> str:
    return "".join(
        f"{number}\n{_clock(start, hours=True, mark=',')} --> {_clock(end, hours=True, mark=',')}\n{text}\n\n"
        for number, (start, end, text) in enumerate(_cues(document), start=1)
    )


def _vtt(document: Mapping[str, Any]) -> str:
    cues = [f"{_clock(start)} --> {_clock(end)}\n{text}\n\n" for start, end, text in _cues(document)]
    return "WEBVTT\n\n" + "".join(cues)


def _cues(document: Mapping[str, Any]) -> Iterator[tuple[float, float, str]]:
    """One cue a segment: timed by its words where they have times, by the segment where they have none."""
    space = "" if document.get("language") in LANGUAGES_WITHOUT_SPACES else " "
    for segment in document["segments"]:
        words = segment.get("words") or ()
        starts = [word["start"] for word in words if not _absent(word.get("start"))]
        ends = [word["end"] for word in words if not _absent(word.get("end"))]
        text = space.join(_lines(word["word"] for word in words)) if words else segment["text"].strip()
        text = _ARROW.sub("->", _BLANK_LINES.sub("\n", text))
        if starts and ends:
            yield min(starts), max(ends), text
        else:
            yield segment["start"], segment["end"], text


def _lines(words: Iterable[str]) -> Iterator[str]:
    """The words, with a line break before each one that would make its line longer than LINE_WIDTH."""
    length = 0
    for word in words:
        if length > 0 and length + len(word) <= LINE_WIDTH:
            length += len(word)
            yield word
        else:
            yield f"\n{word.strip()}" if length else word.strip()
            length = len(word.strip())


def _clock(seconds: float, *, hours: bool = False, mark: str = ".") -> str:
    """SRT's and VTT's time of day: [HH:]MM:SS.mmm; `hours` writes them even when they are 00."""
    whole, millis = divmod(round(max(seconds, 0.0) * 1000.0), 1000)
    minutes, secs = divmod(whole, 60)
    hour, minutes = divmod(minutes, 60)
    prefix = f"{hour:02d}:" if hours or hour else ""
    return f"{prefix}{minutes:02d}:{secs:02d}{mark}{millis:03d}"


_RENDERERS: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "json": _json,
    "txt": _txt,
    "srt": _srt,
    "vtt": _vtt,
    "tsv": _tsv,
}
KINDS = tuple(_RENDERERS)
