-- name: denominator
-- What a search has looked through, and what it could not: finished days by their summaries, open ones by a count (law 6).
-- Archives (or groups of loose files) are missing where they never came or cannot be read; a summary of an older program does
-- not say which never came.
WITH scope AS (
    SELECT d.id, d.summary, d.state IN ('completed', 'completed_with_errors') AS finished,
        d.state IN ('completed', 'completed_with_errors') AND d.summary ? 'missing_files' AS told
    FROM days d JOIN sites i ON i.id = d.site_id
    WHERE (%(site)s::text IS NULL OR i.name = %(site)s)
        AND (%(start)s::date IS NULL OR d.date >= %(start)s) AND (%(stop)s::date IS NULL OR d.date <= %(stop)s)
), counted AS (
    SELECT (summary ->> 'transcribed')::bigint AS transcribed, (summary ->> 'no_speech')::bigint AS no_speech,
        (summary ->> 'quarantined')::bigint AS quarantined, (summary ->> 'unsealed')::bigint AS unsealed
    FROM scope WHERE finished
    UNION ALL
    SELECT count(*) FILTER (WHERE r.state = 'transcribed'), count(*) FILTER (WHERE r.state = 'no_speech'),
        count(*) FILTER (WHERE r.state = 'quarantined'), count(*) FILTER (WHERE r.state = 'provisional')
    FROM recordings r JOIN scope ON scope.id = r.day_id AND NOT scope.finished
), archives AS (
    SELECT (summary ->> 'shards')::bigint AS shards, (summary ->> 'failed_shards')::bigint AS failed,
        (summary ->> 'missing_files')::bigint AS missing, 0 AS coming FROM scope WHERE told
    UNION ALL
    SELECT s.shards, s.failed, f.missing, f.coming FROM scope -- day by day: the server must not read all that there is
    CROSS JOIN LATERAL (SELECT count(*) AS shards, count(*) FILTER (WHERE state = 'failed') AS failed
        FROM shards WHERE day_id = scope.id) s
    CROSS JOIN LATERAL (SELECT count(*) FILTER (WHERE state <> 'listed') AS missing, count(*) FILTER (WHERE state = 'listed') AS coming
        FROM files WHERE day_id = scope.id AND kind IN ('archive', 'loose')
            AND (state IN ('listed', 'missing', 'wrong', 'waived') OR (state = 'gone' AND arrived IS NULL))) f
    WHERE NOT scope.told
)
SELECT coalesce(sum(transcribed), 0)::bigint AS transcribed, coalesce(sum(no_speech), 0)::bigint AS no_speech,
    coalesce(sum(quarantined), 0)::bigint AS quarantined, coalesce(sum(unsealed), 0)::bigint AS unsealed,
    (SELECT coalesce(sum(shards + missing + coming), 0)::bigint FROM archives) AS expected_archives,
    (SELECT coalesce(sum(failed + missing), 0)::bigint FROM archives) AS missing_archives
FROM counted;

-- name: open_days
SELECT i.name AS site, d.date, d.state FROM days d JOIN sites i ON i.id = d.site_id
WHERE d.state NOT IN ('completed', 'completed_with_errors') AND (%(site)s::text IS NULL OR i.name = %(site)s)
    AND (%(start)s::date IS NULL OR d.date >= %(start)s) AND (%(stop)s::date IS NULL OR d.date <= %(stop)s)
ORDER BY d.date, i.name LIMIT 50;

-- name: recordings
-- The recordings of a day that the world may see (sealed shards), in the order of the day, one page after a key.
SELECT r.id, i.name AS site, d.date, s.slot, s.name AS shard, r.ordinal, r.meta_id, r.state, r.seconds, r.flags || coalesce(t.flags, '{}') AS flags,
    r.sha256,
    r.failure_class, r.failure_reason, t.version, t.language, t.language_probability, t.text, t.words, t.word_count,
    t.chunks, t.avg_logprob, t.no_speech_prob, t.compression_ratio, t.coverage,
    u.receipt, u.key AS run_key
FROM recordings r JOIN shards s ON s.id = r.shard_id JOIN days d ON d.id = r.day_id JOIN sites i ON i.id = d.site_id
LEFT JOIN transcripts t ON t.id = r.current_id LEFT JOIN runs u ON u.id = t.run_id
WHERE r.day_id = %(day_id)s AND r.state <> 'provisional' AND (%(state)s::text IS NULL OR r.state = %(state)s)
    AND r.id > %(after)s
ORDER BY r.id LIMIT %(limit)s;

-- name: find
-- Recordings by their id of the ledger or their name's stem; unsealed ones are named, without their words.
SELECT r.id, i.name AS site, d.date, s.slot, s.name AS shard, r.ordinal, r.meta_id, r.name, r.size, r.sha256, r.state, r.seconds,
    r.flags || coalesce(t.flags, '{}') AS flags, r.failure_class, r.failure_reason, t.version, t.language, t.language_probability, t.text, t.words, t.word_count,
    t.chunks, t.avg_logprob, t.no_speech_prob, t.compression_ratio, t.coverage,
    u.receipt, u.key AS run_key
FROM recordings r JOIN shards s ON s.id = r.shard_id JOIN days d ON d.id = r.day_id JOIN sites i ON i.id = d.site_id
LEFT JOIN transcripts t ON t.id = r.current_id LEFT JOIN runs u ON u.id = t.run_id
WHERE (r.meta_id = %(meta_id)s OR r.id = %(id)s) AND (%(site)s::text IS NULL OR i.name = %(site)s)
    AND (%(date)s::date IS NULL OR d.date = %(date)s)
ORDER BY r.id LIMIT 100;
