"""A bundle is verified whole or refused with the file, the fault and the remedy."""

import shutil
from pathlib import Path

import msgspec
import pytest

from classifier import bundle
from classifier.bundle import CARD, MANIFEST, MODEL, TOKENIZER, BundleError
from tests.classifier.conftest import Tiny


@pytest.fixture
def copied(tiny: Tiny, tmp_path: Path) -> Path:
    """A copy of the tiny bundle that a test may spoil."""
    return Path(shutil.copytree(tiny.directory, tmp_path / "bundle"))


def rewrite(directory: Path, **changes: object) -> None:
    """Change fields of a manifest in place."""
    manifest = bundle.read_manifest(directory)
    bundle.write_manifest(directory, msgspec.structs.replace(manifest, **changes))


def test_good_bundle_loads(tiny: Tiny) -> None:
    """Paths, manifest and identity of a whole bundle."""
    loaded = bundle.load(tiny.directory)

    assert tiny.directory / MODEL == loaded.model
    assert tiny.manifest == loaded.manifest
    assert bundle.digest(tiny.manifest) == loaded.digest


def test_shipped_bundle_loads() -> None:
    """What is committed in onnx_models is whole, at most 12 MB, and found without being told where."""
    loaded = bundle.load()
    size = sum(file.stat().st_size for file in loaded.model.parent.iterdir() if file.is_file())

    assert loaded.model == bundle.DEFAULT_DIRECTORY / MODEL
    assert size <= 12_000_000


@pytest.mark.parametrize("name", [MODEL, TOKENIZER, MANIFEST])
def test_missing_file_is_named(copied: Path, name: str) -> None:
    """A missing file is refused by name, with what to do about it."""
    (copied / name).unlink()

    with pytest.raises(BundleError, match=f"{name}.*cannot be read.*make train"):
        bundle.load(copied)


@pytest.mark.parametrize("name", [MODEL, TOKENIZER])
def test_tampered_file_is_named(copied: Path, name: str) -> None:
    """One byte more, and the bundle does not load."""
    with (copied / name).open("ab") as file:
        file.write(b" ")

    with pytest.raises(BundleError, match=f"{name}: has sha256 .*make train"):
        bundle.load(copied)


def test_file_missing_from_manifest_is_named(copied: Path) -> None:
    """A manifest that does not list a file vouches for nothing."""
    rewrite(copied, files={})

    with pytest.raises(BundleError, match=f"{MODEL}: is not listed"):
        bundle.load(copied)


def test_other_feature_version_is_refused(copied: Path) -> None:
    """A network trained on other features must not serve."""
    rewrite(copied, feature_version=999)

    with pytest.raises(BundleError, match=r"manifest\.json: was trained on features 999"):
        bundle.load(copied)


def test_other_tasks_are_refused(copied: Path) -> None:
    """Task indices mean nothing under another list of tasks."""
    rewrite(copied, tasks=("code",))

    with pytest.raises(BundleError, match="knows the tasks code, this code"):
        bundle.load(copied)


def test_broken_manifest_is_named(copied: Path) -> None:
    """What is not a manifest says so."""
    (copied / MANIFEST).write_text("{")

    with pytest.raises(BundleError, match=r"manifest\.json: is not a manifest"):
        bundle.load(copied)


def test_digest_follows_verdicts_only(tiny: Tiny) -> None:
    """New figures leave the identity alone, a new calibration does not."""
    measured = msgspec.structs.replace(tiny.manifest, metrics={"new": 1})
    shifted = msgspec.structs.replace(tiny.manifest.calibration, bias=9.0)
    recalibrated = msgspec.structs.replace(tiny.manifest, calibration=shifted)

    assert bundle.digest(tiny.manifest) == bundle.digest(measured)
    assert bundle.digest(tiny.manifest) != bundle.digest(recalibrated)


def test_manifest_survives_writing(tiny: Tiny, tmp_path: Path) -> None:
    """Reading gives back what was written, and equal manifests are equal bytes."""
    bundle.write_manifest(tmp_path, tiny.manifest)
    first = (tmp_path / MANIFEST).read_bytes()
    bundle.write_manifest(tmp_path, bundle.read_manifest(tmp_path))

    assert first == (tmp_path / MANIFEST).read_bytes()
    assert CARD not in tiny.manifest.files
