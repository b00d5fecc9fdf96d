"""A shell as a user has it: with a command `vanilla` of the test's, and a local Hub in reach."""

import os
from pathlib import Path


def user_shell(folder: Path, script: str, endpoint: str) -> dict[str, str]:
    """Writes `script` to `folder/bin/vanilla`, and returns the environment of a shell that finds it.

    Args:
        folder: the folder of the user.
        script: what the command `vanilla` runs.
        endpoint: address of the Hub, whose user has the token `hf_my_token`.
    """
    command = folder / "bin" / "vanilla"
    command.parent.mkdir()
    command.write_text(script)
    command.chmod(0o755)
    return os.environ | {
        "PATH": f"{command.parent}{os.pathsep}{os.environ['PATH']}",
        "HF_ENDPOINT": endpoint,
        "HF_HOME": str(folder / "home"),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_OFFLINE": "0",
        "HF_DATASETS_OFFLINE": "0",
        "HF_TOKEN": "hf_my_token",
        "OMP_NUM_THREADS": "1",
    }
