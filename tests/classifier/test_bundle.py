"""A bundle is verified whole or refused with the file, the fault and the remedy."""

import shutil
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import msgspec
import pytest

from classifier import bundle
from classifier.bundle import CARD, FILES, HEADS, MANIFEST, MODEL, BundleError
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

    assert [tiny.directory / name for name in FILES] == [loaded.model, loaded.heads, loaded.tokenizer]
    assert tiny.manifest == loaded.manifest
    assert bundle.digest(tiny.manifest) == loaded.digest


def test_shipped_bundle_loads() -> None:
    """What is committed in onnx_models is whole, at most 12 MB, and found without being told where."""
    loaded = bundle.load()
    size = sum(file.stat().st_size for file in loaded.model.parent.iterdir() if file.is_file())

    assert loaded.model == bundle.DEFAULT_DIRECTORY / MODEL
    assert size <= 12_000_000


@pytest.mark.parametrize("name", [*FILES, MANIFEST, CARD])
def test_what_serves_is_in_the_wheel(name: str) -> None:
    """Every file of the shipped bundle is among those that the package carries: nothing is downloaded at run time."""
    project = tomllib.loads((bundle.DEFAULT_DIRECTORY.parent / "pyproject.toml").read_text(encoding="utf-8"))
    carried = project["tool"]["setuptools"]["package-data"]["onnx_models"]

    assert any(fnmatch(name, pattern) for pattern in carried)


@pytest.mark.parametrize("name", [*FILES, MANIFEST])
def test_missing_file_is_named(copied: Path, name: str) -> None:
    """A missing file is refused by name, with what to do about it."""
    (copied / name).unlink()

    with pytest.raises(BundleError, match=f"{name}.*cannot be read.*make train"):
        bundle.load(copied)


@pytest.mark.parametrize("name", FILES)
def test_tampered_file_is_named(copied: Path, name: str) -> None:
    """One byte more, and the bundle does not load."""
    with (copied / name).open("ab") as file:
        file.write(b" ")

    with pytest.raises(BundleError, match=f"{name}: has sha256 .*make train"):
        bundle.load(copied)


@pytest.mark.parametrize("name", FILES)
def test_file_missing_from_manifest_is_named(copied: Path, name: str) -> None:
    """A manifest that does not list a file does not vouch for it."""
    listed = bundle.read_manifest(copied).files
    rewrite(copied, files={other: listed[other] for other in FILES if other != name})

    with pytest.raises(BundleError, match=f"{name}: is not listed"):
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
    """New figures leave the identity alone; a new calibration, other ranks in the score and other heads do not."""
    identity = bundle.digest(tiny.manifest)
    fitted, replace = tiny.manifest.calibration, msgspec.structs.replace

    assert identity == bundle.digest(replace(tiny.manifest, metrics={"new": 1}, provenance={}))
    for changed in (
        replace(tiny.manifest, calibration=replace(fitted, bias=9.0)),
        replace(tiny.manifest, calibration=replace(fitted, ranks=(0.0, 0.0, 1.0))),
        replace(tiny.manifest, files={**tiny.manifest.files, HEADS: "0" * 64}),
    ):
        assert identity != bundle.digest(changed)


def test_manifest_survives_writing(tiny: Tiny, tmp_path: Path) -> None:
    """Reading gives back what was written, and equal manifests are equal bytes."""
    bundle.write_manifest(tmp_path, tiny.manifest)
    first = (tmp_path / MANIFEST).read_bytes()
    bundle.write_manifest(tmp_path, bundle.read_manifest(tmp_path))

    assert first == (tmp_path / MANIFEST).read_bytes()
    assert CARD not in tiny.manifest.files
