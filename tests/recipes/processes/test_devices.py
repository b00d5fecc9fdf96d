"""Builds of torch for GPUs without a driver, builds for CPUs beside a GPU, and installations that are broken.

Each is simulated on whichever build is installed.
"""

import pytest
import torch

from vanilla_recipes.processes import devices


@pytest.fixture(autouse=True)
def no_accelerator(monkeypatch, tmp_path):
    """A machine without a GPU, on which `idle_gpu` has told nothing yet."""
    devices.tell_idle_gpu.cache_clear()
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    monkeypatch.setattr(devices, "_NVIDIA", tmp_path / "no nvidia")
    monkeypatch.setattr(devices, "_AMD", tmp_path / "no amd")


def with_driver(monkeypatch, tmp_path, name: str) -> None:
    monkeypatch.setattr(devices, name, tmp_path)


def fail() -> None:
    raise RuntimeError("The NVIDIA driver on your system is too old (found version 11040).\n  Please update it.")


@pytest.mark.parametrize("cuda", ["13.0", None])
def test_no_build_says_anything_where_there_is_no_gpu(cuda, monkeypatch, caplog):
    monkeypatch.setattr(torch.version, "cuda", cuda)
    monkeypatch.setattr(torch.cuda, "init", lambda: pytest.fail("a driver was asked that is not there"))
    assert devices.fastest_device() == torch.device("cpu")
    assert caplog.messages == []


def test_a_build_for_cpus_beside_a_gpu(monkeypatch, tmp_path, caplog):
    with_driver(monkeypatch, tmp_path, "_NVIDIA")
    monkeypatch.setattr(torch.version, "cuda", None)
    for _ in range(2):
        assert devices.fastest_device() == torch.device("cpu")
    (told,) = caplog.messages
    assert told == (
        f"this machine has a GPU of NVIDIA, but torch {torch.__version__} is a build without support for it: install "
        "another build of torch; the CPU does the work"
    )


def test_a_build_for_nvidia_beside_a_gpu_of_amd(monkeypatch, tmp_path):
    with_driver(monkeypatch, tmp_path, "_AMD")
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.version, "hip", None)
    assert "a GPU of AMD, but torch" in devices.idle_gpu()


def test_a_broken_installation(monkeypatch, tmp_path, caplog):
    with_driver(monkeypatch, tmp_path, "_NVIDIA")
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "init", fail)
    assert devices.fastest_device() == torch.device("cpu")
    (told,) = caplog.messages
    assert f"which torch {torch.__version__} cannot use: The NVIDIA driver on your system is too old" in told
    assert "\n" not in told


@pytest.mark.parametrize("value", ["", "-1"])
def test_a_gpu_that_is_hidden_on_purpose(value, monkeypatch, tmp_path):
    with_driver(monkeypatch, tmp_path, "_NVIDIA")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", value)
    assert devices.idle_gpu() is None


def test_a_gpu_that_works(monkeypatch, tmp_path):
    with_driver(monkeypatch, tmp_path, "_NVIDIA")
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device("cuda"))
    assert devices.fastest_device() == torch.device("cuda")
    assert devices.idle_gpu() is None
