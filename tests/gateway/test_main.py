"""`python -m gateway` is `thriftgate`."""

import subprocess
import sys


def test_the_module_is_the_command() -> None:
    """It lists the commands and knows no other."""
    helped = subprocess.run([sys.executable, "-m", "gateway", "--help"], capture_output=True, text=True, check=True)
    unknown = subprocess.run([sys.executable, "-m", "gateway", "nope"], capture_output=True, text=True, check=False)

    assert "serve" in helped.stdout
    assert "No such command 'nope'" in unknown.stderr
    assert unknown.returncode == 2
