-- name: intend
-- The order, before anything is asked of the scheduler. Nothing comes back when the day has a live one of the kind.
INSERT INTO jobs (token, day_id, kind, owner, mode, settings, code, array_size, plan_id)
VALUES (%(token)s, %(day_id)s, %(kind)s, %(owner)s, %(mode)s, %(settings)s, %(code)s, %(tasks)s, %(plan_id)s)
ON CONFLICT DO NOTHING RETURNING id;

-- name: asking
-- Written before the scheduler is asked, by the one who asks: an order that somebody else took up in between is not ours.
UPDATE jobs SET asked = clock_timestamp(), array_size = %(tasks)s, settings = %(settings)s, message = NULL, state = 'intent'
WHERE id = %(id)s AND state IN ('intent', 'blocked') AND asked IS NOT DISTINCT FROM %(asked)s;

-- name: submitted
UPDATE jobs SET state = 'submitted', scheduler_id = %(scheduler_id)s, seen = clock_timestamp(), missing_since = NULL,
    message = NULL, array_size = coalesce(%(tasks)s, array_size)
WHERE id = %(id)s AND state IN ('intent', 'blocked');

-- name: blocked
UPDATE jobs SET state = 'blocked', message = %(message)s, refusals = refusals + 1, asked = NULL,
    ready_at = clock_timestamp() + %(wait)s
WHERE id = %(id)s AND state IN ('intent', 'blocked');

-- name: unanswered
UPDATE jobs SET message = %(message)s WHERE id = %(id)s AND state = 'intent';

-- name: seen
-- What a successful look shows of a live job; nothing is written when nothing changed but the time. A withdrawal stays one:
-- the tick that looks may not know of it yet, and the day may have its next order.
UPDATE jobs SET state = CASE state WHEN 'draining' THEN state ELSE %(state)s END, scheduler_says = %(says)s,
    message = %(message)s, seen = clock_timestamp(),
    missing_since = CASE WHEN %(missing)s THEN coalesce(missing_since, clock_timestamp()) ELSE NULL END
WHERE id = %(id)s AND state IN ('submitted', 'running', 'draining', 'unknown')
    AND (state, coalesce(scheduler_says, ''), coalesce(message, ''), missing_since IS NOT NULL)
        IS DISTINCT FROM (%(state)s, coalesce(%(says)s, ''), coalesce(%(message)s, ''), %(missing)s);

-- name: withdraw
-- Its pending tasks are taken back; the running ones go on. The day may get another order.
UPDATE jobs SET state = 'draining', message = %(message)s
WHERE id = %(id)s AND state IN ('submitted', 'running', 'unknown', 'blocked', 'intent');

-- name: close
UPDATE jobs SET state = %(state)s, message = %(message)s, scheduler_says = coalesce(%(says)s, scheduler_says),
    exit_record = %(witnesses)s, finished = clock_timestamp(), fruitful = %(fruitful)s
WHERE id = %(id)s AND state IN ('intent', 'submitted', 'running', 'draining', 'blocked', 'unknown');

-- name: live
-- The jobs that are not over, oldest first, with how long ago each was asked for, by the ledger's clock.
SELECT j.id, j.token, j.day_id, j.kind, j.state, j.owner, j.mode, j.scheduler_id, j.array_size AS tasks, j.settings, j.asked,
    j.refusals, j.message, j.scheduler_says, j.ready_at <= clock_timestamp() AS ready, i.name AS site, d.date,
    extract(epoch FROM clock_timestamp() - coalesce(j.asked, j.created))::float8 AS asked_ago,
    extract(epoch FROM clock_timestamp() - j.missing_since)::float8 AS missing_for,
    extract(epoch FROM clock_timestamp() - j.created)::float8 AS age, j.plan_id
FROM jobs j LEFT JOIN days d ON d.id = j.day_id LEFT JOIN sites i ON i.id = d.site_id
WHERE j.state IN ('intent', 'submitted', 'running', 'draining', 'blocked', 'unknown')
    AND (%(id)s::bigint IS NULL OR j.id = %(id)s)
ORDER BY j.id;

-- name: by_id
SELECT j.*, i.name AS site, d.date FROM jobs j LEFT JOIN days d ON d.id = j.day_id LEFT JOIN sites i ON i.id = d.site_id
WHERE j.id = %(id)s;

