-- name: by_id
SELECT id, key, receipt, created FROM runs WHERE id = %(id)s;

-- name: by_key
-- All receipts whose key begins so, in hexadecimal. There are few runs: no index is worth its keep.
SELECT id, key, receipt, created FROM runs WHERE starts_with(encode(key, 'hex'), %(prefix)s) ORDER BY id;

-- name: used
-- Every receipt with what is of it in the scope. What is not sealed is not counted; without days all transcripts are read.
WITH made AS (
    SELECT t.run_id, count(*) AS transcripts, count(*) FILTER (WHERE r.current_id = t.id) AS current,
        min(d.date) AS first, max(d.date) AS last
    FROM days d JOIN sites i ON i.id = d.site_id JOIN recordings r ON r.day_id = d.id
    JOIN transcripts t ON t.recording_id = r.id JOIN parts p ON p.id = t.part_id AND p.state = 'sealed'
    WHERE (%(site)s::text IS NULL OR i.name = %(site)s)
        AND (%(start)s::date IS NULL OR d.date >= %(start)s) AND (%(stop)s::date IS NULL OR d.date <= %(stop)s)
    GROUP BY t.run_id
)
SELECT u.id, u.key, u.created, u.receipt, coalesce(m.current, 0) AS current, coalesce(m.transcripts, 0) AS transcripts,
    m.first, m.last
FROM runs u LEFT JOIN made m ON m.run_id = u.id
WHERE m.run_id IS NOT NULL OR (%(site)s::text IS NULL AND %(start)s::date IS NULL AND %(stop)s::date IS NULL)
ORDER BY u.id DESC;

-- name: days
-- The days in the scope; with `runs` only those that have a part of one of them.
SELECT d.id, i.name AS site, d.date, d.state FROM days d JOIN sites i ON i.id = d.site_id
WHERE (%(site)s::text IS NULL OR i.name = %(site)s)
    AND (%(start)s::date IS NULL OR d.date >= %(start)s) AND (%(stop)s::date IS NULL OR d.date <= %(stop)s)
    AND (%(runs)s::bigint[] IS NULL OR EXISTS (
        SELECT FROM shards s JOIN parts p ON p.shard_id = s.id
        WHERE s.day_id = d.id AND p.state = 'sealed' AND p.run_id = ANY (%(runs)s)))
ORDER BY d.date, i.name;

-- name: recordings
-- The visible recordings of a day, in its order.
SELECT id FROM recordings WHERE day_id = %(day_id)s AND state <> 'provisional' ORDER BY id;

-- name: pairs
-- Of these recordings, those that have a sealed version of one side or the other; the words only where they have both.
-- Of one side's several versions (a forced redo) the newest counts; whether readers see it does not matter. Where its shard
-- is not judged, or is being judged now (a mark below 0), a version says nothing by having no flags.
SELECT r.id, r.meta_id, a.id AS a_id, b.id AS b_id, a.version AS a_version, b.version AS b_version,
    a.language AS a_language, b.language AS b_language,
    CASE WHEN b.id IS NOT NULL THEN a.text END AS a_text, CASE WHEN a.id IS NOT NULL THEN b.text END AS b_text,
    ARRAY(SELECT f.flag FROM flags f WHERE f.transcript_id = a.id ORDER BY f.flag COLLATE "C") AS a_quality_flags,
    ARRAY(SELECT f.flag FROM flags f WHERE f.transcript_id = b.id ORDER BY f.flag COLLATE "C") AS b_quality_flags,
    coalesce(r.current_id = a.id, false) AS a_current, coalesce(r.current_id = b.id, false) AS b_current,
    coalesce(s.judged > 0, false) AS judged
FROM recordings r JOIN shards s ON s.id = r.shard_id
LEFT JOIN LATERAL (
    SELECT t.id, t.version, t.language, t.text FROM transcripts t JOIN parts p ON p.id = t.part_id AND p.state = 'sealed'
    WHERE t.recording_id = r.id AND t.run_id = ANY (%(a)s) ORDER BY t.version DESC LIMIT 1
) a ON true
LEFT JOIN LATERAL (
    SELECT t.id, t.version, t.language, t.text FROM transcripts t JOIN parts p ON p.id = t.part_id AND p.state = 'sealed'
    WHERE t.recording_id = r.id AND t.run_id = ANY (%(b)s) ORDER BY t.version DESC LIMIT 1
) b ON true
WHERE r.id = ANY (%(ids)s) AND (a.id IS NOT NULL OR b.id IS NOT NULL) ORDER BY r.id;
