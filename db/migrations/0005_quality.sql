-- Quality: how far a transcript can be trusted. Its chunks with their numbers, and the worst of these as columns.
-- works with: 2

ALTER TABLE transcripts
    ADD COLUMN chunks bytea,
    ADD COLUMN avg_logprob real,
    ADD COLUMN no_speech_prob real,
    ADD COLUMN compression_ratio real,
    ADD COLUMN coverage real;
-- Not validated: what is there knows none of these, and years of transcripts are not read under a lock.
ALTER TABLE transcripts ADD CONSTRAINT quality_is_in_numbers CHECK (
    avg_logprob BETWEEN -10000 AND 0 AND no_speech_prob BETWEEN 0 AND 1
    AND compression_ratio BETWEEN 0 AND 10000 AND coverage BETWEEN 0 AND 1) NOT VALID;
COMMENT ON COLUMN transcripts.chunks IS 'its chunks as one compressed value, packed like words; NULL: not told';
COMMENT ON COLUMN transcripts.avg_logprob IS 'the least of its chunks; NULL here and below: unknown';
COMMENT ON COLUMN transcripts.no_speech_prob IS 'the greatest of its chunks';
COMMENT ON COLUMN transcripts.compression_ratio IS 'the greatest of its chunks';
COMMENT ON COLUMN transcripts.coverage IS 'seconds of speech in all its chunks, by the recording''s seconds';
-- No grant: the roles have theirs on the whole table.
