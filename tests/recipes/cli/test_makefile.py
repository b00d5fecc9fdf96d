"""What `make` may remove and where its packages come from; nothing is installed."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")


def make(*words: str) -> subprocess.CompletedProcess:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    return subprocess.run(
        ["make", "-C", str(ROOT), *words], env=environment, text=True, capture_output=True, check=False
    )


def demo(tmp_path: Path, folder: Path) -> subprocess.CompletedProcess:
    """`make demo` in an environment that counts as installed, with commands that do nothing."""
    (tmp_path / "venv" / "bin").mkdir(parents=True)
    for name in ("vanilla", "python"):
        (tmp_path / "venv" / "bin" / name).write_text("#!/bin/sh\n")
        (tmp_path / "venv" / "bin" / name).chmod(0o755)
    installed = tmp_path / "venv" / ".runtime"
    installed.touch()
    return make("demo", "-o", str(installed), f"VENV={tmp_path / 'venv'}", f"DEMO={folder}")


@pytest.mark.parametrize("tasks", [["translation"], ["translation", "sentiment", "generation"]])
def test_demo_replaces_the_last_one(tmp_path, tasks):
    last = tmp_path / "last"
    for task in tasks:
        (last / task).mkdir(parents=True)
    assert demo(tmp_path, last).returncode == 0
    assert not last.exists()


def test_demo_refuses_a_folder_that_is_none(tmp_path):
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").touch()
    done = demo(tmp_path, mine)
    assert done.returncode != 0
    assert f"{mine} is there, and holds other things than a demonstration: name another" in done.stderr
    assert (mine / "thesis.txt").is_file()


def test_every_install_gets_the_arguments_for_pip(tmp_path):
    lines = make("-n", "lint", f"VENV={tmp_path / 'venv'}", "PIP_ARGS=--extra-index-url ADDRESS").stdout.splitlines()
    installs = [line for line in lines if "pip install" in line]
    assert len(installs) == 2
    assert all("-c constraints.txt --extra-index-url ADDRESS -e" in line for line in installs)
