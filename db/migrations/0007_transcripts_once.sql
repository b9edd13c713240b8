-- no-transaction
-- works with: 2
CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS transcripts_once ON transcripts (recording_id, run_key, forced_by);
