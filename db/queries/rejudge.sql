-- name: to_judge
-- Open plans that only judge anew, the oldest first.
SELECT p.id FROM plans p WHERE p.state = 'open' AND p.stage = 'enrich' ORDER BY p.id;

-- name: put_judged
-- Of the plan's recordings of a shard: whether any of their transcripts has other flags now.
UPDATE plan_recordings q SET outcome = CASE WHEN q.recording_id = ANY (%(changed)s) THEN 'remade' ELSE 'known' END,
    transcript_id = r.current_id, moved = true
FROM recordings r WHERE q.plan_id = %(plan_id)s AND q.shard_id = %(shard_id)s AND q.outcome IS NULL AND r.id = q.recording_id;

-- name: put_changes
UPDATE plan_shards SET changes = %(changes)s WHERE plan_id = %(plan_id)s AND shard_id = %(shard_id)s;
