-- name: put_run
-- A run is its whole receipt: the same receipt twice is one row.
INSERT INTO runs (key, digest, receipt) VALUES (%(key)s, %(digest)s, %(receipt)s) ON CONFLICT (digest) DO NOTHING;

-- name: get_run
SELECT id FROM runs WHERE digest = %(digest)s;

-- name: put_part
-- Nothing comes back when the part is recorded already. A part that comes too late to be of use is recorded as discarded.
INSERT INTO parts (name, shard_id, epoch, run_id, sha256, size, recordings, engine_seconds, audio_seconds, state)
SELECT %(name)s, s.id, %(epoch)s, %(run_id)s, %(sha256)s, %(size)s, %(recordings)s, %(engine_seconds)s, %(audio_seconds)s,
    CASE WHEN s.sealed IS NULL AND %(epoch)s > s.discarded_epoch THEN 'provisional' ELSE 'discarded' END
FROM shards s WHERE s.id = %(shard_id)s
ON CONFLICT (name) DO NOTHING RETURNING id;

-- name: get_part
SELECT id, sha256, state FROM parts WHERE name = %(name)s;

-- name: lock_shard
SELECT id, day_id, epoch, state, sealed, discarded_epoch FROM shards WHERE id = %(id)s FOR NO KEY UPDATE;

-- name: put_result
-- One recording with its outcome; the first for (shard, ordinal) wins, whoever brings it.
WITH recording AS (
    INSERT INTO recordings (shard_id, ordinal, day_id, meta_id, name, size, sha256, seconds, flags, failure_class, failure_reason, part_id)
    VALUES (%(shard_id)s, %(ordinal)s, %(day_id)s, %(meta_id)s, %(name)s, %(size)s, %(sha256)s, %(seconds)s, %(flags)s,
        %(failure_class)s, %(failure_reason)s, %(part_id)s)
    ON CONFLICT (shard_id, ordinal) DO NOTHING RETURNING id
)
INSERT INTO transcripts (recording_id, run_id, run_key, version, outcome, language, language_probability, text, words,
    word_count, flags, part_id, chunks, avg_logprob, no_speech_prob, compression_ratio, coverage)
SELECT id, %(run_id)s, %(run_key)s, 1, %(outcome)s, %(language)s, %(language_probability)s, %(text)s, %(words)s,
    %(word_count)s, %(transcript_flags)s, %(part_id)s, %(chunks)s, %(avg_logprob)s, %(no_speech_prob)s,
    %(compression_ratio)s, %(coverage)s
FROM recording WHERE %(outcome)s::text IS NOT NULL;

-- name: known
SELECT name FROM parts WHERE name = ANY (%(names)s);