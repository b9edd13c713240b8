-- name: banner
-- What every page asks: how long ago somebody's tick was, whether scheduling is paused.
SELECT (SELECT extract(epoch FROM clock_timestamp() - max(began))::float8 FROM ticks) AS tick_ago,
    (SELECT why FROM pauses WHERE what = 'scheduling') AS paused;

-- name: leases
-- Through the indexes on leases, those of plans too: how many are held, how many lapsed, and since when the oldest has.
SELECT count(*) AS held, count(*) FILTER (WHERE lease_until < clock_timestamp()) AS lapsed,
    extract(epoch FROM clock_timestamp() - min(lease_until) FILTER (WHERE lease_until < clock_timestamp()))::float8 AS oldest_lapsed
FROM (SELECT lease_until FROM shards WHERE state = 'leased'
    UNION ALL SELECT lease_until FROM plan_shards WHERE state = 'leased') l;

-- name: abandoned
-- What every page asks, too: leases that ran out so long ago, and nobody took the shard over.
SELECT count(*) AS shards FROM (
    SELECT FROM shards WHERE state = 'leased' AND lease_until < clock_timestamp() - %(since)s
    UNION ALL SELECT FROM plan_shards WHERE state = 'leased' AND lease_until < clock_timestamp() - %(since)s) l;

-- name: last_output
-- Parts are numbered as they are recorded.
SELECT extract(epoch FROM clock_timestamp() - recorded)::float8 AS seconds_ago FROM parts ORDER BY id DESC LIMIT 1;

-- name: days_by_state
SELECT i.name AS site, d.state, count(*) AS days FROM days d JOIN sites i ON i.id = d.site_id GROUP BY 1, 2 ORDER BY 1, 2;

-- name: jobs_by_state
-- Those that are not over, through their partial index.
SELECT kind, state, count(*) AS jobs, coalesce(sum(array_size), 0)::bigint AS tasks FROM jobs
WHERE state IN ('intent', 'submitted', 'running', 'draining', 'blocked', 'unknown') GROUP BY 1, 2 ORDER BY 1, 2;

-- name: live_plans
-- Those that are not over, as `plans list --live` lists them.
SELECT state, count(*) AS plans FROM plans WHERE state IN ('drawn', 'open', 'paused') GROUP BY 1 ORDER BY 1;

-- name: sizes
SELECT pg_database_size(current_database()) AS database;

-- name: tables
SELECT c.relname AS name, pg_total_relation_size(c.oid) AS bytes FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = 'dayscribe' AND c.relkind = 'r' ORDER BY 2 DESC LIMIT 8;

-- name: work
-- What all finished days took, by their summaries, and the last thirty of them.
WITH done AS (
    SELECT (summary ->> 'audio_seconds')::float8 AS audio, (summary ->> 'engine_seconds')::float8 AS engine,
        (summary ->> 'recordings')::bigint AS recordings, (summary ->> 'transcribed')::bigint AS transcribed,
        (summary ->> 'no_speech')::bigint AS no_speech, (summary ->> 'quarantined')::bigint AS quarantined,
        row_number() OVER (ORDER BY finished DESC) AS place
    FROM days WHERE state IN ('completed', 'completed_with_errors')
)
SELECT coalesce(sum(audio), 0) AS audio, coalesce(sum(engine), 0) AS engine, coalesce(sum(recordings), 0)::bigint AS recordings,
    coalesce(sum(transcribed), 0)::bigint AS transcribed, coalesce(sum(no_speech), 0)::bigint AS no_speech,
    coalesce(sum(quarantined), 0)::bigint AS quarantined,
    coalesce(sum(audio) FILTER (WHERE place <= 30), 0) AS recent_audio,
    coalesce(sum(engine) FILTER (WHERE place <= 30), 0) AS recent_engine
FROM done;

-- name: tasks
-- The last tasks that ended with a record: how much of their time with a model was spent in the engine.
SELECT coalesce(sum((t.record ->> 'work_seconds')::float8), 0) AS work, count(*) AS tasks
FROM (SELECT record FROM job_tasks WHERE record IS NOT NULL AND ended IS NOT NULL ORDER BY ended DESC LIMIT 500) t;

-- name: gpus
-- Hours of GPUs that our tasks held, of all that there ever were (a row a start: few); and of the last 500 that ended, how
-- much of the time of those with a GPU the engine was at work, and the middle one's seconds of audio by second of work.
WITH asked AS (
    SELECT id, finished, CASE WHEN settings ->> 'gres' ~ 'gpu'
        THEN coalesce(substring(settings ->> 'gres' FROM ':([0-9]{1,3})$')::integer, 1) ELSE 0 END AS gpus
    FROM jobs WHERE kind IN ('process', 'redo')
), recent AS (
    SELECT greatest(extract(epoch FROM k.ended - k.began), 0)::float8 AS seconds, (k.record ->> 'engine_seconds')::float8 AS engine,
        (k.record ->> 'work_seconds')::float8 AS work, (k.record ->> 'audio_seconds')::float8 AS audio, k.gpus > 0 AS gpu
    FROM (SELECT o.ended, o.began, o.record, j.gpus FROM job_tasks o JOIN asked j ON j.id = o.job_id
        WHERE o.began IS NOT NULL AND o.ended IS NOT NULL ORDER BY o.ended DESC LIMIT 500) k
)
SELECT (SELECT coalesce(sum(j.gpus * greatest(extract(epoch FROM coalesce(k.ended, j.finished, clock_timestamp()) - k.began), 0)), 0)::float8 / 3600
        FROM job_tasks k JOIN asked j ON j.id = k.job_id WHERE j.gpus > 0 AND k.began IS NOT NULL) AS hours,
    (SELECT sum(engine) / nullif(sum(seconds), 0) FROM recent WHERE gpu) AS busy, (SELECT count(*) FROM recent WHERE gpu) AS tasks,
    (SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY audio / work) FROM recent WHERE audio > 0 AND work > 0) AS real_time;
