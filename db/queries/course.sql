-- name: jobs
-- A day's jobs, newest first, each with when its tasks were at work.
SELECT j.id, j.token, j.kind, j.state, j.owner, j.scheduler_id, j.array_size AS tasks, j.scheduler_says, j.message, j.created,
    j.finished, j.exit_record AS witnesses, j.plan_id, t.began, t.ended, t.at_work
FROM jobs j CROSS JOIN LATERAL (
    SELECT min(k.began) AS began, max(k.ended) AS ended,
        count(*) FILTER (WHERE k.began IS NOT NULL AND k.ended_as IS NULL) AS at_work
    FROM job_tasks k WHERE k.job_id = j.id
) t
WHERE j.day_id = %(day_id)s ORDER BY j.id DESC LIMIT %(limit)s;

-- name: ends
-- How the last start of each task ended, counted; NULL: it did not end yet, or nobody can say how.
SELECT job_id, ended_as, count(*) AS tasks FROM (
    SELECT DISTINCT ON (job_id, task) job_id, task, ended_as FROM job_tasks WHERE job_id = ANY (%(jobs)s)
    ORDER BY job_id, task, restart DESC
) k GROUP BY job_id, ended_as ORDER BY job_id, ended_as NULLS FIRST;

-- name: starts
-- Of each job a few starts of its tasks: those that did not end well first.
SELECT k.job_id, k.task, k.restart, k.node, k.scheduler_says, k.exit_code, k.ended_as, k.record ->> 'reason' AS reason, k.began, k.ended
FROM unnest(%(jobs)s::bigint[]) AS j (id) CROSS JOIN LATERAL (
    SELECT * FROM job_tasks o WHERE o.job_id = j.id ORDER BY coalesce(o.ended_as = 'done', false), o.task, o.restart LIMIT %(limit)s
) k ORDER BY k.job_id DESC, k.task, k.restart;

-- name: minute
SELECT date_trunc('minute', clock_timestamp()) AS now;