-- name: of_tokens
SELECT id, token, state, owner FROM jobs WHERE token = ANY (%(tokens)s);

-- name: latest
SELECT j.id, j.token, i.name AS site, d.date, j.kind, j.state, j.owner, j.scheduler_id, j.array_size AS tasks, j.scheduler_says,
    j.message, j.created, j.finished, j.settings
FROM jobs j LEFT JOIN days d ON d.id = j.day_id LEFT JOIN sites i ON i.id = d.site_id
WHERE (%(site)s::text IS NULL OR i.name = %(site)s) AND (%(start)s::date IS NULL OR d.date >= %(start)s)
    AND (%(stop)s::date IS NULL OR d.date <= %(stop)s)
    AND (NOT %(only_live)s OR j.state IN ('intent', 'submitted', 'running', 'draining', 'blocked', 'unknown'))
ORDER BY j.id DESC LIMIT %(limit)s;

-- name: put_task
INSERT INTO job_tasks (job_id, task, restart, node, scheduler_says, exit_code, ended_as, record, began, ended)
VALUES (%(job_id)s, %(task)s, %(restart)s, %(node)s, %(says)s, %(exit_code)s, %(ended_as)s, %(record)s, %(began)s,
    CASE WHEN %(ended_as)s::text IS NULL THEN NULL ELSE coalesce(%(ended)s, clock_timestamp()) END)
ON CONFLICT (job_id, task, restart) DO UPDATE SET node = coalesce(EXCLUDED.node, job_tasks.node),
    scheduler_says = coalesce(EXCLUDED.scheduler_says, job_tasks.scheduler_says),
    exit_code = coalesce(EXCLUDED.exit_code, job_tasks.exit_code), ended_as = coalesce(EXCLUDED.ended_as, job_tasks.ended_as),
    record = coalesce(EXCLUDED.record, job_tasks.record), began = coalesce(EXCLUDED.began, job_tasks.began),
    ended = coalesce(%(ended)s, job_tasks.ended, EXCLUDED.ended); -- without a record: when it was first seen so

-- name: tasks_of
SELECT task, restart, node, scheduler_says, exit_code, ended_as, record, began, ended FROM job_tasks
WHERE job_id = %(id)s ORDER BY task, restart;

-- name: bad_nodes
-- Nodes that failed again and again for reasons of their own, lately. Where no other node is known the reason is hardly the
-- node's, and without them nothing could run at all.
WITH bad AS (
    SELECT t.node FROM job_tasks t JOIN jobs j ON j.id = t.job_id
    WHERE j.kind IN ('process', 'redo') AND t.ended_as = 'infrastructure' AND t.node IS NOT NULL
        AND t.ended > clock_timestamp() - %(rest)s
    GROUP BY t.node HAVING count(*) >= %(failures)s
)
SELECT node FROM bad
WHERE EXISTS (
    SELECT FROM job_tasks t JOIN jobs j ON j.id = t.job_id
    WHERE j.kind IN ('process', 'redo') AND t.node IS NOT NULL AND t.node NOT IN (SELECT b.node FROM bad b)
        AND coalesce(t.ended, clock_timestamp()) > clock_timestamp() - %(rest)s
)
ORDER BY node;

-- name: backlog
-- The open days with work that can be claimed now, without a live order, oldest first; and how often an order for them
-- ended without anything recorded since the last that was fruitful, or since a person said to try again.
SELECT d.id, i.id AS site_id, i.name AS site, d.date, d.state, w.shards, w.bytes, f.fruitless,
    extract(epoch FROM clock_timestamp() - f.last)::float8 AS last_ago, f.reason
FROM days d JOIN sites i ON i.id = d.site_id
CROSS JOIN LATERAL (
    SELECT count(*) AS shards, coalesce(sum(size), 0)::bigint AS bytes FROM shards s WHERE s.day_id = d.id
        AND ((s.state = 'ready' AND s.ready_at <= now())
            OR (s.state = 'leased' AND s.lease_until < now() AND s.attempts < s.max_attempts))
) w
CROSS JOIN LATERAL (
    SELECT count(*) AS fruitless, max(j.finished) AS last, (array_agg(j.message ORDER BY j.id DESC))[1] AS reason
    FROM jobs j WHERE j.day_id = d.id AND j.kind = 'process' AND j.state = 'failed' AND NOT j.fruitful
        AND j.id > coalesce((SELECT max(k.id) FROM jobs k WHERE k.day_id = d.id AND k.fruitful), 0)
        AND j.created > coalesce((SELECT max(e.at) FROM events e WHERE e.day_id = d.id
            AND e.what IN ('day.retried', 'day.released')), '-infinity')
) f
WHERE d.state IN ('ready_to_process', 'processing') AND w.shards > 0
    AND NOT EXISTS (SELECT FROM jobs j WHERE j.day_id = d.id AND j.kind = 'process'
        AND j.state IN ('intent', 'submitted', 'running', 'blocked', 'unknown'))
