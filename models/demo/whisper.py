"""The demo model's network: Whisper's architecture, two million weights, started so that it learns quickly."""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from transformers import WhisperConfig, WhisperForConditionalGeneration

from hpc.demo.speech import WORDS
from models.demo import tokens

WIDTH, HEADS, ENCODER_LAYERS, DECODER_LAYERS = 128, 4, 3, 4
GUIDED_LAYERS = 3  # the last decoder layers, whose first half of cross-attention heads follows the spoken word
# Where each encoder head looks at first, in frames of 20 ms from its own.
_OFFSETS = ((-4, -1, 1, 4), (-9, -3, 3, 9), (-14, -5, 5, 14))


class DemoWhisper(nn.Module):  # type: ignore[misc]  # torch comes without types here
    """Whisper, with a head that names the word spoken in each frame: it teaches the encoder and is not shipped."""

    def __init__(self) -> None:
        super().__init__()
        self.whisper = WhisperForConditionalGeneration(_config())
        self.frame_head = nn.Linear(WIDTH, len(WORDS) + 1)
        self.attention: dict[int, Any] = {}  # of the guided layers, at the last forward pass
        _start_locally(self.whisper.model.encoder)
        decoder = self.whisper.model.decoder
        with torch.no_grad():
            decoder.embed_tokens.weight.normal_(0, WIDTH**-0.5)
            decoder.embed_positions.weight.copy_(self.whisper.model.encoder.embed_positions.weight[:448] * 0.1)
        for index in range(DECODER_LAYERS - GUIDED_LAYERS, DECODER_LAYERS):
            self._watch(index)

    def _watch(self, index: int) -> None:
        """Have a layer compute its attention openly, and keep it."""
        attention = self.whisper.model.decoder.layers[index].encoder_attn
        attention.config = copy.deepcopy(attention.config)
        attention.config._attn_implementation = "eager"
        attention.register_forward_hook(lambda _module, _inputs, output: self.attention.__setitem__(index, output[1]))

    def encode(self, mel: Any) -> Any:
        """Hidden states at 50 Hz. Whisper's own forward insists on 30 s; short windows are many times cheaper."""
        encoder = self.whisper.model.encoder
        hidden = F.gelu(encoder.conv2(F.gelu(encoder.conv1(mel)))).permute(0, 2, 1)
        hidden = hidden + encoder.embed_positions.weight[: hidden.shape[1]]
        for layer in encoder.layers:
            hidden = layer(hidden, None, layer_head_mask=None)[0]
        return encoder.layer_norm(hidden)

    def decode(self, ids: Any, encoded: Any) -> Any:
        """Scores of the next token at each place."""
        hidden = self.whisper.model.decoder(input_ids=ids, encoder_hidden_states=encoded, use_cache=False)[0]
        return self.whisper.proj_out(hidden)


def _config() -> Any:
    return WhisperConfig(
        vocab_size=tokens.SIZE,
        num_mel_bins=80,
        d_model=WIDTH,
        encoder_layers=ENCODER_LAYERS,
        decoder_layers=DECODER_LAYERS,
        encoder_attention_heads=HEADS,
        decoder_attention_heads=HEADS,
        encoder_ffn_dim=4 * WIDTH,
        decoder_ffn_dim=4 * WIDTH,
        max_source_positions=1500,
        max_target_positions=448,
        dropout=0.0,
        attention_dropout=0.0,
        pad_token_id=tokens.END,
        bos_token_id=tokens.END,
        eos_token_id=tokens.END,
        decoder_start_token_id=tokens.START,
        suppress_tokens=None,
        begin_suppress_tokens=None,
    )


def _start_locally(encoder: Any) -> None:
    """Start self-attention as soft shifts: queries pick sines of the position, keys the same sines moved by an offset.

    Without this the encoder spends thousands of steps finding out that neighbouring frames belong together.
    """
    size, half = WIDTH // HEADS, WIDTH // 2
    count = size // 2
    speed = torch.exp(-math.log(10_000) / (half - 1) * torch.arange(half))
    chosen = (torch.arange(count) * max(1, int(half * 0.6 / count))).tolist()  # the faster 60 % of the sines
    gain = 1.3
    with torch.no_grad():
        for layer, offsets in zip(encoder.layers, _OFFSETS, strict=True):
            query, key = layer.self_attn.q_proj.weight, layer.self_attn.k_proj.weight
            for head, offset in enumerate(offsets):
                for row, sine in enumerate(chosen, head * size):
                    cosine_row, cosine = row + count, half + sine
                    turn = float(speed[sine]) * offset
                    query[row, sine] += gain
                    query[cosine_row, cosine] += gain
                    key[row, sine] += gain * math.cos(turn)
                    key[row, cosine] -= gain * math.sin(turn)
                    key[cosine_row, cosine] += gain * math.cos(turn)
                    key[cosine_row, sine] += gain * math.sin(turn)
