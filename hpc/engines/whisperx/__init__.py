"""Speech to text by WhisperX: many recordings at once (`batched`), or one after the other as it does (`per_file`).

    audios ─► speech ─► generation ─► placing ─► answers
    stream    chunks    text, scores   word times   one a recording, when its last chunk has landed

Both say the same; tests/integration/engine holds them to that, and to unmodified WhisperX.
"""
