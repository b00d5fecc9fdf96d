"""Renews the code in a saved folder, once it is proved that the folder then loads without this package.

Only code changes, and `auto_map` in config.json where it must: weights, tokenizer, card and all else stay as they are.
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
from vanilla_recipes.models.model_folder import check_json
from vanilla_recipes.models.saved_code import (
    CONFIG,
    TOKENIZER_CONFIG,
    auto_map,
    files_of,
    saved_code,
    with_imports,
)
from vanilla_recipes.publishing.model_class import load_as_saved
from vanilla_recipes.publishing.proof import Subject, prove
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
    """What changes in a folder, or would.

    Attributes:
        folder: of the model.
        contents: what is written, by name; config.json among them where its `auto_map` changes.
        renewed: files of code that become others.
        added: those that come.
        removed: those that go, because only the old code imports them.
        unchanged: those that are the same.
    """

    folder: Path
    contents: Mapping[str, bytes]
    renewed: Sequence[str]
    added: Sequence[str]
    removed: Sequence[str]
    unchanged: Sequence[str]

    @property
    def is_needed(self) -> bool:
        """Whether there is anything to do."""
        return bool(self.contents or self.removed)

    @property
    def changes_config(self) -> bool:
        """Whether config.json names other classes afterwards."""
        return CONFIG in self.contents


def renew(
    run: str | Path, model: Which = "best", *, dry_run: bool = False, tell: Callable[[str], None] = print
) -> Renewal:
    """Puts the code of this package in the place of older code in a model folder.

    A fresh process without this package loads a copy of the folder with the new code first: its outputs and generated
    tokens must equal those of this package's class (fp32 1e-5).

    Args:
        run: a run folder, or a folder of `save_pretrained`.
        model: which of a run's models.
        dry_run: only say what would change.
        tell: is told what was checked, in a line each.

    Raises:
        UserError: there is no such folder, it holds no model of this package or none with code, something in it is in
            the way, it cannot be written to, or a check failed. The folder is as it was then.
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
    """What renewing the code in a folder comes to.

    Raises:
        UserError: it holds no model of this package, none with code, or something is in the way.
    """
    family = _family_of(folder)
    old, new = saved_code(folder, [CONFIG]).files, installed_code(family)
    if not old:
        raise UserError(f"{folder}: there is no code in it to renew: this package loads it by code of its own")
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
    """The files that the installed package saves beside the weights of a family, by name."""
    place = Path(inspect.getfile(family)).parent
    named = dict.fromkeys(files_of(family.family_auto_map), family.__name__)
    return {name: place / name for name in with_imports(place, named).files}


def _family_of(folder: Path) -> type[VanillaConfig]:
    """The configuration class of the model."""
    model_type = check_json(folder / CONFIG).get("model_type")
    if model_type not in FAMILIES:
        raise UserError(
            f"{folder}: its model_type is {model_type!r}, which is none of this package ({', '.join(FAMILIES)}), so "
            "there is no code to renew in it; name the folder of such a model"
        )
    return FAMILIES[model_type]


def _check_classes(folder: Path, family: type[VanillaConfig]) -> None:
    """Classes that somebody has added to the code would be lost."""
    saved, known = auto_map(folder / CONFIG), family.family_auto_map
    classes = {path.rpartition(".")[2] for path in known.values()}
    entries = saved.items() if isinstance(saved, Mapping) else ()
    added = [str(path) for name, path in entries if name not in known or str(path).rpartition(".")[2] not in classes]
    if added:
        raise UserError(
            f"{folder / CONFIG}: auto_map names {', '.join(added)}, which this package does not have for a "
            f"{family.model_type}, and would lose; take that out, or renew the code by hand"
        )


def _check_own_files(folder: Path, names: set[str]) -> None:
    """What the old code does not import may be the owner's."""
    if names:
        raise UserError(
            f"{folder}: the new code has files of the names {', '.join(sorted(names))}, which are there, but not as "
            "part of the old code: they may be your own, so nothing was written; move them elsewhere"
        )


def _changed_config(folder: Path, family: type[VanillaConfig]) -> dict[str, bytes]:
    """config.json as it must be, if it must be another one."""
    if auto_map(folder / CONFIG) == family.family_auto_map:
        return {}
    content = check_json(folder / CONFIG) | {"auto_map": dict(family.family_auto_map)}
    return {CONFIG: f"{json.dumps(content, indent=2)}\n".encode()}


def _stage(renewal: Renewal, staged: Path) -> None:
    """A copy of the folder with the new code; what stays is linked, because weights are large."""
    for file in renewal.folder.iterdir():
        if file.name not in (*renewal.contents, *renewal.removed):
            (staged / file.name).symlink_to(file.resolve())
    for name, content in renewal.contents.items():
        (staged / name).write_bytes(content)


def _check(folder: Path, staged: Path, tell: Callable[[str], None]) -> None:
    """Refuses a copy that does not give what the model gives."""
    model, tokenizer = load_as_saved(folder, tells_outdated=False)
    try:
        checks = prove(Subject("model", staged, model, tokenizer))
    except UserError as error:
        raise UserError(f"{folder}: left as it was: with the new code {error}") from error
    for line in listed_checks(checks):
        tell(line)
    failed = [check.name for check in checks if not check.passed]
    if failed:
        raise UserError(f"{folder}: left as it was, because with the new code these differ: {'; '.join(failed)}")


def _put_in_place(renewal: Renewal) -> None:
    """Replaces file by file, once all are written aside; after a fault the folder is as it was."""
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
    """Writes a file that outlives a crash, with the permissions of another one if there is such a one."""
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
