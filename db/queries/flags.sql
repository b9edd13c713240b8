-- name: take
-- A shard whose results the world sees, under a judge's own mark: whoever takes it later, or brings new evidence, puts
-- another one there.
WITH known AS (SELECT id, judged FROM shards WHERE id = %(shard_id)s AND sealed IS NOT NULL FOR NO KEY UPDATE)
UPDATE shards s SET judged = %(mark)s FROM known WHERE s.id = known.id RETURNING s.day_id, known.judged AS was;

-- name: share_day
-- Held by who takes a shard to judge, for that one statement, and alone by who brings evidence of the day: so it is seen
-- by the judge, or the judge's mark by who brings it.
SELECT pg_advisory_xact_lock_shared(1784772711, (day_id %% 2147483647)::integer) FROM shards WHERE id = %(shard_id)s;

-- name: own_day
SELECT pg_advisory_xact_lock(1784772711, (%(day_id)s::bigint %% 2147483647)::integer);

-- name: evidence
-- What a shard's transcripts are judged by, a page of recordings at a time, older versions too.
SELECT t.id, r.id AS recording_id, r.ordinal, r.meta_id, r.seconds, t.language, t.language_probability, t.text, t.words, t.chunks, t.avg_logprob,
    t.coverage, m.text_language, m.subtitle_language
FROM (SELECT id, ordinal, day_id, meta_id, seconds FROM recordings
    WHERE shard_id = %(shard_id)s AND state <> 'provisional' AND ordinal > %(after)s ORDER BY ordinal LIMIT %(limit)s) r
JOIN transcripts t ON t.recording_id = r.id
LEFT JOIN metadata m ON m.day_id = r.day_id AND m.meta_id = r.meta_id
ORDER BY r.ordinal, t.version;

-- name: last_ordinal
SELECT max(ordinal) AS last FROM (SELECT ordinal FROM recordings
    WHERE shard_id = %(shard_id)s AND state <> 'provisional' AND ordinal > %(after)s ORDER BY ordinal LIMIT %(limit)s) r;

-- name: captions
SELECT meta_id, language, kind, text FROM captions WHERE day_id = %(day_id)s AND meta_id = ANY (%(meta_ids)s)
ORDER BY meta_id, language, kind;

-- name: judged
-- Only while the judge's mark is there still.
UPDATE shards SET judged = %(rules)s WHERE id = %(shard_id)s AND judged = %(mark)s;

-- name: clear
-- Those of the judged transcripts that are not found again as they are.
DELETE FROM flags f WHERE f.transcript_id = ANY (%(judged)s) AND NOT EXISTS (
    SELECT FROM unnest(%(transcripts)s::bigint[], %(flags)s::text[], %(values)s::real[], %(details)s::text[])
        AS u (transcript_id, flag, value, detail)
    WHERE u.transcript_id = f.transcript_id AND u.flag = f.flag
        AND u.value IS NOT DISTINCT FROM f.value AND u.detail IS NOT DISTINCT FROM f.detail)
RETURNING f.transcript_id, f.flag;

-- name: put
-- Those that are not there; what is there now is as it was found.
INSERT INTO flags (transcript_id, flag, day_id, value, detail)
SELECT u.transcript_id, u.flag, %(day_id)s, u.value, u.detail
FROM unnest(%(transcripts)s::bigint[], %(flags)s::text[], %(values)s::real[], %(details)s::text[])
    AS u (transcript_id, flag, value, detail)
ON CONFLICT (transcript_id, flag) DO NOTHING RETURNING transcript_id, flag;

-- name: judge_anew
-- Those shards whose recordings the new evidence is of. The mark of who judges now is taken away too.
UPDATE shards SET judged = NULL WHERE judged IS NOT NULL AND id IN (
    SELECT r.shard_id FROM recordings r JOIN incoming i ON i.day_id = r.day_id AND i.meta_id = r.meta_id);

-- name: forget
UPDATE shards SET judged = NULL WHERE day_id = %(day_id)s AND judged IS NOT NULL;

-- name: unjudged
SELECT id FROM shards WHERE day_id = %(day_id)s AND sealed IS NOT NULL AND judged IS DISTINCT FROM %(rules)s ORDER BY id;

-- name: unjudged_lately
-- Of days that are open or finished not long ago, and of what plans made lately: the whole history is not looked through at
-- each tick.
SELECT id FROM (
    SELECT s.id FROM days d JOIN shards s ON s.day_id = d.id
    WHERE (d.finished IS NULL OR d.finished > now() - %(lately)s) AND s.sealed IS NOT NULL
        AND s.judged IS DISTINCT FROM %(rules)s
    UNION SELECT s.id FROM plan_shards k JOIN shards s ON s.id = k.shard_id
    WHERE k.changed > now() - %(lately)s AND s.sealed IS NOT NULL AND s.judged IS DISTINCT FROM %(rules)s
) u ORDER BY id DESC LIMIT %(limit)s;

-- name: counts
-- A day's flagged recordings by flag; of each recording the version that the world sees.
SELECT f.flag, count(*) AS recordings FROM flags f JOIN transcripts t ON t.id = f.transcript_id
JOIN recordings r ON r.id = t.recording_id AND r.current_id = t.id
WHERE f.day_id = %(day_id)s GROUP BY f.flag ORDER BY f.flag;

-- name: flagged
-- How many recordings have a flag at all.
SELECT count(DISTINCT f.transcript_id) AS recordings FROM flags f JOIN transcripts t ON t.id = f.transcript_id
JOIN recordings r ON r.id = t.recording_id AND r.current_id = t.id WHERE f.day_id = %(day_id)s;

-- name: progress
-- By which rules the day's shards are judged, and how many transcripts those have that are not; a judge's mark is below 0.
-- Mostly there are none, and no recording is looked at.
SELECT (SELECT max(judged) FROM shards WHERE day_id = %(day_id)s AND sealed IS NOT NULL AND judged > 0) AS rules,
    (SELECT count(*) FROM shards s JOIN recordings r ON r.shard_id = s.id
        WHERE s.day_id = %(day_id)s AND s.sealed IS NOT NULL AND coalesce(s.judged, 0) <= 0 AND r.current_id IS NOT NULL) AS unjudged;

-- name: page
-- Flagged recordings of a day with all their flags, in the day's order, a page after a key.
WITH here AS (
    SELECT r.id AS recording_id, t.id FROM flags f JOIN transcripts t ON t.id = f.transcript_id
    JOIN recordings r ON r.id = t.recording_id AND r.current_id = t.id
    WHERE f.day_id = %(day_id)s AND (%(flag)s::text IS NULL OR f.flag = %(flag)s) AND r.id > %(after)s
    GROUP BY r.id, t.id ORDER BY r.id LIMIT %(limit)s
)
SELECT r.id, r.meta_id, s.slot, s.name AS shard, r.ordinal, r.state, r.seconds, t.version, t.language,
    left(t.text, %(excerpt)s) AS excerpt, length(t.text) > %(excerpt)s AS cut,
    (SELECT jsonb_agg(jsonb_build_object('flag', f.flag, 'value', f.value, 'detail', f.detail) ORDER BY f.flag)
     FROM flags f WHERE f.transcript_id = here.id) AS quality_flags
FROM here JOIN recordings r ON r.id = here.recording_id JOIN transcripts t ON t.id = here.id
JOIN shards s ON s.id = r.shard_id ORDER BY r.id;

-- name: of_recording
SELECT f.flag, f.value, f.detail FROM recordings r JOIN flags f ON f.transcript_id = r.current_id
WHERE r.id = %(recording_id)s ORDER BY f.flag;
