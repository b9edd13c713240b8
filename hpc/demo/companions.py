"""What a platform would say of the clips of a synthetic archive: metadata, subtitles and comments as Parquet.

The columns are a part of those of real exports, in the spellings and types in which these come: the archives of a day
take turns between the older spelling, the newer one, and both at once.
"""

from __future__ import annotations

import hashlib
import os
import random
import secrets
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from db.states import FailureClass
from hpc.demo.clips import Clip
from hpc.demo.truth import BAD, SPEECH, ClipTruth

KINDS = ("metadata", "subtitles", "comments")
Row = dict[str, Any]
_COUNTRIES = ("CH", "DE", "FR", "IT", "AT", None)
# A control character, text that runs right to left, joined emoji, a combining accent, markup: data, all of it.
_ODD = (
    "morning\0call \u202egnp.3pm \U0001f468\u200d\U0001f680 e\u0301 <b>&amp;</b> '; DROP TABLE metadata;--\n\u2028#demo"
)
_NEWER = {
    "meta_createtime": "meta_createTime", "meta_locationcreated": "meta_locationCreated",
    "meta_textlanguage": "meta_textLanguage", "meta_isaigc": "meta_isAigc", "meta_isad": "meta_isAd",
    "author_uniqueid": "author_uniqueId", "stats_diggcount": "stats_diggCount",
    "stats_sharecount": "stats_shareCount", "stats_commentcount": "stats_commentCount",
    "stats_playcount": "stats_playCount", "stats_collectcount": "stats_collectCount",
    "music_authorname": "music_authorName", "collection_timestamp": "collection_timestamp_x",
}  # fmt: skip
_IDS = ("meta_id", "author_id", "music_id")


def write_companions(clips: Sequence[Clip], *, number: int, stem: Path, source: str) -> None:
    """Write `<stem>_metadata.parquet` and its two siblings; `number` is the archive's place in the day."""
    rng = random.Random(f"{source}, companions")  # noqa: S311 - nothing secret
    said = {clip.id: clip.truth for clip in clips if clip.truth.failure != FailureClass.DUPLICATE_MEMBER}
    tables = {
        "metadata": _spelt(_metadata(said, rng), number),
        "subtitles": pa.Table.from_pylist(_subtitles(said, rng), _SUBTITLES),
        "comments": pa.Table.from_pylist(_comments(said, rng), _COMMENTS),
    }
    for kind in KINDS:
        _publish(tables[kind], stem.with_name(f"{stem.name}_{kind}.parquet"))


def _metadata(said: Mapping[int, ClipTruth], rng: random.Random) -> list[Row]:
    rows = [_clip_row(meta_id, clip, rng) | _author_row(rng) for meta_id, clip in said.items()]
    for row in rows[1:2]:
        row["meta_desc"] = _ODD
    return rows


def _clip_row(meta_id: int, clip: ClipTruth, rng: random.Random) -> Row:
    posted = meta_id >> 32
    return {
        "meta_id": meta_id,
        "meta_createtime": posted,
        "meta_desc": f"{clip.text[:80]} #demo".strip(),
        "meta_locationcreated": rng.choice(_COUNTRIES),
        "meta_textlanguage": "en" if clip.kind == SPEECH else "un",
        "meta_isaigc": rng.choice((0.0, 1.0, None)),
        "meta_isad": rng.choice((0.0, None)),
        "stats_diggcount": rng.randrange(10**5),
        "stats_sharecount": rng.randrange(10**4),
        "stats_commentcount": rng.randrange(10**3),
        "stats_playcount": rng.randrange(2**31, 2**33),  # more than an int32 holds
        "stats_collectcount": rng.randrange(10**4),
        "video_duration": round(clip.seconds),
        "video_height": 1024,
        "video_width": 576,
        "video_format": "mp4",
        "poi_name": rng.choice((None, "Hauptbahnhof")),
        "text_extra_hashtag_mention": "['demo']",
        "subtitle_subtitle_lang": "eng-US" if clip.kind == SPEECH else None,
        "warning_warning": None,
        "collection_timestamp": posted + rng.randrange(3600, 86_400),
        "pol": None if clip.kind.startswith(BAD) else 0.0,
        "hour": datetime.fromtimestamp(posted, UTC).hour,
        "country": rng.choice(_COUNTRIES),
    }


