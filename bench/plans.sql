-- name: days
-- Three years of one site.
INSERT INTO days (site_id, date, state, staged, finished, summary)
SELECT %(site)s, %(first)s::date + n, 'completed', '/nowhere', now(), '{"audio_seconds": 1000, "engine_seconds": 10}'
FROM generate_series(0, %(days)s - 1) n;

-- name: runs
-- An older model and a newer one.
INSERT INTO runs (key, digest, receipt)
SELECT decode(repeat(to_char(n, 'FM00'), 16), 'hex'), decode(repeat(to_char(n, 'FM00'), 32), 'hex'),
    jsonb_build_object('models', jsonb_build_array(
        jsonb_build_object('kind', 'asr', 'name', CASE n WHEN 1 THEN 'old' ELSE 'new' END)))
FROM generate_series(1, 2) n;

-- name: shards
INSERT INTO shards (day_id, name, paths, size, revision, state, sealed, seal_sha256, seal_recordings)
SELECT d.id, n::text, ARRAY['x'::bytea], 1000, 0, 'done', now(), sha256('x'), %(each)s
FROM days d, generate_series(1, 144) n ORDER BY d.id, n;

-- name: parts
INSERT INTO parts (name, shard_id, epoch, run_id, sha256, size, recordings, state)
SELECT 'p' || id, id, 1, 1 + mod(id, 2), sha256('x'), 1000, %(each)s, 'sealed' FROM shards;

-- name: recordings
-- One of two hundred failed.
INSERT INTO recordings (shard_id, ordinal, day_id, meta_id, name, size, sha256, state, seconds, part_id, current_id,
    failure_class, failure_reason)
SELECT s.id, o, s.day_id, (s.id * 1000 + o)::text, 'x', 1, sha256('x'),
    CASE WHEN mod(s.id * %(each)s + o, 200) = 7 THEN 'quarantined' ELSE 'transcribed' END, 20, s.id,
    CASE WHEN mod(s.id * %(each)s + o, 200) = 7 THEN NULL ELSE (s.id - 1) * %(each)s + o + 1 END,
    CASE WHEN mod(s.id * %(each)s + o, 200) = 7 THEN 'truncated' END,
    CASE WHEN mod(s.id * %(each)s + o, 200) = 7 THEN 'it ends early' END
FROM shards s, generate_series(0, %(each)s - 1) o ORDER BY s.id, o;

-- name: transcripts
-- Each with the number that its recording says is current.
INSERT INTO transcripts (id, recording_id, run_id, run_key, version, outcome, language, text, words, word_count, part_id)
OVERRIDING SYSTEM VALUE
SELECT r.current_id, r.id, 1 + mod(r.shard_id, 2), decode(repeat(to_char(1 + mod(r.shard_id, 2), 'FM00'), 16), 'hex'), 1,
    'speech', 'en', 'x', 'x', 1, r.part_id
FROM recordings r WHERE r.current_id IS NOT NULL ORDER BY r.id;

-- name: flags
-- One of fifty is suspect.
INSERT INTO flags (transcript_id, flag, day_id, value)
SELECT r.current_id, CASE mod(r.id, 3) WHEN 0 THEN 'repetition' ELSE 'unsure' END, r.day_id, 3
FROM recordings r WHERE mod(r.current_id, 50) = 0;

-- name: measure
VACUUM ANALYZE;
