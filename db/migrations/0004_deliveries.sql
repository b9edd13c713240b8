-- Deliveries: which day was sent to which target, what of it, and how far that is.
-- works with: 2

CREATE TABLE deliveries (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    day_id bigint NOT NULL REFERENCES days,
    target text NOT NULL CHECK (target ~ '^(ssh://|globus://|/)' AND length(target) <= 2000),
    state text NOT NULL DEFAULT 'wanted' CHECK (state IN ('wanted', 'sending', 'verified', 'failed')),
    parts boolean NOT NULL,
    audio boolean NOT NULL,
    partial boolean NOT NULL DEFAULT false,
    again boolean NOT NULL DEFAULT false,
    by_job boolean NOT NULL DEFAULT false,
    attempt bigint NOT NULL DEFAULT 0,
    owner text NOT NULL,
    revision integer,
    stamp text,
    sent_parts boolean NOT NULL DEFAULT false,
    sent_audio boolean NOT NULL DEFAULT false,
    step text CHECK (step IN ('files', 'manifest')),
    submission_id uuid,
    task_id uuid,
    polled timestamptz,
    files integer,
    bytes bigint,
    message text,
    created timestamptz NOT NULL DEFAULT now(),
    changed timestamptz NOT NULL DEFAULT now(),
    verified timestamptz,
    UNIQUE (day_id, target),
    CONSTRAINT verified_says_of_what CHECK (
        state <> 'verified' OR (verified IS NOT NULL AND stamp IS NOT NULL AND revision IS NOT NULL)),
    CONSTRAINT failed_says_why CHECK (state <> 'failed' OR message IS NOT NULL)
);
COMMENT ON TABLE deliveries IS 'one row for each day and target; what happened to it earlier is in events';
COMMENT ON COLUMN deliveries.target IS 'where to, as --to or deliver.to says it, {site} filled in; no secret is in it';
COMMENT ON COLUMN deliveries.parts IS 'asked for: the parts as well; audio: Opus audio as well';
COMMENT ON COLUMN deliveries.partial IS 'asked for: even if the day is not finished; again: even if it is there already';
COMMENT ON COLUMN deliveries.by_job IS 'jobs do it: what one of them left unfinished, the next takes on';
COMMENT ON COLUMN deliveries.polled IS 'the last sign of life of whoever sends it';
COMMENT ON COLUMN deliveries.attempt IS 'raised by whoever begins to send; who comes back with an older one changes nothing';
COMMENT ON COLUMN deliveries.revision IS 'of the day, as it was last begun to be sent';
COMMENT ON COLUMN deliveries.stamp IS 'digest of what the ledger knew of the day then; another one now: there is more to send';
COMMENT ON COLUMN deliveries.sent_parts IS 'what the target has of this stamp; sent_audio too';
COMMENT ON COLUMN deliveries.step IS 'what its mover was last asked to move; the manifest comes after all files are verified';
COMMENT ON COLUMN deliveries.submission_id IS 'stored before the mover is asked; task_id: its answer';
CREATE INDEX deliveries_open ON deliveries (id) WHERE state IN ('wanted', 'sending');

GRANT SELECT ON deliveries TO @scheduler@, @worker@, @monitor@, @purger@;
GRANT INSERT, UPDATE ON deliveries TO @scheduler@;
