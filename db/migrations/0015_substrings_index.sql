-- no-transaction
-- works with: 2
CREATE INDEX CONCURRENTLY IF NOT EXISTS transcripts_pieces ON transcripts USING gin (dayscribe.pieces(text))
    WHERE language = ANY ('{zh,yue,ja,th,lo,km,my}');
