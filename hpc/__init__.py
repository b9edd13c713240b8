"""The pipeline: from a day's audio at its source to transcripts in the ledger."""
