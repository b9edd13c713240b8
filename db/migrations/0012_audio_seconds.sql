-- How much audio a part holds: how fast a day goes is told in seconds of audio, too, without counting its recordings.
-- works with: 2

ALTER TABLE parts ADD COLUMN audio_seconds real;
COMMENT ON COLUMN parts.audio_seconds IS 'of its recordings whose length is known; NULL: it was recorded before this was written';
