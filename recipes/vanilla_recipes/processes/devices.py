"""Chooses the device to run on, and explains why torch cannot use a GPU of this machine."""

import functools
import logging
import os
from pathlib import Path

import torch

from vanilla_recipes.errors import one_line

logger = logging.getLogger(__name__)

# These files exist only while the kernel driver is loaded. Without a driver, no build of torch can use a GPU.
_NVIDIA, _AMD = Path("/proc/driver/nvidia/version"), Path("/dev/kfd")


def fastest_device() -> torch.device:
    """The accelerator if torch can use one, else the CPU. Warns once if the machine has a GPU that torch cannot use."""
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    if accelerator is None:
        tell_idle_gpu()
    return accelerator or torch.device("cpu")


@functools.cache
def tell_idle_gpu() -> None:
    """Warns once per process if this machine has a GPU that torch cannot use, and gives the reason."""
    fault = idle_gpu()
    if fault is not None:
        logger.warning("%s; the CPU does the work", fault)


def idle_gpu() -> str | None:
    """The reason why torch cannot use the GPU of this machine.

    `None` if torch can use the GPU, if there is no GPU, or if the user hides the GPU with `CUDA_VISIBLE_DEVICES`.
    """
    maker = "NVIDIA" if _NVIDIA.exists() else "AMD" if _AMD.exists() else None
    is_hidden = os.environ.get("CUDA_VISIBLE_DEVICES", "0") in ("", "-1")
    if maker is None or is_hidden or torch.accelerator.is_available():
        return None
    if (torch.version.cuda if maker == "NVIDIA" else torch.version.hip) is None:
        return (
            f"this machine has a GPU of {maker}, but torch {torch.__version__} is a build without support for it: "
            "install another build of torch"
        )
    try:
        torch.cuda.init()
    except Exception as error:  # a RuntimeError or an AssertionError, depending on the cause
        return f"this machine has a GPU of {maker}, which torch {torch.__version__} cannot use: {one_line(str(error))}"
    return None
