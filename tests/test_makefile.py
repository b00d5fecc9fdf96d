"""What `make` may remove and where its packages come from; nothing is installed."""

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pytest
from project import ROOT, environment_outside_make

MAKE = shutil.which("make") or ""
pytestmark = pytest.mark.skipif(not MAKE, reason="there is no make")


def make(*words: str, folder: Path = ROOT, path: str | None = None) -> subprocess.CompletedProcess:
    environment = environment_outside_make() | ({"PATH": path} if path else {})
    return subprocess.run(
        [MAKE, "-C", str(folder), *words], env=environment, text=True, capture_output=True, check=False
    )


def command(file: Path, text: str = "") -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"#!/bin/sh\n{text}")
    file.chmod(0o755)


def demo(tmp_path: Path, folder: Path) -> subprocess.CompletedProcess:
    """`make demo` in an environment that counts as installed, with commands that do nothing."""
    for name in ("vanilla", "python"):
        command(tmp_path / "venv" / "bin" / name)
    installed = tmp_path / "venv" / ".runtime"
    installed.touch()
    return make("demo", "-o", str(installed), f"VENV={tmp_path / 'venv'}", f"DEMO={folder}")


@pytest.mark.parametrize("tasks", [["translation"], ["translation", "classification", "generation"]])
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


def installs(target: str, venv: Path, *words: str) -> list[str]:
    lines = make("-n", target, f"VENV={venv}", *words).stdout.splitlines()
    return [line.split("pip install")[1] for line in lines if "-m pip install" in line]


def test_every_install_gets_the_arguments_for_pip(tmp_path):
    lines = installs("slow", tmp_path / "venv", "PIP_ARGS=--extra-index-url ADDRESS")
    assert [line.split()[-1] for line in lines] == [".", "'.[dev]'", "deepspeed"]
    assert all("-c constraints.txt --extra-index-url ADDRESS" in line for line in lines)


def test_deepspeed_is_built_against_the_torch_that_is_there(tmp_path):
    assert "--no-build-isolation" in installs("slow", tmp_path / "venv")[-1]


def test_the_ends_are_installed_without_the_constraints(tmp_path):
    *_, oldest = installs("floor", tmp_path / "venv")
    *_, newest = installs("newest", tmp_path / "venv", "PIP_ARGS=--extra-index-url ADDRESS")
    assert oldest.split("--upgrade ")[1].split()[:2] == ["-c", f"{tmp_path / 'venv' / 'floor.txt'}"]
    assert "-c" not in newest.split()
    assert "--extra-index-url ADDRESS --upgrade-strategy eager" in newest


def test_each_end_has_an_environment_of_its_own():
    for end in ("floor", "newest"):
        assert f".venv-{end}/bin/python -m pytest" in make("-n", end).stdout


def test_both_cores_run_the_quick_tests():
    assert "OMP_NUM_THREADS=1 .venv/bin/python -m pytest -n 2 --dist loadfile" in make("-n", "test").stdout
    assert "-n 5 " in make("-n", "test", "JOBS=5").stdout


def test_the_plain_operations_are_tested_without_what_is_about_the_fast_ones():
    command = make("-n", "plain").stdout
    assert "VANILLA_TRANSFORMERS_FAST=0 OMP_NUM_THREADS=1" in command
    assert "-m 'not slow and not fast'" in command


# The build of torch. The commands are stand-ins that note what they were given.


class Installed(NamedTuple):
    """The end of an installation: what it printed, and the commands of pip and uv in their order."""

    done: subprocess.CompletedProcess
    commands: list[str]


def install(
    tmp_path: Path, *words: str, uv: str | None = "exit 0", settings: str = "", has_torch: bool = False
) -> Installed:
    """`make` the runtime on a Linux without a driver. ``uv`` is what uv does; None if there is none."""
    tree, tools, venv, log = (tmp_path / name for name in ("tree", "tools", "venv", "log"))
    shutil.copytree(ROOT / ".ci", tree / ".ci")
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tree)
    command(tools / "uname", "echo Linux")
    if uv:
        command(tools / "uv", f'echo "uv $*" >>{log}\n{uv}')
    command(venv / "uv", f'echo "own uv $*" >>{log}\n')
    command(
        venv / "bin" / "python",
        f"""case "$*" in
          *"pip config list"*) echo "{settings}"; exit ;;
          *--dry-run*) exit {int(not has_torch)} ;;
          *" uv") mv {venv}/uv {venv}/bin/uv ;;
        esac
        echo "$*" >>{log}
        """,
    )
    (venv / ".made").touch()
    runtime = venv / ".runtime"
    words = ("-o", f"{venv / '.made'}", f"VENV={venv}", "NVIDIA_DRIVER=", *words)  # of two, the last one counts
    done = make(str(runtime), *words, folder=tree, path=f"{tools}:/usr/bin:/bin")
    assert done.returncode == 0, done.stderr
    assert runtime.exists()
    return Installed(done, log.read_text().replace(str(venv), "VENV").splitlines())


def by_uv(commands: Sequence[str]) -> list[str]:
    return [line for line in commands if line.startswith("uv ")]


BUILD_FOR_CPUS = "uv pip install --python VENV/bin/python --torch-backend=cpu -c constraints.txt torch>=2.13,<3"


def test_without_a_driver_the_build_for_cpus_is_asked_for(tmp_path):
    done, (first, second) = install(tmp_path)
    assert first == BUILD_FOR_CPUS
    assert second.startswith("-m pip install")
    assert second.endswith("-e .")
    assert "torch is here in its build for cpu; TORCH_BACKEND=... chooses another" in done.stdout


@pytest.mark.skipif(shutil.which("uv", path="/usr/bin:/bin") is not None, reason="the system has a uv")
def test_uv_is_fetched_where_there_is_none(tmp_path):
    _, (first, second, third) = install(tmp_path, uv=None)
    assert first.startswith("-m pip install")
    assert first.endswith("-c constraints.txt uv")
    assert second.startswith("own uv")
    assert third.endswith("-e .")


@pytest.mark.parametrize("words", ["NVIDIA_DRIVER=/proc/driver/nvidia", "PIP_ARGS=--pre", "TORCH_BACKEND="])
def test_who_has_a_driver_or_chooses_gets_what_pip_finds(tmp_path, words):
    assert by_uv(install(tmp_path, words).commands) == []


@pytest.mark.parametrize("setting", ["global.extra-index-url='ADDRESS'", ":env:.find-links='wheels'"])
def test_a_source_in_the_settings_of_pip_is_a_choice(tmp_path, setting):
    assert by_uv(install(tmp_path, settings=setting).commands) == []


def test_a_torch_that_will_do_is_left_alone(tmp_path):
    assert by_uv(install(tmp_path, has_torch=True).commands) == []


def test_a_build_can_be_named(tmp_path):
    commands = install(tmp_path, "TORCH_BACKEND=cu130", "NVIDIA_DRIVER=/proc/driver/nvidia").commands
    assert by_uv(commands) == [BUILD_FOR_CPUS.replace("cpu ", "cu130 ")]


def test_where_the_build_cannot_be_had_one_line_says_so_and_pip_goes_on(tmp_path):
    done, commands = install(tmp_path, uv="echo no network >&2; exit 2")
    assert commands[-1].endswith("-e .")
    (line,) = done.stderr.splitlines()
    log = tmp_path / "venv" / "torch.log"
    assert line == f"torch in its build for cpu could not be had ({log} says why): pip takes the build that it finds"
    assert "no network" in log.read_text()
