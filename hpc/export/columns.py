"""The columns of an export: each with its type, unit and meaning. Schema and codebook are made from here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pyarrow as pa

VERSION = 4  # of the columns below; told in the file

# What a codebook calls a type → what Arrow calls it.
_PLAIN = {
    "text": pa.string(),
    "integer": pa.int64(),
    "small integer": pa.int32(),
    "number": pa.float64(),
    "yes or no": pa.bool_(),
    "date": pa.date32(),
    "moment": pa.timestamp("us", tz="UTC"),
    "list of text": pa.list_(pa.string()),
}


@dataclass(frozen=True, slots=True)
class Field:
    """A column, or a field of a column's structures."""

    name: str
    kind: str  # of _PLAIN; "list" has `parts`
    meaning: str
    unit: str = ""
    parts: tuple[Field, ...] = ()
    lasting: bool = True  # a snapshot has it: it says the same for ever, or is frozen with the snapshot

    @property
    def arrow(self) -> Any:
        if self.parts:
            return pa.list_(pa.struct({part.name: part.arrow for part in self.parts}))
        return _PLAIN[self.kind]


WORD = (
    Field("word", "text", "the word as it was heard"),
    Field("start", "number", "its beginning in the recording; null: the aligner found no place for it", "s"),
    Field("end", "number", "its end", "s"),
    Field("score", "number", "how sure the aligner is of its place", "0 to 1"),
)
SEGMENT = (
    Field("start", "number", "its beginning in the recording", "s"),
    Field("end", "number", "its end", "s"),
    Field("text", "text", "what was said"),
    Field("avg_logprob", "number", "mean log-probability of its tokens; null: not told", "natural log"),
    Field("words", "list", "its words, in order", parts=WORD),
)
CHUNK = (
    Field("start", "number", "its beginning in the recording", "s"),
    Field("end", "number", "its end", "s"),
    Field("speech", "number", "how much of it the voice detector calls speech", "s"),
    Field("avg_logprob", "number", "mean log-probability of its tokens", "natural log"),
    Field("no_speech_prob", "number", "how likely the model finds that nobody speaks", "0 to 1"),
    Field("compression_ratio", "number", "length of its text by its length under zlib; text that loops is above 2.4"),
    Field("flags", "list of text", "what was noticed of it"),
)
QUALITY = (
    Field("flag", "text", "why the transcript is suspect: evidence, never a verdict"),
    Field("value", "number", "the number that it goes by"),
)


def _outside(name: str, kind: str, meaning: str, unit: str = "") -> Field:
    """What the platform says: it comes later, and changes."""
    return Field(name, kind, meaning, unit, lasting=False)


COLUMNS = (
    Field("id", "integer", "the recording's number in the ledger; the names of files are made of it"),
    Field("site", "text", "the collection that it belongs to"),
    Field("date", "date", "the day that it belongs to, by the clock that the site's file names go by"),
    Field("slot", "text", "its place in the day, HH_MM; null: the site has no such grid"),
    Field("slot_time", "moment", "the instant at which the slot begins; not when it was posted or collected", "UTC"),
    Field("shard", "text", "the archive (or group of loose files) that it was read from"),
    Field("ordinal", "small integer", "its position in the shard, from 0; with the shard its identity"),
    Field("meta_id", "text", "its own id: the stem of its file's name, by which metadata is joined"),
    Field("name", "text", "its file's name; what cannot be shown is written as an escape"),
    Field("size", "integer", "of its file", "bytes"),
    Field("sha256", "text", "digest of its file, hexadecimal"),
    Field("state", "text", "transcribed, no_speech, or quarantined: it could not be transcribed"),
    Field("seconds", "number", "its length; null: it was not decoded", "s"),
    Field("language", "text", "the language that the model heard, ISO 639; null: none to judge by"),
    Field("language_probability", "number", "how sure the model is of the language", "0 to 1"),
    Field("avg_logprob", "number", "the least of its chunks; null here and below: unknown", "natural log"),
    Field("no_speech_prob", "number", "the greatest of its chunks", "0 to 1"),
    Field("compression_ratio", "number", "the greatest of its chunks"),
    Field("coverage", "number", "seconds of speech in all chunks, by the recording's seconds", "0 to 1"),
    Field("text", "text", "the whole transcript; empty: no speech; null: quarantined"),
    Field("word_count", "small integer", "words in it"),
    Field("flags", "list of text", "what decoder and engine noticed while they worked"),
    Field(
        "quality_flags", "list", "why it is suspect, each with its number; empty: judged, and nothing was found; null:"
        " not judged", parts=QUALITY,
    ),
    Field("failure_class", "text", "why it is quarantined, in a word"),
    Field("failure_reason", "text", "why it is quarantined, in a sentence"),
    Field("segments", "list", "the transcript as timed text, as WhisperX uses the word", parts=SEGMENT),
    Field("chunks", "list", "the stretches of speech that the model saw; null: not told", parts=CHUNK),
    Field("version", "small integer", "number of the transcript among those of the recording, from 1"),
    Field("run_key", "text", "digest of all that changes the words: engine, models, options; hexadecimal"),
    Field("receipt_id", "integer", "the receipt of the run that made the transcript"),
    # what the platform says of it (db.metadata.COLUMNS)
    _outside("posted", "moment", "when it was posted", "UTC"),
    _outside("description", "text", "what its author wrote to it"),
    _outside("location_created", "text", "where it was made, as the platform says"),
    _outside("text_language", "text", "the language of the description, as the platform says"),
    _outside("author_id", "text", "the platform's id of its author"),
    _outside("author_name", "text", "the author's name there"),
    _outside("author_nickname", "text", "the author's other name there"),
    _outside("author_verified", "yes or no", "whether the platform vouches for the author"),
    _outside("digg_count", "integer", "likes when it was collected"),
    _outside("share_count", "integer", "times it was shared"),
    _outside("comment_count", "integer", "comments"),
    _outside("play_count", "integer", "times it was played"),
    _outside("collect_count", "integer", "times it was kept by somebody"),
    _outside("music_id", "text", "the platform's id of its music"),
    _outside("music_title", "text", "title of the music"),
    _outside("music_author", "text", "who made the music"),
    _outside("video_seconds", "number", "length of the film, as the platform says", "s"),
    _outside("subtitle_language", "text", "language of the platform's own captions"),
    _outside("collected", "moment", "when this was asked of the platform", "UTC"),
    _outside("country", "text", "country, as the collection says"),
)  # fmt: skip


def schema_of(columns: tuple[Field, ...]) -> Any:
    """The Arrow schema of these columns."""
    return pa.schema([(column.name, column.arrow) for column in columns])


SCHEMA = schema_of(COLUMNS)
LASTING = tuple(column for column in COLUMNS if column.lasting)
NESTED = ("segments", "chunks")  # a flat table has no room for them


def flat(columns: tuple[Field, ...]) -> tuple[str, ...]:
    """The names that a flat table has."""
    return tuple(column.name for column in columns if column.name not in NESTED)
