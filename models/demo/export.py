"""Turns the trained networks into the directories that whisperx loads, and locks their digests."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path

import torch
from ctranslate2.converters import TransformersConverter
from transformers import GenerationConfig, WhisperFeatureExtractor

from hpc.model import SAMPLE_RATE
from models.demo import align, digests, tokens
from models.demo.whisper import DECODER_LAYERS, HEADS, DemoWhisper

STORED_AS = "int8_float16"  # the smallest; loads with any compute type that the machine has


def export_asr(checkpoint: Path, directory: Path) -> None:
    """Write the speech model for CTranslate2. The name must end in .en: whisperx then asks for no language."""
    model = DemoWhisper()
    model.load_state_dict(torch.load(checkpoint, weights_only=True)["model"])
    whisper = model.whisper.eval()
    whisper.generation_config = GenerationConfig(
        bos_token_id=tokens.END,
        eos_token_id=tokens.END,
        pad_token_id=tokens.END,
        decoder_start_token_id=tokens.START,
        max_length=448,
        suppress_tokens=[],
        begin_suppress_tokens=[tokens.SPACE],
        is_multilingual=False,
        no_timestamps_token_id=tokens.NO_TIMES,
        lang_to_id={"<|en|>": tokens.ENGLISH},
        task_to_id={"transcribe": tokens.TRANSCRIBE, "translate": tokens.TRANSLATE},
        return_timestamps=False,
        forced_decoder_ids=[[1, tokens.NO_TIMES]],
        prev_sot_token_id=tokens.PREVIOUS,
        alignment_heads=[[DECODER_LAYERS - 1, head] for head in range(HEADS // 2)],
    )
    with tempfile.TemporaryDirectory() as folder:
        hugging = Path(folder)
        whisper.save_pretrained(hugging)
        WhisperFeatureExtractor(feature_size=80).save_pretrained(hugging)
        tokens.save(hugging)
        shutil.rmtree(directory, ignore_errors=True)
        converter = TransformersConverter(str(hugging), copy_files=["tokenizer.json", "preprocessor_config.json"])
        converter.convert(str(directory), quantization=STORED_AS)
    digests.write(directory)


def export_aligner(checkpoint: Path, directory: Path) -> None:
    """Write the aligner as transformers' Wav2Vec2ForCTC, in half precision."""
    model = align.build()
    model.load_state_dict(torch.load(checkpoint, weights_only=True)["model"])
    shutil.rmtree(directory, ignore_errors=True)
    model.eval().half().save_pretrained(directory)
    processor = "Wav2Vec2Processor"
    _write(directory / "vocab.json", align.LETTERS)
    _write(
        directory / "tokenizer_config.json",
        {
            "tokenizer_class": "Wav2Vec2CTCTokenizer",
            "pad_token": "<pad>",
            "unk_token": "<unk>",
            "word_delimiter_token": "|",
            "bos_token": None,
            "eos_token": None,
            "do_lower_case": True,
            "processor_class": processor,
        },
    )
    _write(
        directory / "preprocessor_config.json",
        {
            "feature_extractor_type": "Wav2Vec2FeatureExtractor",
            "feature_size": 1,
            "sampling_rate": SAMPLE_RATE,
            "padding_value": 0.0,
            "do_normalize": False,
            "return_attention_mask": False,
            "processor_class": processor,
        },
    )
    digests.write(directory)


def export_splitter(directory: Path) -> None:
    """Write the sentence splitter's data that whisperx.align reads: empty, so that every full stop ends a sentence."""
    english = directory / "tokenizers" / "punkt_tab" / "english"
    english.mkdir(parents=True, exist_ok=True)
    for name in ("collocations.tab", "sent_starters.txt", "abbrev_types.txt", "ortho_context.tab"):
        (english / name).write_text("")


def _write(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=1) + "\n")
