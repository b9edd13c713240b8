-- name: get
-- What is frozen of each day is read day by day, also where it is among the facts.
SELECT id, name, who, selection, facts - 'frozen' AS facts, created FROM snapshots WHERE name = %(name)s;

-- name: every
SELECT s.name, s.who, s.created, s.selection, s.facts -> 'totals' AS totals,
    (SELECT count(*) FROM snapshot_recordings r WHERE r.snapshot_id = s.id) AS recordings
FROM snapshots s ORDER BY s.name;

-- name: put
INSERT INTO snapshots (name, who, selection, facts) VALUES (%(name)s, %(who)s, %(selection)s, %(facts)s) RETURNING id;

-- name: put_day
INSERT INTO snapshot_days (snapshot_id, day_id, frozen) VALUES (%(snapshot_id)s, %(day_id)s, %(frozen)s);

-- name: put_recordings
-- Each with the transcript that is current now; the foreign key keeps that one in the ledger.
INSERT INTO snapshot_recordings (snapshot_id, recording_id, transcript_id)
SELECT %(snapshot_id)s, id, current_id FROM recordings WHERE id = ANY (%(ids)s);

-- name: begins
SELECT slot, begins FROM slots WHERE day_id = %(day_id)s AND kind = 'archive' AND begins IS NOT NULL ORDER BY slot;

-- name: failures
-- What a redo of a quarantined recording may change.
SELECT id, failure_class, failure_reason, seconds, flags FROM recordings
WHERE id = ANY (%(ids)s) AND current_id IS NULL ORDER BY id;

-- name: flags
SELECT r.id, f.flag, f.value FROM recordings r JOIN flags f ON f.transcript_id = r.current_id
WHERE r.id = ANY (%(ids)s) ORDER BY f.flag COLLATE "C", r.id;

-- name: unjudged
SELECT DISTINCT s.id FROM recordings r JOIN shards s ON s.id = r.shard_id
WHERE r.id = ANY (%(ids)s) AND coalesce(s.judged, 0) <= 0 ORDER BY s.id;

-- name: receipts
SELECT u.id, u.key, u.receipt, count(*) AS recordings FROM recordings r
JOIN transcripts t ON t.id = r.current_id JOIN runs u ON u.id = t.run_id
WHERE r.id = ANY (%(ids)s) GROUP BY u.id ORDER BY u.id;

-- name: frozen
-- What was frozen of one day beside its transcripts; snapshots of before schema 11 have it among their facts.
SELECT coalesce(k.frozen, s.facts #> ARRAY['frozen', %(day_id)s::text]) AS frozen
FROM snapshots s LEFT JOIN snapshot_days k ON k.snapshot_id = s.id AND k.day_id = %(day_id)s WHERE s.id = %(snapshot_id)s;

-- name: ids
SELECT f.recording_id AS id FROM snapshot_recordings f JOIN recordings r ON r.id = f.recording_id
WHERE f.snapshot_id = %(snapshot_id)s AND r.day_id = %(day_id)s ORDER BY f.recording_id;

-- name: rows
-- Recordings with the transcripts that were frozen; nothing in it ever changes.
SELECT r.id, i.name AS site, d.date, s.slot, s.name AS shard, r.shard_id, r.ordinal, r.meta_id, r.name, r.size, r.sha256,
    r.seconds, r.flags || coalesce(t.flags, '{}') AS flags, t.outcome, t.version, t.language, t.language_probability,
    t.avg_logprob, t.no_speech_prob, t.compression_ratio, t.coverage, t.text, t.words, t.chunks, t.word_count, t.run_key,
    t.run_id AS receipt_id
FROM snapshot_recordings f JOIN recordings r ON r.id = f.recording_id JOIN shards s ON s.id = r.shard_id
JOIN days d ON d.id = r.day_id JOIN sites i ON i.id = d.site_id LEFT JOIN transcripts t ON t.id = f.transcript_id
WHERE f.snapshot_id = %(snapshot_id)s AND f.recording_id = ANY (%(ids)s) ORDER BY r.id;
