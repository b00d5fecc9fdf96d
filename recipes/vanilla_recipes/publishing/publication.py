"""Publishes the model of a run as a repository on the Hugging Face Hub."""

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
from vanilla_recipes.publishing.fresh_process import Subject, prove
from vanilla_recipes.publishing.model_class import load_as_saved
from vanilla_recipes.publishing.privacy import check_private
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
from vanilla_recipes.publishing.stock_copy import write_stock
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
    """The result of `publish`.

    Attributes:
        files: size in bytes of every file, by its path in the repository.
        left_out: names in the model's folder that are not published.
        checks: results of the checks of the loaded models.
        card: text of the model card.
        url: address of the commit or pull request; `None` with `dry_run`.
        commit: id of the commit, for `revision=`; `None` with `dry_run`.
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
    """Pushes a model with its model card to the Hub, after a check that its files load as the same model.

    A fresh process with an empty cache and without this package loads the files to push. Its outputs must equal the
    outputs of the model in fp32: within 1e-5 for models of this package, exactly for transformers' own models. Every
    Auto class of the model's family must load it. The access token is the token that `huggingface_hub` finds.

    Args:
        run: a run folder, or a folder written by `save_pretrained`.
        name: name of the repository, `USER/NAME`. A missing repository is created.
        model: the model of the run to publish, "best" or "final".
        details: text for the card. Without `terms` the licenses of the datasets are looked up on the Hub.
        to: model type of transformers, such as `"marian"`; the model is converted to this type, and only the converted
            model is pushed.
        beside: model type of transformers; a converted copy is pushed in a subfolder of this name.
        private: whether a new repository is private.
        revision: name of the branch. A missing branch is created.
        create_pr: whether to open a pull request instead of committing to the branch.
        overwrite: whether the push may replace a model of another type.
        message: commit message.
        dry_run: do everything except the upload, without any request to the Hub.
        tell: called with one line for every check.

    Raises:
        UserError: If the model is damaged or its run is not finished; its code is missing or outdated; a check fails;
            a file has private data; or the Hub cannot be reached or refuses the push. The files in the repository are
            then unchanged.
    """
    if to is not None and beside is not None:
        raise UserError(
            f"to={to} and beside={beside} exclude each other: `to` replaces the model, `beside` adds a copy"
        )
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
            raise UserError(f"{source.model}: not pushed, because the loaded model differs: {'; '.join(failed)}")
        num_files = check_private(folder, name)
        tell(f"ok     no private data in {num_files} files")
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
    """Writes all files to publish into `folder`. Returns the model card and the checks."""
    model, tokenizer = load_as_saved(source.model)
    checks: list[Check] = []
    subjects: list[Subject] = []
    if to is None:
        copy_model(source, folder)
        subjects.append(Subject("model", folder, model, tokenizer))
    stock_type = to or beside
    if stock_type is not None:
        stock_folder = folder if to else folder / stock_type
        stock_folder.mkdir(exist_ok=True)
        stock, found = _export(source, model, tokenizer, stock_folder, stock_type, tell)
        checks += found
        subjects.append(Subject(stock_type, stock_folder, stock, tokenizer))
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
