"""Reads the shipped demo model back into torch, so that its training can go on where no checkpoint is kept."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray

from hpc.errors import BadSetting
from models.demo.whisper import DECODER_LAYERS, ENCODER_LAYERS, DemoWhisper

_VERSION = 6  # of CTranslate2's binary form
_TYPES = (np.float32, np.int8, np.int16, np.int32, np.float16)  # by their ids in it


def load(directory: Path) -> DemoWhisper:
    """The network with the weights of a CTranslate2 directory; the head that is not shipped begins anew."""
    stored = _variables(directory / "model.bin")
    state: dict[str, NDArray[np.float32]] = {}
    for side, layers in (("encoder", ENCODER_LAYERS), ("decoder", DECODER_LAYERS)):
        state |= _norm(stored, f"{side}/layer_norm", f"{side}.layer_norm")
        for at in range(layers):
            state |= _layer(stored, f"{side}/layer_{at}", f"{side}.layers.{at}")
    for name in ("conv1", "conv2"):
        state |= _linear(stored, f"encoder/{name}", f"encoder.{name}")
    state["encoder.embed_positions.weight"] = stored["encoder/position_encodings/encodings"]
    state["decoder.embed_positions.weight"] = stored["decoder/position_encodings/encodings"]
    state["decoder.embed_tokens.weight"] = stored["decoder/embeddings/weight"]
    model = DemoWhisper()
    lacking = model.whisper.model.load_state_dict({name: torch.from_numpy(value) for name, value in state.items()})
    assert not lacking.missing_keys
    return model


def _layer(stored: dict[str, NDArray[np.float32]], theirs: str, ours: str) -> dict[str, NDArray[np.float32]]:
    """One layer; CTranslate2 keeps queries, keys and values of self-attention as one, keys and values of the other."""
    state = _norm(stored, f"{theirs}/self_attention/layer_norm", f"{ours}.self_attn_layer_norm")
    state |= _split(stored, f"{theirs}/self_attention/linear_0", f"{ours}.self_attn", ("q_proj", "k_proj", "v_proj"))
    state |= _linear(stored, f"{theirs}/self_attention/linear_1", f"{ours}.self_attn.out_proj")
    if f"{theirs}/attention/layer_norm/gamma" in stored:
        state |= _norm(stored, f"{theirs}/attention/layer_norm", f"{ours}.encoder_attn_layer_norm")
        state |= _linear(stored, f"{theirs}/attention/linear_0", f"{ours}.encoder_attn.q_proj")
        state |= _split(stored, f"{theirs}/attention/linear_1", f"{ours}.encoder_attn", ("k_proj", "v_proj"))
        state |= _linear(stored, f"{theirs}/attention/linear_2", f"{ours}.encoder_attn.out_proj")
    state |= _norm(stored, f"{theirs}/ffn/layer_norm", f"{ours}.final_layer_norm")
    state |= _linear(stored, f"{theirs}/ffn/linear_0", f"{ours}.fc1")
    return state | _linear(stored, f"{theirs}/ffn/linear_1", f"{ours}.fc2")


def _norm(stored: dict[str, NDArray[np.float32]], theirs: str, ours: str) -> dict[str, NDArray[np.float32]]:
    return {f"{ours}.weight": stored[f"{theirs}/gamma"], f"{ours}.bias": stored[f"{theirs}/beta"]}


def _linear(stored: dict[str, NDArray[np.float32]], theirs: str, ours: str) -> dict[str, NDArray[np.float32]]:
    return {f"{ours}.weight": stored[f"{theirs}/weight"], f"{ours}.bias": stored[f"{theirs}/bias"]}


def _split(
    stored: dict[str, NDArray[np.float32]], theirs: str, ours: str, names: tuple[str, ...]
) -> dict[str, NDArray[np.float32]]:
    """Several layers out of one; Whisper's keys have no bias, there it is all zeros."""
    weights, biases = (np.split(stored[f"{theirs}/{part}"], len(names)) for part in ("weight", "bias"))
    state = {f"{ours}.{name}.weight": weight for name, weight in zip(names, weights, strict=True)}
    return state | {f"{ours}.{name}.bias": bias for name, bias in zip(names, biases, strict=True) if name != "k_proj"}


def _variables(path: Path) -> dict[str, NDArray[np.float32]]:
    """Each variable of a model by its name, its numbers whole again where they were kept as small integers."""
    with path.open("rb") as file:
        if (version := _number(file, "I")) != _VERSION:
            raise BadSetting(f"{path} is of CTranslate2's form {version}; this reads {_VERSION}.")
        _name(file), _number(file, "I")
        raw = dict(_variable(file) for _ in range(_number(file, "I")))
    return {
        name: np.asarray(value / raw[f"{name}_scale"].reshape(-1, *[1] * (value.ndim - 1)), np.float32)
        if f"{name}_scale" in raw
        else np.asarray(value, np.float32)
        for name, value in raw.items()
    }


def _variable(file: BinaryIO) -> tuple[str, NDArray[Any]]:
    name = _name(file)
    shape = [_number(file, "I") for _ in range(_number(file, "B"))]
    kind, size = _TYPES[_number(file, "B")], _number(file, "I")
    return name, np.frombuffer(file.read(size), kind).reshape(shape)


def _name(file: BinaryIO) -> str:
    return file.read(_number(file, "H"))[:-1].decode()


def _number(file: BinaryIO, form: str) -> int:
    return int(struct.unpack(form, file.read(struct.calcsize(form)))[0])
