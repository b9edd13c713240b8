"""The states a thing may be in, and the legal moves of a day; the schema and docs/reference/states.md agree."""

from __future__ import annotations

from enum import StrEnum


class DayState(StrEnum):
    PENDING = "pending"
    TRANSFERRING = "transferring"
    TRANSFER_FAILED = "transfer_failed"
    READY_TO_PROCESS = "ready_to_process"
    PROCESSING = "processing"
    PROCESSING_FAILED = "processing_failed"
    COMPLETED = "completed"
    COMPLETED_WITH_ERRORS = "completed_with_errors"
    HELD = "held"


class ShardState(StrEnum):
    READY = "ready"
    LEASED = "leased"
    DONE = "done"
    FAILED = "failed"


class RecordingState(StrEnum):
    PROVISIONAL = "provisional"
    TRANSCRIBED = "transcribed"
    NO_SPEECH = "no_speech"
    QUARANTINED = "quarantined"


class FailureClass(StrEnum):
    """Why one recording has no transcript. One bad recording never costs its neighbours anything."""

    EMPTY = "empty"  # no bytes, or no samples
    NOT_AUDIO = "not_audio"  # the content is a web page, a playlist, a program, an image …
    UNDECODABLE = "undecodable"  # the decoder gives up
    TRUNCATED = "truncated"  # decodes, but stops before its own header or container says
    NO_AUDIO_STREAM = "no_audio_stream"
    OVER_DURATION = "over_duration"
    RESOURCE_LIMIT = "resource_limit"  # the decoder's memory limit, or an absurd header
    DECODE_TIMEOUT = "decode_timeout"
    DECODER_CRASH = "decoder_crash"
    MEMBER_TOO_LARGE = "member_too_large"
    DUPLICATE_MEMBER = "duplicate_member"  # a second member of the same name in one archive
    NOT_A_FILE = "not_a_file"  # a link, device or fifo in the archive
    ENGINE_ERROR = "engine_error"
    ENGINE_CRASH = "engine_crash"


class QualityFlag(StrEnum):
    """Why a transcript is suspect; hpc/triage/rules.py says when."""

    REPETITION = "repetition"
    LONG_WORD = "long_word"
    KNOWN_PHRASE = "known_phrase"
    UNSURE = "unsure"
    TOO_MUCH_TEXT = "too_much_text"
    TOO_LITTLE_TEXT = "too_little_text"
    GAP = "gap"
    LANGUAGE = "language"
    NO_SPEECH_WITH_TEXT = "no_speech_with_text"
    CAPTIONS_DIFFER = "captions_differ"


class PartState(StrEnum):
    PROVISIONAL = "provisional"
    SEALED = "sealed"
    DISCARDED = "discarded"


class TransferState(StrEnum):
    INTENT = "intent"
    ACTIVE = "active"
    PAUSED = "paused"
    NEEDS_LOGIN = "needs_login"
    NEEDS_CONSENT = "needs_consent"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    OVER_QUOTA = "over_quota"
    EXPIRED = "expired"
    CANCELLED = "cancelled"
    UNKNOWN = "unknown"


class JobState(StrEnum):
    INTENT = "intent"
    SUBMITTED = "submitted"
    RUNNING = "running"
    DRAINING = "draining"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    REPLACED = "replaced"
    BLOCKED = "blocked"
    UNKNOWN = "unknown"


class TaskEnd(StrEnum):
    """How one start of a job's task ended."""

    DONE = "done"
    STOPPED = "stopped"
    SUPERSEDED = "superseded"
    TRY_AGAIN = "try_again"
    SETTINGS = "settings"
    DATA = "data"
    INFRASTRUCTURE = "infrastructure"
    CRASH = "crash"
    CANCELLED = "cancelled"
    VANISHED = "vanished"


class FileState(StrEnum):
    """What has become of one file that a day's source lists."""

    LISTED = "listed"
    ARRIVED = "arrived"
    MISSING = "missing"
    WRONG = "wrong"
    WAIVED = "waived"
    GONE = "gone"
    REMOVED = "removed"


class DeliveryState(StrEnum):
    """How far a day is on its way to a target outside."""

    WANTED = "wanted"
    SENDING = "sending"
    VERIFIED = "verified"
    FAILED = "failed"


class Finding(StrEnum):
    """What is known of one file that a slot should have."""

    EXPECTED = "expected"
    LISTED = "listed"
    ARRIVED = "arrived"
    ABSENT_AT_SOURCE = "absent_at_source"
    LISTED_BUT_MISSING = "listed_but_missing"
    EMPTY = "empty"


S = DayState
MOVES: dict[DayState, frozenset[DayState]] = {
    # A source that shows nothing for a day, twice and hours apart, has nothing for it: that day is complete.
    S.PENDING: frozenset({S.TRANSFERRING, S.READY_TO_PROCESS, S.COMPLETED, S.HELD}),
    S.TRANSFERRING: frozenset({S.READY_TO_PROCESS, S.TRANSFER_FAILED, S.HELD}),
    # A retry fetches what is missing; a person may also go on without it.
    S.TRANSFER_FAILED: frozenset({S.PENDING, S.READY_TO_PROCESS, S.HELD}),
    S.READY_TO_PROCESS: frozenset({S.PROCESSING, S.TRANSFERRING, S.HELD}),
    S.PROCESSING: frozenset({S.COMPLETED, S.COMPLETED_WITH_ERRORS, S.PROCESSING_FAILED, S.READY_TO_PROCESS, S.HELD}),
    S.PROCESSING_FAILED: frozenset({S.PENDING, S.READY_TO_PROCESS, S.HELD}),
    # A listing that grows after the end (a new revision) or a retry of its failed shards reopens a finished day.
    S.COMPLETED: frozenset({S.READY_TO_PROCESS, S.HELD}),
    S.COMPLETED_WITH_ERRORS: frozenset({S.READY_TO_PROCESS, S.HELD}),
    # A released day goes back to the state it was held in.
    S.HELD: frozenset(set(S) - {S.HELD}),
}
FINISHED = frozenset({S.COMPLETED, S.COMPLETED_WITH_ERRORS})
OPEN = frozenset({S.READY_TO_PROCESS, S.PROCESSING})
T = TransferState
MOVING = frozenset({T.INTENT, T.ACTIVE, T.PAUSED, T.NEEDS_LOGIN, T.NEEDS_CONSENT})
TRANSFERS_OVER = frozenset(set(T) - MOVING)
JOBS_OVER = frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED, JobState.REPLACED})
del S, T


def sources_of(target: DayState) -> list[str]:
    """The states from which a day may go to `target`, for a compare-and-set. A hold has doors of its own, in and out:
    it remembers the state that its release goes back to."""
    if target is DayState.HELD:
        return []
    return sorted(state.value for state, targets in MOVES.items() if target in targets and state is not DayState.HELD)
