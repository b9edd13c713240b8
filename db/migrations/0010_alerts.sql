-- Alerts: what was amiss from when to when, and who was told of it by which way.
-- works with: 2

CREATE TABLE alerts (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind text NOT NULL CHECK (kind ~ '^[a-z][a-z_]{0,40}$'),
    subject text NOT NULL CHECK (length(subject) <= 300),
    message text NOT NULL,
    fix text NOT NULL DEFAULT '',
    since timestamptz NOT NULL DEFAULT clock_timestamp(),
    cleared timestamptz
);
COMMENT ON TABLE alerts IS 'one row for each time that something was amiss; found again later it is another row';
COMMENT ON COLUMN alerts.fix IS 'the command that mends it';
COMMENT ON COLUMN alerts.cleared IS 'when it was found no longer';
CREATE UNIQUE INDEX alerts_open ON alerts (kind, subject) WHERE cleared IS NULL;
CREATE INDEX alerts_of_subject ON alerts (kind, subject, id);

CREATE TABLE alert_notices (
    alert_id bigint NOT NULL REFERENCES alerts,
    channel text NOT NULL CHECK (channel ~ '^[a-z][a-z_]{0,40}$'),
    what text NOT NULL CHECK (what IN ('found', 'cleared')),
    attempt integer NOT NULL DEFAULT 0,
    until timestamptz,
    said timestamptz,
    PRIMARY KEY (alert_id, channel, what)
);
COMMENT ON TABLE alert_notices IS 'what people are told: the intent before it is sent, and when that was done';
COMMENT ON COLUMN alert_notices.until IS 'until then one process sends it, the attempt says which; after that another may. NULL: nobody does';
COMMENT ON COLUMN alert_notices.said IS 'NULL: it may have been sent or not, so it is sent again';
CREATE INDEX alert_notices_unsaid ON alert_notices (channel, what) WHERE said IS NULL;

GRANT SELECT ON alerts, alert_notices TO @scheduler@, @worker@, @monitor@, @purger@;
GRANT INSERT, UPDATE ON alerts, alert_notices TO @scheduler@;
