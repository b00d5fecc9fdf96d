"""Renews the code in a saved folder, after a check that the folder then loads without this package.

Only the code and, if necessary, `auto_map` in config.json change. Weights, tokenizer, model card and all other files
are not touched.
"""

import inspect
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from transformers.utils import logging

from vanilla_recipes.errors import UserError
from vanilla_recipes.folders import WRITING
from vanilla_recipes.models.model_files import check_json
from vanilla_recipes.models.saved_code import (
    CONFIG,
    TOKENIZER_CONFIG,
    auto_map,
    files_of,
    saved_code,
    with_imports,
)
from vanilla_recipes.publishing.fresh_process import Subject, prove
from vanilla_recipes.publishing.model_class import load_as_saved
from vanilla_recipes.publishing.sources import Which, find_source
from vanilla_transformers import (
    VanillaConfig,
    VanillaDecoderConfig,
    VanillaEncoderConfig,
    VanillaSeq2SeqConfig,
)
from vanilla_transformers.interop.checks import listed_checks

FAMILIES: dict[str, type[VanillaConfig]] = {
    family.model_type: family for family in (VanillaSeq2SeqConfig, VanillaEncoderConfig, VanillaDecoderConfig)
}


@dataclass(frozen=True)
class Renewal:
    """The changes to a model folder, planned or made.

    Attributes:
        folder: the model folder.
        contents: new content of every file that is written, by name; includes config.json if its `auto_map` changes.
        renewed: code files whose content changes.
        added: new code files.
        removed: code files that are deleted, because only the old code imports them.
        unchanged: code files that are already up to date.
    """

    folder: Path
    contents: Mapping[str, bytes]
    renewed: Sequence[str]
    added: Sequence[str]
    removed: Sequence[str]
    unchanged: Sequence[str]

    @property
    def is_needed(self) -> bool:
        """Whether any file changes."""
        return bool(self.contents or self.removed)

    @property
    def changes_config(self) -> bool:
        """Whether `auto_map` in config.json changes."""
        return CONFIG in self.contents


def renew(
    run: str | Path, model: Which = "best", *, dry_run: bool = False, tell: Callable[[str], None] = print
) -> Renewal:
    """Replaces older code in a model folder by the code of this package.

    First, a fresh process without this package loads a copy of the folder with the new code. Its outputs must equal the
    outputs of this package's class (fp32, within 1e-5), and its generated tokens must be the same.

    Args:
        run: a run folder, or a folder written by `save_pretrained`.
        model: the model of the run, "best" or "final".
        dry_run: whether to plan the changes without making them.
        tell: called with one line for every check.

    Raises:
        UserError: If the folder does not exist, has no model of this package or no code, has other files with the
            names of new code files, is not writable, or a check fails. The folder is then unchanged.
    """
    renewal = planned(find_source(run, model).model)
    if dry_run or not renewal.is_needed:
        return renewal
    if not os.access(renewal.folder, os.W_OK):
        raise UserError(f"{renewal.folder}: cannot be written to; change its permissions, or renew a copy of it")
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as staged:
        _stage(renewal, Path(staged))
        _check(renewal.folder, Path(staged), tell)
    _put_in_place(renewal)
    return renewal


def planned(folder: Path) -> Renewal:
    """Returns the changes that renew the code in a folder, without making them.

    Raises:
        UserError: If the folder has no model of this package, has no code, names classes that this package lacks, or
            has other files with the names of new code files.
    """
    family = _family_of(folder)
    old, new = saved_code(folder, [CONFIG]).files, installed_code(family)
    if not old:
        raise UserError(f"{folder}: the folder has no code to renew: this package loads the model with its own code")
    _check_classes(folder, family)
    _check_own_files(folder, {name for name in new if (folder / name).is_dir()})
    present = {name for name in new if (folder / name).exists()}
    changed = {name for name in present if (folder / name).read_bytes() != new[name].read_bytes()}
    _check_own_files(folder, changed - old)
    written = {name: new[name].read_bytes() for name in sorted(changed | new.keys() - present)}
    return Renewal(
        folder,
        written | _changed_config(folder, family),
        renewed=sorted(changed),
        added=sorted(new.keys() - present),
        removed=sorted(old - new.keys() - saved_code(folder, [TOKENIZER_CONFIG]).files),
        unchanged=sorted(present - changed),
    )


def installed_code(family: type[VanillaConfig]) -> dict[str, Path]:
    """Returns the code files that the installed package saves with the models of a family, by name."""
    code_folder = Path(inspect.getfile(family)).parent
    named = dict.fromkeys(files_of(family.family_auto_map), family.__name__)
    return {name: code_folder / name for name in with_imports(code_folder, named).files}


