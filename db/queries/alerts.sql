-- name: one_at_a_time
-- Two that look at once would undo each other's word; each sees what the one before it wrote.
LOCK TABLE alerts IN SHARE ROW EXCLUSIVE MODE;

-- name: put
-- What is amiss: a new row, or another message in the one that is open.
INSERT INTO alerts (kind, subject, message, fix)
SELECT kind, subject, message, fix FROM unnest(%(kind)s::text[], %(subject)s::text[], %(message)s::text[], %(fix)s::text[])
    AS f (kind, subject, message, fix)
ON CONFLICT (kind, subject) WHERE cleared IS NULL DO UPDATE SET message = EXCLUDED.message, fix = EXCLUDED.fix
WHERE (alerts.message, alerts.fix) IS DISTINCT FROM (EXCLUDED.message, EXCLUDED.fix);

-- name: clear
-- What was amiss and is no longer; whoever was told of it, or may have been, is to be told of that too.
WITH over AS (
    UPDATE alerts a SET cleared = clock_timestamp() WHERE a.cleared IS NULL AND a.kind = ANY (%(judged)s)
        AND NOT EXISTS (SELECT FROM unnest(%(kind)s::text[], %(subject)s::text[]) AS f (kind, subject)
            WHERE f.kind = a.kind AND f.subject = a.subject)
    RETURNING a.id
)
INSERT INTO alert_notices (alert_id, channel, what)
SELECT n.alert_id, n.channel, 'cleared' FROM over JOIN alert_notices n ON n.alert_id = over.id AND n.what = 'found'
ON CONFLICT DO NOTHING;

-- name: open
SELECT id, kind, subject, message, fix, since FROM alerts WHERE cleared IS NULL ORDER BY id;

-- name: claim_found
-- What is amiss and was not said by this way yet, nor is being said.
INSERT INTO alert_notices (alert_id, channel, what, attempt, until)
SELECT a.id, %(channel)s, 'found', 1, clock_timestamp() + %(lease)s FROM alerts a WHERE a.cleared IS NULL ORDER BY a.id
ON CONFLICT (alert_id, channel, what) DO UPDATE SET attempt = alert_notices.attempt + 1, until = EXCLUDED.until
WHERE alert_notices.said IS NULL AND coalesce(alert_notices.until <= clock_timestamp(), true)
RETURNING alert_id AS id, what, attempt;

-- name: claim_cleared
-- What is over; not of what was found anew since, which is said instead.
UPDATE alert_notices n SET attempt = n.attempt + 1, until = clock_timestamp() + %(lease)s FROM alerts a
WHERE a.id = n.alert_id AND n.channel = %(channel)s AND n.what = 'cleared' AND n.said IS NULL
    AND coalesce(n.until <= clock_timestamp(), true)
    AND NOT EXISTS (SELECT FROM alerts later WHERE later.kind = a.kind AND later.subject = a.subject AND later.id > a.id)
RETURNING n.alert_id AS id, n.what, n.attempt;

-- name: of_ids
SELECT id, kind, subject, message, fix, since, cleared FROM alerts WHERE id = ANY (%(ids)s) ORDER BY id;

-- name: said
-- Whoever sent it has said it, even if it took so long that another tries as well.
UPDATE alert_notices n SET said = clock_timestamp() FROM unnest(%(ids)s::bigint[], %(whats)s::text[]) AS s (id, what)
WHERE n.alert_id = s.id AND n.channel = %(channel)s AND n.what = s.what AND n.said IS NULL;

-- name: put_back
-- It could not be sent: the next who looks tries again, if that is not being done already.
UPDATE alert_notices n SET until = NULL
FROM unnest(%(ids)s::bigint[], %(whats)s::text[], %(attempts)s::integer[]) AS s (id, what, attempt)
WHERE n.alert_id = s.id AND n.channel = %(channel)s AND n.what = s.what AND n.attempt = s.attempt AND n.said IS NULL;

