-- What a snapshot keeps of a day lies in a row a day: all in one outgrew what a row can hold at some million recordings.
-- works with: 2

CREATE TABLE snapshot_days (
    snapshot_id bigint NOT NULL REFERENCES snapshots,
    day_id bigint NOT NULL REFERENCES days,
    frozen jsonb NOT NULL,
    PRIMARY KEY (snapshot_id, day_id)
);
COMMENT ON COLUMN snapshot_days.frozen IS 'what may change of a recording: why it failed, its flags, when its slot begins; of older snapshots in snapshots.facts';

GRANT SELECT ON snapshot_days TO @scheduler@, @worker@, @monitor@, @purger@;
GRANT INSERT ON snapshot_days TO @scheduler@;
