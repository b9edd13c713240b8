"""The demo model's tokens: bytes, merges until each word of the vocabulary is one token, Whisper's special tokens."""

from __future__ import annotations

import json
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

from hpc.demo.speech import WORDS

# In Whisper's order: what comes before <|endoftext|> is text. There are no timestamp tokens.
SPECIAL = (
    "<|endoftext|>", "<|startoftranscript|>", "<|en|>", "<|translate|>", "<|transcribe|>", "<|startoflm|>",
    "<|startofprev|>", "<|nospeech|>", "<|notimestamps|>",
)  # fmt: skip


def build() -> Tokenizer:
    """Make the tokenizer; the same vocabulary always gives the same ids."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=10_000,  # more than there are merges: train to the end
        min_frequency=1,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([" " + word for word in WORDS], trainer)
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    return tokenizer


TOKENIZER = build()
SIZE = TOKENIZER.get_vocab_size()
WORD = {word: TOKENIZER.token_to_id("Ġ" + word) for word in WORDS}
STOP = TOKENIZER.token_to_id(".")
SPACE = TOKENIZER.token_to_id("Ġ")
END, START, ENGLISH, TRANSLATE, TRANSCRIBE, _, PREVIOUS, NO_SPEECH, NO_TIMES = (
    TOKENIZER.token_to_id(token) for token in SPECIAL
)
PROMPT = (START, NO_TIMES)  # what whisperx gives an English-only model


def save(folder: Path) -> None:
    """Write the files that transformers' WhisperTokenizer reads."""
    TOKENIZER.save(str(folder / "tokenizer.json"), pretty=False)
    TOKENIZER.model.save(str(folder))
    settings = {
        "tokenizer_class": "WhisperTokenizer",
        **{f"{role}_token": SPECIAL[0] for role in ("bos", "eos", "pad", "unk")},
        "additional_special_tokens": list(SPECIAL),
        "add_prefix_space": False,
        "model_max_length": 448,
        "errors": "replace",
        "clean_up_tokenization_spaces": False,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=1) + "\n")
