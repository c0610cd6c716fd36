"""Checkpoints of score networks: weights in safetensors, what they are in its metadata, and a SHA-256 of both."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ...errors import InvalidInput
from .network import Architecture, ScoreNetwork
from .noising import Process
from .parameterization import Moments

#: Version of the format; raised when what is in a file changes.
FORMAT = 1


class Checkpoint(NamedTuple):
    """A score network, what it was trained by, and the digest of the file."""

    score: ScoreNetwork
    about: Mapping[str, Any]
    digest: str


def write(path: Path, score: ScoreNetwork, about: Mapping[str, Any]) -> str:
    """Write a checkpoint, whole or not at all; returns its SHA-256.

    Arguments: about: what else to keep (target, loss, steps, seed, errors), as JSON.
    """
    described = {
        "format": FORMAT,
        "dim": score.dim,
        "process": dataclasses.asdict(score.process),
        "parameterization": score.parameterization,
        "shape": dataclasses.asdict(score.shape),
        "about": dict(about),
    }
    tensors = {f"weights.{name}": value for name, value in score.network.state_dict().items()}
    tensors |= {f"moments.{name}": value for name, value in score.moments._asdict().items()}
    return write_tensors(path, tensors, described)


def read(path: Path) -> Checkpoint:
    """The checkpoint in a file; kept until the file changes.

    Errors: `InvalidInput`, one line, where there is no file, it is no checkpoint, its hash differs or shapes do not fit.
    """
    try:
        stat = path.stat()
    except OSError as error:
        raise InvalidInput(f"score must be oracle or the path of a checkpoint, got {path}: {error.strerror}") from None
    return _read(path, stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=16)
def _read(path: Path, changed: int, size: int) -> Checkpoint:
    tensors, described, digest = read_tensors(path)
    try:
        if described["format"] != FORMAT:
            raise InvalidInput(f"score must be a checkpoint of format {FORMAT}, got {path} of format {described['format']}")
        process, shape = Process(**described["process"]), Architecture(**described["shape"])
        moments = Moments(*(tensors[f"moments.{name}"] for name in Moments._fields))
        score = ScoreNetwork(described["dim"], process, described["parameterization"], shape, moments)
        about = described["about"]
    except (KeyError, TypeError) as error:
        raise InvalidInput(f"score must be a checkpoint, got {path}, which lacks or misnames {error}") from None
    wanted = score.network.state_dict()
    for name, value in wanted.items():
        found = tensors.get(f"weights.{name}")
        if found is None or found.shape != value.shape:
            came = "none" if found is None else str(tuple(found.shape))
            raise InvalidInput(f"{name} must have the shape {tuple(value.shape)} in the checkpoint {path}, got {came}")
    score.network.load_state_dict({name: tensors[f"weights.{name}"] for name in wanted})
    score.network.requires_grad_(False)
    return Checkpoint(score, about, digest)


def write_tensors(path: Path, tensors: Mapping[str, Tensor], described: Mapping[str, Any]) -> str:
    """Tensors and JSON as one safetensors file, put in place at once; returns the SHA-256 of both."""
    from safetensors.torch import save  # loaded where it is used

    whole = {name: value.detach().contiguous() for name, value in sorted(tensors.items())}
    text = json.dumps(described, sort_keys=True)
    digest = _digest(whole, text)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.write_bytes(save(whole, metadata={"mixrate": text, "sha256": digest}))
    os.replace(beside, path)
    return digest


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any], str]:
    """The tensors, the JSON and the SHA-256 of a file of `write_tensors`.

    Errors: `InvalidInput` where it is none, or was altered.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in sorted(file.keys())}
    except (SafetensorError, OSError, ValueError) as error:
        raise InvalidInput(f"score must be a checkpoint, got {path}: {' '.join(str(error).split())}") from None
    if not {"mixrate", "sha256"} <= metadata.keys():
        raise InvalidInput(f"score must be a checkpoint of mixrate, got {path}, a safetensors file of something else")
    digest = _digest(tensors, metadata["mixrate"])
    if digest != metadata["sha256"]:
        raise InvalidInput(f"the checkpoint {path} was altered: its SHA-256 must be {metadata['sha256'][:16]}..., got {digest[:16]}...")
    return tensors, json.loads(metadata["mixrate"]), digest


def _digest(tensors: Mapping[str, Tensor], text: str) -> str:
    """SHA-256 over the JSON and every tensor: name, dtype, shape, bytes."""
    digest = hashlib.sha256(text.encode())
    for name, value in tensors.items():
        digest.update(f"|{name}:{value.dtype}:{tuple(value.shape)}=".encode())
        digest.update(value.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
