"""The device to run on, and what keeps a GPU of this machine from being it."""

import functools
import logging
import os
from pathlib import Path

import torch

from vanilla_recipes.errors import one_line

logger = logging.getLogger(__name__)

# What a loaded kernel driver shows. Without one there is no GPU to speak of, whatever torch was built for.
_NVIDIA, _AMD = Path("/proc/driver/nvidia/version"), Path("/dev/kfd")


def fastest_device() -> torch.device:
    """An accelerator if torch can use one, else the CPU; a GPU that stands idle then is told once, in a line."""
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    if accelerator is None:
        tell_idle_gpu()
    return accelerator or torch.device("cpu")


@functools.cache
def tell_idle_gpu() -> None:
    """Says what keeps a GPU of this machine from being used, if there is one."""
    fault = idle_gpu()
    if fault is not None:
        logger.warning("%s; the CPU does the work", fault)


def idle_gpu() -> str | None:
    """Why torch cannot use the GPU of this machine; `None` where it can, or where there is none."""
    maker = "NVIDIA" if _NVIDIA.exists() else "AMD" if _AMD.exists() else None
    is_hidden = os.environ.get("CUDA_VISIBLE_DEVICES", "0") in ("", "-1")  # on purpose
    if maker is None or is_hidden or torch.accelerator.is_available():
        return None
    if (torch.version.cuda if maker == "NVIDIA" else torch.version.hip) is None:
        return (
            f"this machine has a GPU of {maker}, but torch {torch.__version__} is a build without support for it: "
            "install another build of torch"
        )
    try:
        torch.cuda.init()
    except Exception as error:  # a RuntimeError or AssertionError, by what is broken
        return f"this machine has a GPU of {maker}, which torch {torch.__version__} cannot use: {one_line(str(error))}"
    return None
