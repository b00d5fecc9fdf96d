"""Publishes a Space for a model on the Hub, which shows the page of `vanilla demo`."""

import tempfile
from importlib.metadata import version
from pathlib import Path

from huggingface_hub import HfApi, SpaceCardData
from huggingface_hub.errors import EntryNotFoundError, RepositoryNotFoundError
from transformers import AutoConfig

from vanilla_recipes.demo.answers import check_tokenizer, task_of
from vanilla_recipes.errors import UserError
from vanilla_recipes.models.model_folder import load_tokenizer
from vanilla_recipes.publishing.model_class import class_of
from vanilla_recipes.publishing.repository import sizes
from vanilla_recipes.publishing.sources import Which, find_source
from vanilla_recipes.publishing.upload import (
    Target,
    check_access,
    check_name,
    check_place,
    hub_faults_as_user_errors,
    upload,
)

GRADIO = "6.31.0"
"""The version of Gradio that a Space installs. The demo is tested with this version."""

APP = '''\
"""Shows {name} as `vanilla demo {name}` does."""

import vanilla_recipes.cli

raise SystemExit(vanilla_recipes.cli.main(["demo", "{name}", "--host", "0.0.0.0", "--port", "7860"]))
'''
REQUIREMENTS = """\
# The name on the package index. If the index does not have this version, give the address of its source instead:
# vanilla_transformers[demo] @ git+https://ADDRESS
vanilla_transformers[demo]=={version}
"""
README = """\
---
{metadata}
---

# {title}

A demo of [{name}](https://huggingface.co/{name}): its answers with their probabilities, its attention, and its speed.
Made by `vanilla push --space`; `vanilla demo {name}` shows the same page on your own machine.
"""


def check_task(run: str | Path, model: Which = "best") -> None:
    """Refuses a model that the page of `vanilla demo` cannot show.

    Raises:
        UserError: If the folder is damaged, the page does not support the model's task, or the tokenizer does not fit.
    """
    source = str(find_source(run, model).model)
    config = AutoConfig.from_pretrained(source, trust_remote_code=False)
    check_tokenizer(source, task_of(source, class_of(config), config), load_tokenizer(source, None, config.model_type))


def check_space(name: str, private: bool = False, overwrite: bool = False) -> None:
    """Checks before the push of the model that the push of its Space will be accepted.

    Args:
        name: name of the model and the Space, `USER/NAME`.
        private: whether the Space must be private.
        overwrite: whether a Space with another app may be replaced.

    Raises:
        UserError: If the name is not valid, the token may not write, an existing Space is public although `private`
            is true, or an existing Space has another app and `overwrite` is false.
    """
    check_name(name)
    target = Target(name, "space", private)
    check_access(target)
    check_place(target, "", overwrite=True)  # overwrite=True skips the check of the model type, which a Space lacks
    if not overwrite and not _is_ours(name):
        raise UserError(
            f"{name}: a Space of this name exists with another app, which --space would replace; name another "
            "repository, or give --overwrite"
        )


def _is_ours(name: str) -> bool:
    """Returns whether a Space is missing, is empty, or was made by an earlier push."""
    with hub_faults_as_user_errors(name):
        try:
            file = HfApi().hf_hub_download(name, "app.py", repo_type="space")
        except (EntryNotFoundError, RepositoryNotFoundError):
            return True
    text = Path(file).read_text(encoding="utf-8", errors="replace")
    return any(command in text for command in ("vanilla_recipes.cli", "vanilla_cli"))  # before 2026-12: vanilla_cli


def write_space(folder: Path, name: str, license: str | None = None) -> None:
    """Writes the files of a Space into `folder`. The Space shows the model of the same name on the Hub."""
    title = name.rsplit("/", 1)[-1]
    metadata = SpaceCardData(
        title=title, sdk="gradio", sdk_version=GRADIO, python_version="3.11", app_file="app.py", license=license,
        models=[name],
    )  # fmt: skip
    texts = {
        "app.py": APP.format(name=name),
        "requirements.txt": REQUIREMENTS.format(version=version("vanilla_transformers")),
        "README.md": README.format(metadata=metadata.to_yaml().strip(), title=title, name=name),
    }
    for file, text in texts.items():
        (folder / file).write_text(text, encoding="utf-8")


def publish_space(
    name: str,
    *,
    license: str | None = None,
    private: bool = False,
    message: str = "Upload a demo",
    dry_run: bool = False,
) -> tuple[dict[str, int], str | None]:
    """Pushes the Space of a model that is on the Hub.

    Args:
        name: name of the model and the Space, `USER/NAME`.
        license: identifier of the model's license.
        private: whether a new Space is private.
        message: commit message.
        dry_run: do everything except the upload.

    Returns:
        The size in bytes of every file, and the address of the Space (`None` with `dry_run`).

    Raises:
        UserError: If the Hub cannot be reached or refuses the push.
    """
    with tempfile.TemporaryDirectory() as staged:
        folder = Path(staged)
        write_space(folder, name, license)
        files = sizes(folder)
        if dry_run:
            return files, None
        upload(folder, Target(name, "space", private), message)
        return files, f"{HfApi().endpoint}/spaces/{name}"
