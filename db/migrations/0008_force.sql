-- A plan may be told to make a version of a key that is there; transcripts_once holds what this rule held.
-- works with: 2
DO $$
BEGIN
    IF NOT (SELECT indisvalid FROM pg_index WHERE indexrelid = 'transcripts_once'::regclass) THEN
        RAISE EXCEPTION 'transcripts_once is not whole: REINDEX INDEX transcripts_once, then run dayscribe db migrate again';
    END IF;
END $$;
ALTER TABLE transcripts DROP CONSTRAINT transcripts_recording_id_run_key_key;