ORDER BY d.date, i.name;

-- name: unwanted
-- Whether somebody cancelled work of this kind, which is of no one day, a short while ago.
SELECT EXISTS (SELECT FROM jobs WHERE day_id IS NULL AND kind = %(kind)s AND state = 'cancelled'
    AND finished > clock_timestamp() - interval '1 hour') AS so;

-- name: claimable
SELECT count(*) AS shards FROM shards s WHERE s.day_id = %(day_id)s
    AND ((s.state = 'ready' AND s.ready_at <= now())
        OR (s.state = 'leased' AND s.lease_until < now() AND s.attempts < s.max_attempts));

-- name: recorded_since
-- Whether anything of the day (or of what a plan has of it) was recorded while the job lived.
SELECT EXISTS (SELECT FROM parts p JOIN shards s ON s.id = p.shard_id WHERE s.day_id = %(day_id)s AND p.recorded >= j.created
        AND p.plan_id IS NOT DISTINCT FROM j.plan_id) AS fruitful,
    CASE WHEN j.plan_id IS NULL THEN (SELECT count(*) FROM shards s WHERE s.day_id = %(day_id)s AND s.state IN ('ready', 'leased'))
        ELSE (SELECT count(*) FROM plan_shards s WHERE s.plan_id = j.plan_id AND s.day_id = %(day_id)s
            AND s.state IN ('ready', 'leased')
            AND NOT EXISTS (SELECT FROM awaited a WHERE a.plan_id = s.plan_id AND a.shard_id = s.shard_id)) END AS open_shards
FROM jobs j WHERE j.id = %(id)s;

-- name: stuck_days
-- Days without an open shard that nobody closed.
SELECT d.id FROM days d WHERE d.state IN ('ready_to_process', 'processing')
    AND EXISTS (SELECT FROM shards s WHERE s.day_id = d.id)
    AND NOT EXISTS (SELECT FROM shards s WHERE s.day_id = d.id AND s.state IN ('ready', 'leased')) ORDER BY d.id;

-- name: speed
-- What the site's tasks got through lately: bytes of archives and seconds of tasks with a model loaded.
SELECT coalesce(sum((t.record ->> 'bytes')::float8), 0) AS bytes, coalesce(sum((t.record ->> 'work_seconds')::float8), 0) AS seconds,
    coalesce(max((t.record ->> 'load_seconds')::float8), 0) AS load_seconds
FROM (SELECT job_id, record FROM job_tasks WHERE record IS NOT NULL AND ended IS NOT NULL
    ORDER BY ended DESC LIMIT 500) t
JOIN jobs j ON j.id = t.job_id JOIN days d ON d.id = j.day_id
WHERE d.site_id = %(site_id)s AND (t.record ->> 'bytes')::float8 > 0;

-- name: put_tick
INSERT INTO ticks (owner, host, began, took_ms, report)
VALUES (%(owner)s, %(host)s, clock_timestamp() - %(took_ms)s * interval '1 ms', %(took_ms)s, %(report)s)
ON CONFLICT (owner) DO UPDATE SET host = EXCLUDED.host, began = EXCLUDED.began, took_ms = EXCLUDED.took_ms,
    report = EXCLUDED.report;

-- name: ticks
SELECT owner, host, began, took_ms, report, extract(epoch FROM clock_timestamp() - began)::float8 AS seconds_ago
FROM ticks ORDER BY owner;

-- name: pause
INSERT INTO pauses (what, who, why) VALUES ('scheduling', %(who)s, %(why)s) ON CONFLICT DO NOTHING;

-- name: unpause
DELETE FROM pauses WHERE what = 'scheduling';

-- name: paused
SELECT who, why, since FROM pauses WHERE what = 'scheduling';