def _family_of(folder: Path) -> type[VanillaConfig]:
    """Returns the configuration class of the model in a folder.

    Raises:
        UserError: If the model's class does not belong to this package.
    """
    model_type = check_json(folder / CONFIG).get("model_type")
    if model_type not in FAMILIES:
        raise UserError(
            f"{folder}: its model_type is {model_type!r}, which is none of this package ({', '.join(FAMILIES)}), so it "
            "has no code to renew; name the folder of a model of this package"
        )
    return FAMILIES[model_type]


def _check_classes(folder: Path, family: type[VanillaConfig]) -> None:
    """Refuses a folder whose `auto_map` names classes added by the user: renewing would lose them."""
    saved, known = auto_map(folder / CONFIG), family.family_auto_map
    classes = {path.rpartition(".")[2] for path in known.values()}
    entries = saved.items() if isinstance(saved, Mapping) else ()
    added = [str(path) for name, path in entries if name not in known or str(path).rpartition(".")[2] not in classes]
    if added:
        raise UserError(
            f"{folder / CONFIG}: auto_map names {', '.join(added)}, which this package does not have for a "
            f"{family.model_type}. Renewing replaces auto_map and would lose these entries; remove them, or copy the "
            "new code files into the folder yourself"
        )


def _check_own_files(folder: Path, names: set[str]) -> None:
    """Refuses to overwrite files that the old code does not import: they may be the user's own."""
    if names:
        raise UserError(
            f"{folder}: the new code has files of the names {', '.join(sorted(names))}, but the files of these names "
            "in the folder are not part of the old code: they may be yours, so nothing was written; move them elsewhere"
        )


def _changed_config(folder: Path, family: type[VanillaConfig]) -> dict[str, bytes]:
    """Returns config.json with the `auto_map` of this package, by name; empty if it needs no change."""
    if auto_map(folder / CONFIG) == family.family_auto_map:
        return {}
    content = check_json(folder / CONFIG) | {"auto_map": dict(family.family_auto_map)}
    return {CONFIG: f"{json.dumps(content, indent=2)}\n".encode()}


def _stage(renewal: Renewal, staged: Path) -> None:
    """Makes a copy of the folder with the new code; unchanged files are symbolic links, because weights are large."""
    for file in renewal.folder.iterdir():
        if file.name not in (*renewal.contents, *renewal.removed):
            (staged / file.name).symlink_to(file.resolve())
    for name, content in renewal.contents.items():
        (staged / name).write_bytes(content)


def _check(folder: Path, staged: Path, tell: Callable[[str], None]) -> None:
    """Refuses a copy whose outputs differ from the outputs of the model in `folder`."""
    model, tokenizer = load_as_saved(folder, warns_of_old_code=False)
    try:
        checks = prove(Subject("model", staged, model, tokenizer))
    except UserError as error:
        raise UserError(f"{folder}: nothing was changed: with the new code {error}") from error
    for line in listed_checks(checks):
        tell(line)
    failed = [check.name for check in checks if not check.passed]
    if failed:
        raise UserError(f"{folder}: nothing was changed, because the new code fails: {'; '.join(failed)}")


def _put_in_place(renewal: Renewal) -> None:
    """Writes all new files under temporary names, then renames them one by one; an error restores the folder."""
    folder = renewal.folder
    touched = [name for name in (*renewal.contents, *renewal.removed) if (folder / name).exists()]
    before = {name: (folder / name).read_bytes() for name in touched}
    asides = {name: folder / f"{WRITING}{name}" for name in renewal.contents}
    replaced: list[str] = []
    try:
        for name, aside in asides.items():
            _write(aside, renewal.contents[name], like=folder / name)
        for name, aside in asides.items():
            replaced.append(name)
            aside.replace(folder / name)
        for name in renewal.removed:
            replaced.append(name)
            (folder / name).unlink()
    except BaseException:
        _restore(folder, replaced, before)
        raise
    finally:
        for aside in asides.values():
            aside.unlink(missing_ok=True)


def _write(file: Path, content: bytes, like: Path) -> None:
    """Writes a file to disk (fsync), with the permissions of the file `like` if it exists."""
    with open(file, "wb") as target:
        target.write(content)
        target.flush()
        os.fsync(target.fileno())
    if like.exists():
        shutil.copymode(like, file)


def _restore(folder: Path, names: Sequence[str], before: Mapping[str, bytes]) -> None:
    for name in names:
        (folder / name).unlink(missing_ok=True)
        if name in before:
            (folder / name).write_bytes(before[name])
