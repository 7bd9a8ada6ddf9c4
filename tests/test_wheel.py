"""What `pip install` brings: the wheel carries the classifier's files and runs without the checkout."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import orjson
import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("gateway", "classifier", "loadtest")
CARRIED = {
    "onnx_models/router.int8.onnx", "onnx_models/tokenizer.json", "onnx_models/manifest.json", "onnx_models/CARD.md",
    "onnx_models/heads.npy",
    "loadtest/gateway.yaml", "gateway/py.typed", "classifier/py.typed", "gateway/pricing/prices.json",
}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy of the checkout, without an index."""
    copy, out = tmp_path_factory.mktemp("source") / "checkout", tmp_path_factory.mktemp("wheel")
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".*", "build", "*.egg-info", "__pycache__"))
    build = ["wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", str(out), str(copy)]
    subprocess.run([sys.executable, "-m", "pip", *build], check=True, capture_output=True)
    return next(out.glob("thriftgate-*.whl"))


def test_it_carries_the_classifier(wheel: Path) -> None:
    """The classifier's files, the demo's configuration and the type markers are in it; tests and data are not."""
    names = set(zipfile.ZipFile(wheel).namelist())

    assert set() == CARRIED - names
    assert [] == [name for name in names if name.startswith(("tests/", "shared/", "."))]


def test_it_carries_every_module(wheel: Path) -> None:
    """Whatever module is in the checkout is in it as well."""
    names = set(zipfile.ZipFile(wheel).namelist())
    modules = {str(path.relative_to(ROOT)) for folder in PACKAGES for path in (ROOT / folder).rglob("*.py")}

    assert set() == modules - names


def test_it_makes_a_store_without_the_checkout(wheel: Path, tmp_path: Path) -> None:
    """The migrations work from the wheel's files alone, in another directory."""
    zipfile.ZipFile(wheel).extractall(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", "import gateway.cli; gateway.cli.main(['migrate'])"], cwd=tmp_path, capture_output=True,
        check=True, env={**os.environ, "PYTHONPATH": str(tmp_path), "THRIFTGATE_DATA": str(tmp_path / "data"),
                         "OPENAI_API_KEY": "sk-none"},
    )

    assert b"The store was empty; it is of revision" in done.stdout


def test_it_judges_prompts_without_the_checkout(wheel: Path, tmp_path: Path) -> None:
    """`thriftgate classify` works from the wheel's files alone, in another directory."""
    zipfile.ZipFile(wheel).extractall(tmp_path)
    code = "import gateway.cli; gateway.cli.main(['classify', '--jsonl', '-'])"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, input=b'{"id":1,"prompt":"hello"}', capture_output=True, check=True,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )

    assert 1 == orjson.loads(done.stdout)["id"]