-- name: ticks
-- The last tick of each user; `minds`: something of his waits for the next one. `newest`: nobody ticked after him.
SELECT t.owner, t.host, extract(epoch FROM clock_timestamp() - t.began)::float8 AS seconds_ago,
    t.began = max(t.began) OVER () AS newest,
    EXISTS (SELECT FROM jobs j WHERE j.owner = t.owner
        AND j.state IN ('intent', 'submitted', 'running', 'draining', 'blocked', 'unknown'))
    OR EXISTS (SELECT FROM transfers m WHERE m.owner = t.owner AND m.finished IS NULL) AS minds
FROM ticks t ORDER BY t.owner;

-- name: waits_for_a_person
-- Transfers that stand still until somebody logs in or consents.
SELECT i.name AS site, t.owner, t.state, min(d.date) AS date, count(*) AS transfers, min(t.message) AS message
FROM transfers t JOIN days d ON d.id = t.day_id JOIN sites i ON i.id = d.site_id
WHERE t.finished IS NULL AND t.state IN ('needs_login', 'needs_consent') GROUP BY 1, 2, 3 ORDER BY 1, 2, 3;

-- name: failed_days
SELECT i.name AS site, d.date, d.state, d.message FROM days d JOIN sites i ON i.id = d.site_id
WHERE d.state IN ('transfer_failed', 'processing_failed') ORDER BY d.date, i.name;

-- name: blocked
-- Orders that the scheduler refuses, by whose they are and what it says.
SELECT owner, coalesce(message, '') AS message, count(*) AS jobs, min(id) AS id FROM jobs WHERE state = 'blocked'
GROUP BY 1, 2 ORDER BY 4;

-- name: lapsed
-- Leases that ran out, and nobody has taken the shard over since.
SELECT i.name AS site, d.date, count(*) AS shards, max(l.seconds)::float8 AS seconds FROM (
    SELECT s.day_id, extract(epoch FROM clock_timestamp() - s.lease_until) AS seconds FROM shards s WHERE s.state = 'leased'
    UNION ALL
    SELECT p.day_id, extract(epoch FROM clock_timestamp() - p.lease_until) FROM plan_shards p WHERE p.state = 'leased'
) l JOIN days d ON d.id = l.day_id JOIN sites i ON i.id = d.site_id
WHERE l.seconds >= %(seconds)s GROUP BY 1, 2 ORDER BY 2, 1;

-- name: open_work
-- How much work is open, and since how long the oldest of it.
WITH work AS (
    SELECT coalesce((SELECT max(e.at) FROM events e WHERE e.day_id = d.id
        AND e.what IN ('day.ready_to_process', 'day.released')), d.created) AS since
    FROM days d WHERE d.state IN ('ready_to_process', 'processing')
        AND EXISTS (SELECT FROM shards s WHERE s.day_id = d.id AND s.state IN ('ready', 'leased'))
    UNION ALL
    SELECT p.changed FROM plans p WHERE p.state = 'open'
        AND EXISTS (SELECT FROM plan_shards s WHERE s.plan_id = p.id AND s.state IN ('ready', 'leased')
            AND NOT EXISTS (SELECT FROM awaited a WHERE a.plan_id = s.plan_id AND a.shard_id = s.shard_id))
)
SELECT count(*) AS open, extract(epoch FROM clock_timestamp() - min(since))::float8 AS seconds FROM work;

-- name: wants_room
-- The first day whose archives wait to be fetched, for the first time or for a plan; whether there is room for them is asked elsewhere.
SELECT d.id, i.name AS site, d.date FROM days d JOIN sites i ON i.id = d.site_id
WHERE i.route <> '{}' AND (
    d.state IN ('pending', 'transferring') AND EXISTS (
        SELECT FROM files f WHERE f.day_id = d.id AND f.kind IN ('archive', 'loose') AND f.state IN ('listed', 'missing', 'wrong')
            AND f.transfer_id IS NULL AND f.tries < %(attempts)s)
    OR d.id IN (
        SELECT day_id FROM awaited WHERE plan_state = 'open' AND state = 'ready' AND transfer_id IS NULL AND tries < %(attempts)s))
ORDER BY d.date, i.name LIMIT 1;
