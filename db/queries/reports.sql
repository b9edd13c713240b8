-- name: only_look
-- Whoever answers questions from outside may change nothing, and no question may take long.
SELECT set_config('default_transaction_read_only', 'on', false), set_config('statement_timeout', %(longest)s, false);

-- name: take_time
-- For this transaction only: whoever writes files between two pages holds no lock, and may pause on a slow disk.
SELECT set_config('idle_in_transaction_session_timeout', '10min', true);

-- name: recording
-- One recording by its id of the ledger, with what its platform says of it; an unsealed one has no words.
SELECT r.id, i.name AS site, d.date, s.slot, s.id AS shard_id, s.name AS shard, r.ordinal, r.meta_id, r.name, r.size, r.sha256,
    r.state, r.seconds, r.flags || coalesce(t.flags, '{}') AS flags, r.failure_class, r.failure_reason, t.version, t.language, t.language_probability, t.text, t.words, t.word_count,
    t.chunks, t.avg_logprob, t.no_speech_prob, t.compression_ratio, t.coverage,
    u.id AS receipt_id, u.receipt, u.key AS run_key, to_jsonb(m) - 'day_id' - 'meta_id' AS metadata
FROM recordings r JOIN shards s ON s.id = r.shard_id JOIN days d ON d.id = r.day_id JOIN sites i ON i.id = d.site_id
LEFT JOIN transcripts t ON t.id = r.current_id LEFT JOIN runs u ON u.id = t.run_id
LEFT JOIN metadata m ON m.day_id = r.day_id AND m.meta_id = r.meta_id
WHERE r.id = %(id)s;

-- name: place
-- Where a recording's bytes lie, if they still do.
SELECT r.id, r.ordinal, r.name, r.size, r.sha256, r.state, r.failure_class, s.loose, s.paths, d.staged,
    EXISTS (SELECT FROM files f WHERE f.day_id = s.day_id AND f.path = ANY (s.paths) AND f.state = 'removed') AS let_go
FROM recordings r JOIN shards s ON s.id = r.shard_id JOIN days d ON d.id = s.day_id WHERE r.id = %(id)s;

-- name: ids
-- The visible recordings of a day that a choice keeps, in its order. Unflagged is what was judged and has no flag.
SELECT r.id, r.state FROM recordings r JOIN shards s ON s.id = r.shard_id LEFT JOIN transcripts t ON t.id = r.current_id
WHERE r.day_id = %(day_id)s AND r.state <> 'provisional' AND (%(state)s::text IS NULL OR r.state = %(state)s)
    AND (%(languages)s::text[] IS NULL OR t.language = ANY (%(languages)s))
    AND (%(flags)s::text[] IS NULL
        OR EXISTS (SELECT FROM flags f WHERE f.transcript_id = r.current_id AND f.flag = ANY (%(flags)s))
        OR (%(unflagged)s AND r.current_id IS NOT NULL AND s.judged > 0
            AND NOT EXISTS (SELECT FROM flags f WHERE f.transcript_id = r.current_id)))
ORDER BY r.id;

-- name: rows
-- Recordings whole, for an export. By their ids: paging by a key of the day would walk over other days' rows.
SELECT r.id, i.name AS site, d.date, s.slot, l.begins AS slot_time, s.name AS shard, r.ordinal, r.name, r.size, r.sha256, r.state, r.seconds,
    r.flags || coalesce(t.flags, '{}') AS flags, r.failure_class, r.failure_reason, t.version, t.language,
    t.language_probability, t.avg_logprob, t.no_speech_prob, t.compression_ratio, t.coverage, t.text, t.words, t.chunks,
    t.word_count, t.run_key, t.run_id AS receipt_id, CASE WHEN t.id IS NOT NULL AND s.judged > 0 THEN coalesce(
        (SELECT jsonb_agg(jsonb_build_object('flag', f.flag, 'value', f.value) ORDER BY f.flag COLLATE "C")
            FROM flags f WHERE f.transcript_id = t.id), '[]'::jsonb) END AS quality_flags,
    r.meta_id, m.posted, m.description,
    m.location_created, m.text_language, m.author_id, m.author_name, m.author_nickname, m.author_verified, m.digg_count,
    m.share_count, m.comment_count, m.play_count, m.collect_count, m.music_id, m.music_title, m.music_author, m.video_seconds,
    m.subtitle_language, m.collected, m.country
FROM recordings r JOIN shards s ON s.id = r.shard_id JOIN days d ON d.id = r.day_id JOIN sites i ON i.id = d.site_id
LEFT JOIN slots l ON l.day_id = s.day_id AND l.slot = s.slot AND l.kind = 'archive'
LEFT JOIN transcripts t ON t.id = r.current_id
LEFT JOIN metadata m ON m.day_id = r.day_id AND m.meta_id = r.meta_id
WHERE r.id = ANY (%(ids)s) ORDER BY r.id;

-- name: unjudged
-- A shard that is not judged, is being judged (a mark below 0) or has to be anew, says nothing by having no flags.
SELECT count(*) AS transcripts FROM recordings r JOIN shards s ON s.id = r.shard_id
WHERE r.day_id = %(day_id)s AND r.current_id IS NOT NULL AND coalesce(s.judged, 0) <= 0;

-- name: receipts
-- The receipts of a day's current transcripts.
SELECT u.id, u.key, u.receipt, count(*) AS recordings FROM recordings r
JOIN transcripts t ON t.id = r.current_id JOIN runs u ON u.id = t.run_id
WHERE r.day_id = %(day_id)s GROUP BY u.id ORDER BY u.id;

-- name: versions
SELECT t.version, t.created, t.outcome, t.language, t.word_count, t.run_key, t.run_id AS receipt_id,
    coalesce(t.id = r.current_id, false) AS current
FROM transcripts t JOIN recordings r ON r.id = t.recording_id JOIN parts p ON p.id = t.part_id
WHERE t.recording_id = %(id)s AND (p.state = 'sealed' OR t.id = r.current_id) ORDER BY t.version;

-- name: leased
-- The shards in somebody's hands, through the index on leases; a lease that lapsed is nobody's.
SELECT i.name AS site, d.date, s.name AS shard, s.slot, s.owner, s.epoch, s.attempts, s.lease_until,
    extract(epoch FROM s.lease_until - clock_timestamp())::float8 AS seconds_left
FROM shards s JOIN days d ON d.id = s.day_id JOIN sites i ON i.id = d.site_id
WHERE s.state = 'leased' ORDER BY d.date, s.id LIMIT %(limit)s;

-- name: pinned
-- A version that may be shown: of a sealed part, or the one the world sees.
SELECT t.id, t.version, t.created, t.outcome, t.language, t.language_probability, t.text, t.words, t.chunks, t.word_count,
    t.avg_logprob, t.no_speech_prob, t.compression_ratio, t.coverage, r.flags || t.flags AS flags, t.run_key,
    u.id AS receipt_id, u.receipt, coalesce(t.id = r.current_id, false) AS current
FROM transcripts t JOIN recordings r ON r.id = t.recording_id JOIN parts p ON p.id = t.part_id JOIN runs u ON u.id = t.run_id
WHERE t.recording_id = %(id)s AND t.version = %(version)s AND (p.state = 'sealed' OR t.id = r.current_id);

-- name: flags_of
SELECT flag, value, detail FROM flags WHERE transcript_id = %(transcript_id)s ORDER BY flag;

-- name: captions
SELECT c.language, c.kind, c.text FROM recordings r JOIN captions c ON c.day_id = r.day_id AND c.meta_id = r.meta_id
WHERE r.id = %(id)s ORDER BY c.language, c.kind LIMIT 20;