def _author_row(rng: random.Random) -> Row:
    author = rng.randrange(10**18, 9 * 10**18)
    return {
        "author_id": author,
        "author_uniqueid": f"user{author % 10_000}",
        "author_nickname": rng.choice(("Zoë", "李雷", "radio ☎ one", "N/A")),
        "author_verified": rng.choice((0.0, 1.0, None)),
        "authorstats_followercount": rng.randrange(10**6),
        "authorstats_heartcount": rng.randrange(2**31, 2**35),
        "music_id": rng.randrange(10**18, 9 * 10**18),
        "music_title": f"original sound - user{author % 10_000}",
        "music_authorname": f"user{author % 10_000}",
        "music_duration": rng.randrange(5, 60),
    }


def _spelt(rows: Sequence[Row], number: int) -> pa.Table:
    """The rows in the older spelling with numbers, the newer one with text and times, or in both, half filled each."""
    style = number % 3
    older = {name: [row[name] for row in rows] for name in rows[0]} if rows else {}
    if style == 0:
        return pa.table(older)
    newer = {_NEWER.get(name, name): list(cells) for name, cells in older.items()}
    for name in _IDS:
        newer[name] = [str(cell) for cell in newer[name]]
    newer["meta_createTime"] = [float(cell) * 1000 for cell in newer["meta_createTime"]]
    newer["collection_timestamp_x"] = [
        datetime.fromtimestamp(cell, UTC).isoformat() for cell in newer["collection_timestamp_x"]
    ]
    if style == 2:
        for old, new in _NEWER.items():
            newer[old] = [cell if place % 2 else None for place, cell in enumerate(older[old])]
            newer[new] = [None if place % 2 else cell for place, cell in enumerate(newer[new])]
    return pa.table(newer)


_SUBTITLES = pa.schema(
    [
        ("content", pa.string()), ("meta_id", pa.int64()), ("lang", pa.string()), ("type", pa.string()),
        ("rest", pa.string()), ("collection_timestamp", pa.int64()), ("hash_unique_id", pa.string()),
    ]
)  # fmt: skip
_COMMENTS = pa.schema(
    [
        ("cid", pa.int64()), ("meta_id", pa.int64()), ("aweme_id", pa.int64()), ("text", pa.string()),
        ("create_time", pa.int64()), ("digg_count", pa.int64()), ("reply_id", pa.int64()),
        ("reply_to_reply_id", pa.int64()), ("reply_comment_total", pa.float64()), ("comment_language", pa.string()),
        ("uid", pa.int64()), ("sec_uid", pa.string()), ("nickname", pa.string()), ("unique_id", pa.string()),
        ("total", pa.int64()), ("collection_timestamp", pa.int64()), ("hash_unique_id", pa.string()),
    ]
)  # fmt: skip


def _subtitles(said: Mapping[int, ClipTruth], rng: random.Random) -> list[Row]:
    return [
        {
            "content": f"WEBVTT\n\n00:00:00.000 --> 00:00:{min(clip.seconds, 59):06.3f}\n{clip.text}\n",
            "meta_id": meta_id,
            "lang": "eng-US",
            "type": "ASR",
            "rest": "{}",
            "collection_timestamp": (meta_id >> 32) + 3600,
            "hash_unique_id": _hash(meta_id, "eng-US"),
        }
        for meta_id, clip in said.items()
        if clip.kind == SPEECH and rng.random() < 0.6
    ]


def _comments(said: Mapping[int, ClipTruth], rng: random.Random) -> list[Row]:
    rows: list[Row] = []
    for meta_id in said:
        total = rng.randrange(4)
        for place in range(total):
            user = rng.randrange(10**9)
            rows.append(
                {
                    "cid": rng.randrange(10**18, 9 * 10**18),
                    "meta_id": meta_id,
                    "aweme_id": meta_id,
                    "text": rng.choice(("copy over", "❤️", "genau 😂", "no\0way", "@unit one")),
                    "create_time": (meta_id >> 32) + rng.randrange(60, 3600),
                    "digg_count": rng.randrange(100),
                    "reply_id": 0,
                    "reply_to_reply_id": 0,
                    "reply_comment_total": rng.choice((None, 0.0, 2.0)),
                    "comment_language": rng.choice(("en", "de", "un")),
                    "uid": user,
                    "sec_uid": _hash(user, "uid"),
                    "nickname": f"listener {user % 100}",
                    "unique_id": f"listener{user % 100}",
                    "total": total,
                    "collection_timestamp": (meta_id >> 32) + 3600,
                    "hash_unique_id": _hash(meta_id, str(place)),
                }
            )
    return rows


def _hash(number: int, text: str) -> str:
    return hashlib.sha256(f"{number} {text}".encode()).hexdigest()[:32]


def _publish(table: pa.Table, path: Path) -> None:
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    pq.write_table(table, temporary, compression="zstd", row_group_size=1000)
    os.replace(temporary, path)  # noqa: PTH105
