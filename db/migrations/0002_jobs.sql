-- Jobs of a scheduler: orders with their owner, what each task came to, when a tick was last here, and a pause for all.
-- works with: 1

ALTER TABLE jobs DROP CONSTRAINT jobs_state_check;
ALTER TABLE jobs ADD CONSTRAINT jobs_state_check CHECK (state IN (
    'intent', 'submitted', 'running', 'draining', 'succeeded', 'failed', 'cancelled', 'replaced', 'blocked', 'unknown'));
ALTER TABLE jobs
    ADD COLUMN owner text NOT NULL DEFAULT '',
    ADD COLUMN mode text NOT NULL DEFAULT 'ledger' CHECK (mode IN ('ledger', 'plan')),
    ADD COLUMN settings jsonb NOT NULL DEFAULT '{}',
    ADD COLUMN code text,
    ADD COLUMN asked timestamptz,
    ADD COLUMN refusals integer NOT NULL DEFAULT 0,
    ADD COLUMN ready_at timestamptz NOT NULL DEFAULT now(),
    ADD COLUMN missing_since timestamptz,
    ADD COLUMN fruitful boolean,
    ADD CONSTRAINT ended_jobs_have_an_end CHECK (
        state NOT IN ('succeeded', 'failed', 'cancelled', 'replaced') OR finished IS NOT NULL);
COMMENT ON COLUMN jobs.owner IS 'the system''s user whose job it is; a tick touches only its own user''s';
COMMENT ON COLUMN jobs.mode IS 'plan: its tasks reach no ledger, their shards are in the job''s folder';
COMMENT ON COLUMN jobs.settings IS 'what was asked of the scheduler';
COMMENT ON COLUMN jobs.code IS 'digest of the code that its tasks run, whatever is installed meanwhile';
COMMENT ON COLUMN jobs.asked IS 'when the scheduler was last asked to take it; set before asking';
COMMENT ON COLUMN jobs.missing_since IS 'the first of the successful looks in a row that did not find it';
COMMENT ON COLUMN jobs.fruitful IS 'whether anything was recorded for its day while it lived; NULL while it lives';

-- One live order for each day and kind of work, whoever ticks and however many at once.
DROP INDEX jobs_open;
CREATE UNIQUE INDEX jobs_one_live ON jobs (coalesce(day_id, 0), kind)
    WHERE state IN ('intent', 'submitted', 'running', 'blocked', 'unknown');
CREATE INDEX jobs_live ON jobs (id)
    WHERE state IN ('intent', 'submitted', 'running', 'draining', 'blocked', 'unknown');
CREATE INDEX jobs_by_day ON jobs (day_id, id);
CREATE INDEX shards_by_owner ON shards (owner) WHERE state = 'leased';

CREATE TABLE job_tasks (
    job_id bigint NOT NULL REFERENCES jobs,
    task integer NOT NULL CHECK (task >= 0),
    restart integer NOT NULL CHECK (restart >= 0),
    node text,
    scheduler_says text,
    exit_code integer,
    ended_as text CHECK (ended_as IN (
        'done', 'stopped', 'superseded', 'try_again', 'settings', 'data', 'infrastructure', 'crash', 'cancelled', 'vanished')),
    record jsonb,
    began timestamptz,
    ended timestamptz,
    PRIMARY KEY (job_id, task, restart)
);
COMMENT ON TABLE job_tasks IS 'each start of a task: the scheduler''s word and the task''s own exit record';
CREATE INDEX job_tasks_failed_nodes ON job_tasks (ended) WHERE ended_as = 'infrastructure' AND node IS NOT NULL;
CREATE INDEX job_tasks_ended ON job_tasks (ended) WHERE record IS NOT NULL;

CREATE TABLE ticks (
    owner text PRIMARY KEY,
    host text NOT NULL,
    began timestamptz NOT NULL,
    took_ms integer NOT NULL,
    report jsonb NOT NULL
);
COMMENT ON TABLE ticks IS 'the last tick of each user; its age says whether anybody is minding the days';

CREATE TABLE pauses (
    what text PRIMARY KEY CHECK (what IN ('scheduling')),
    who text NOT NULL,
    why text NOT NULL,
    since timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE pauses IS 'while a row is here nothing new is submitted, and what waits in a queue is taken back';

GRANT SELECT ON job_tasks, ticks, pauses TO @scheduler@, @worker@, @monitor@, @purger@;
GRANT INSERT, UPDATE ON job_tasks, ticks TO @scheduler@;
GRANT INSERT, DELETE ON pauses TO @scheduler@;
-- A tick records the parts of tasks that reach no ledger.
GRANT INSERT ON runs, parts, recordings, transcripts TO @scheduler@;
GRANT UPDATE (state, current_id) ON recordings TO @scheduler@;
GRANT UPDATE (state) ON parts TO @scheduler@;
GRANT EXECUTE ON FUNCTION discard_provisional(bigint, bigint) TO @scheduler@;
