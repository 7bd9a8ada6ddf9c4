"""The files that make one classifier, and the check that they belong together.

A bundle is a directory: network, heads, tokenizer, manifest and card. The manifest names the others' sha256 and the
feature version they were trained on, and carries where they come from. `load` verifies or raises: half a bundle never
serves.
(The pattern of a frozen layout beside the runtime is model2vec's.)
"""

import hashlib
from pathlib import Path
from typing import Any

import msgspec
import orjson

from classifier.calibration import Calibration
from classifier.features import FEATURES_VERSION, TASKS

MODEL, HEADS, TOKENIZER = "router.int8.onnx", "heads.npy", "tokenizer.json"
FILES = (MODEL, HEADS, TOKENIZER)  # what serves
MANIFEST, CARD = "manifest.json", "CARD.md"
DEFAULT_DIRECTORY = Path(__file__).resolve().parent.parent / "onnx_models"
REBUILD = "rebuild it with `make train`, or reinstall thriftgate"


class BundleError(Exception):
    """The classifier's files cannot serve. The message names the file, the fault and the remedy."""

    def __init__(self, path: Path, fault: str, remedy: str = REBUILD) -> None:
        """Say which file is at fault, how, and what to do about it."""
        super().__init__(f"{path}: {fault}; {remedy}")


class Manifest(msgspec.Struct, frozen=True):
    """What a bundle is made of. `provenance` and `metrics` are for people and the card; nothing is decided by them."""

    format: int
    feature_version: int
    files: dict[str, str]  # name → sha256, hexadecimal
    tasks: tuple[str, ...]
    calibration: Calibration
    default_threshold: float  # cheap iff p_cheap >= this, where a route says nothing else
    provenance: dict[str, Any]
    metrics: dict[str, Any]


class Bundle(msgspec.Struct, frozen=True):
    """A verified bundle: every path exists and holds what the manifest says."""

    model: Path
    heads: Path
    tokenizer: Path
    manifest: Manifest
    digest: str


def load(directory: Path | None = None) -> Bundle:
    """Verify the bundle in `directory` (default: the one shipped). Raises `BundleError` at the first fault."""
    directory = directory or DEFAULT_DIRECTORY
    manifest = read_manifest(directory)
    for name in FILES:
        _verify(directory / name, manifest.files.get(name))
    return Bundle(directory / MODEL, directory / HEADS, directory / TOKENIZER, manifest, digest(manifest))


def read_manifest(directory: Path) -> Manifest:
    """The manifest of `directory`, checked against this version of the code. Raises `BundleError`."""
    path = directory / MANIFEST
    try:
        manifest = msgspec.json.decode(path.read_bytes(), type=Manifest)
    except OSError as error:
        raise BundleError(path, f"cannot be read ({error.strerror})") from error
    except msgspec.MsgspecError as error:
        raise BundleError(path, f"is not a manifest of this version ({error})") from error
    if manifest.feature_version != FEATURES_VERSION:
        fault = f"was trained on features {manifest.feature_version}, this code reads features {FEATURES_VERSION}"
        raise BundleError(path, fault)
    if manifest.tasks != TASKS:
        raise BundleError(path, f"knows the tasks {', '.join(manifest.tasks)}, this code {', '.join(TASKS)}")
    return manifest


def write_manifest(directory: Path, manifest: Manifest) -> None:
    """Write `manifest` so that two equal ones are equal bytes."""
    options = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE
    (directory / MANIFEST).write_bytes(orjson.dumps(msgspec.to_builtins(manifest), option=options))


def digest(manifest: Manifest) -> str:
    """Twelve hexadecimal digits that change whenever a verdict could: by files, calibration or features."""
    decides = [manifest.feature_version, sorted(manifest.files.items()), msgspec.to_builtins(manifest.calibration)]
    return hashlib.sha256(orjson.dumps(decides)).hexdigest()[:12]


def sha256(path: Path) -> str:
    """Hexadecimal sha256 of a file. Raises `OSError`."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _verify(path: Path, expected: str | None) -> None:
    """Raise `BundleError` unless the file is there and is the one the manifest means."""
    if expected is None:
        raise BundleError(path, f"is not listed in {MANIFEST}")
    try:
        actual = sha256(path)
    except OSError as error:
        raise BundleError(path, f"cannot be read ({error.strerror})") from error
    if actual != expected:
        raise BundleError(path, f"has sha256 {actual[:12]}…, {MANIFEST} says {expected[:12]}…")
