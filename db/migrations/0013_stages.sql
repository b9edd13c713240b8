-- A plan says from which stage on its recordings are made again; and what judging them anew has changed.
-- works with: 2

ALTER TABLE plans ADD COLUMN stage text NOT NULL DEFAULT 'transcribe' CHECK (stage IN ('transcribe', 'align', 'enrich'));
COMMENT ON COLUMN plans.stage IS 'the first stage that is done anew: transcribe; align: the words get times; enrich: flags are judged';
ALTER TABLE plan_shards ADD COLUMN reads_audio boolean NOT NULL DEFAULT true, ADD COLUMN changes jsonb;
COMMENT ON COLUMN plan_shards.reads_audio IS 'whether its archive has to be here';
COMMENT ON COLUMN plan_shards.changes IS 'of enrich: flag -> how many transcripts gained it, lost it, have it with another number';
