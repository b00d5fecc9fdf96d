"""From a run to a repository on the Hugging Face Hub."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel
from transformers.utils import logging

import vanilla_transformers  # noqa: F401  # registers the classes that are looked up by name
from vanilla_recipes.errors import UserError
from vanilla_recipes.publishing.card import Facts, datasets_of, write_card
from vanilla_recipes.publishing.details import CardDetails
from vanilla_recipes.publishing.model_class import load_as_saved
from vanilla_recipes.publishing.privacy import check_private
from vanilla_recipes.publishing.proof import Subject, prove
from vanilla_recipes.publishing.repository import (
    check_code,
    copy_model,
    left_out,
    model_files,
    sizes,
    state,
    write_training,
)
from vanilla_recipes.publishing.sources import Source, Which, find_source, model_type_of
from vanilla_recipes.publishing.stock import write_stock
from vanilla_recipes.publishing.upload import (
    MAIN,
    Target,
    check_access,
    check_name,
    check_place,
    check_revision,
    terms_of,
    upload,
)
from vanilla_transformers.interop.checks import Check, InteropError, listed_checks


@dataclass(frozen=True)
class Publication:
    """What was published, or would be.

    Attributes:
        files: bytes of each file, by its path in the repository.
        left_out: what lies in the model's folder and was not taken.
        checks: what was compared.
        card: the model card.
        url: where it can be seen; `None` if it was only tried.
        commit: the id of its commit, for `revision=`; likewise.
    """

    files: dict[str, int]
    left_out: list[str]
    checks: list[Check]
    card: str
    url: str | None = None
    commit: str | None = None


def publish(
    run: str | Path,
    name: str,
    *,
    model: Which = "best",
    details: CardDetails | None = None,
    to: str | None = None,
    beside: str | None = None,
    private: bool = False,
    revision: str = MAIN,
    create_pr: bool = False,
    overwrite: bool = False,
    message: str = "Upload a model of vanilla_transformers",
    dry_run: bool = False,
    tell: Callable[[str], None] = print,
) -> Publication:
    """Pushes a model with its card to the Hub, once it is proved that it loads there as it is here.

    A fresh process with an empty cache and without this package loads what is to be pushed: its outputs must equal
    those of the model, and every Auto class of its family must load it. The access token is `huggingface_hub`'s.

    Args:
        run: a run folder, or a folder of `save_pretrained`.
        name: of the repository, `USER/NAME`; it is made if there is none.
        model: which of a run's models.
        details: what the run cannot know, for the card; without `terms`, the Hub is asked for those of its data sets.
        to: a model type of transformers, such as `"marian"`, that it is pushed as instead.
        beside: a model type that it is pushed as too, in a folder of that name.
        private: whether a new repository is for its owner alone.
        revision: the branch, which is made where there is none.
        create_pr: whether the commit becomes a pull request.
        overwrite: whether it may replace a model of another type.
        message: of the commit.
        dry_run: everything but the upload; the Hub is not asked.
        tell: is told what was checked, in a line each.

    Raises:
        UserError: the model is damaged or not finished, its code is missing or must be renewed, a check failed,
            something private would become public, or the Hub cannot be reached or refuses it. Nothing was uploaded
            then, or what was there before is as it was.
    """
    if to is not None and beside is not None:
        raise UserError(f"to={to} and beside={beside} exclude each other: the one replaces what the other accompanies")
    target = Target(name, "model", private, revision, create_pr)
    check_name(name)
    check_revision(revision)
    source = find_source(run, model)
    if to is None:
        check_code(source.model)
    if not dry_run:
        check_access(target)
        check_place(target, to or model_type_of(source), overwrite)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    before = state(model_files(source.model))
    with tempfile.TemporaryDirectory() as staged:
        folder = Path(staged)
        details = details or CardDetails()
        if not dry_run and details.terms is None:
            details = replace(details, terms=terms_of(datasets_of(source, details)))
        card, checks = _build(source, folder, name, details, to, beside, tell)
        failed = [check.name for check in checks if not check.passed]
        if failed:
            raise UserError(f"{source.model}: not pushed, because what would be loaded differs: {'; '.join(failed)}")
        num_files = check_private(folder, name)
        tell(f"ok     nothing private in {num_files} files")
        if state(model_files(source.model)) != before:
            raise UserError(f"{source.model}: changed while it was being pushed; push again when nothing writes to it")
        publication = Publication(sizes(folder), left_out(source), checks, card)
        if dry_run:
            return publication
        url, commit = upload(folder, target, message)
        return replace(publication, url=url, commit=commit)


def _build(
    source: Source,
    folder: Path,
    name: str,
    details: CardDetails,
    to: str | None,
    beside: str | None,
    tell: Callable[[str], None],
) -> tuple[str, list[Check]]:
    """Fills the folder; the card, and what was compared."""
    model, tokenizer = load_as_saved(source.model)
    checks: list[Check] = []
    subjects: list[Subject] = []
    if to is None:
        copy_model(source, folder)
        subjects.append(Subject("model", folder, model, tokenizer))
    stock_type = to or beside
    if stock_type is not None:
        place = folder if to else folder / stock_type
        place.mkdir(exist_ok=True)
        stock, found = _export(source, model, tokenizer, place, stock_type, tell)
        checks += found
        subjects.append(Subject(stock_type, place, stock, tokenizer))
    try:
        checks += prove(*subjects)
    except UserError as error:
        raise UserError(f"{source.model}: not pushed, because {error}") from error
    for line in listed_checks(checks):
        tell(line)
    has_curves = write_training(source, folder)
    shown = subjects[0].model
    proved = [check for check in checks if check.name.startswith(f"{subjects[0].name}: ")]
    facts = Facts(name, shown, tokenizer is not None, source, details, proved, has_curves, beside)
    card = write_card(facts)
    (folder / "README.md").write_text(card, encoding="utf-8")
    return card, checks


def _export(
    source: Source, model: PreTrainedModel, tokenizer: Any, folder: Path, model_type: str, tell: Callable[[str], None]
) -> tuple[PreTrainedModel, list[Check]]:
    try:
        stock, checks = write_stock(model, tokenizer, folder, model_type, tell)
    except InteropError as error:
        raise UserError(f"{source.model}: {error}") from error
    return stock, [Check(f"{model_type}: {check.name}", check.result, check.passed) for check in checks]
