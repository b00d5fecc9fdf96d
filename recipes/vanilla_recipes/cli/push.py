"""`vanilla push`: pushes a model to the Hub, after a check that a fresh process without this package can load it."""

import argparse
import dataclasses
from collections.abc import Mapping, Sequence

from vanilla_recipes.cli.faults import UsageError
from vanilla_recipes.publishing.details import checked_details, read_details
from vanilla_recipes.publishing.publication import publish
from vanilla_recipes.publishing.space import check_space, check_task, publish_space


def push(arguments: argparse.Namespace) -> int:
    """Pushes a model and, with --space, its Space, and prints their addresses.

    Raises:
        UsageError: If options exclude each other.
        UserError: If the model or the Space cannot be pushed.
    """
    if arguments.space:
        check_options(arguments)
    details = read_details(arguments.card)
    if arguments.license is not None:
        license = checked_details({"license": arguments.license}, "--license").license
        details = dataclasses.replace(details, license=license)
    done = publish(
        arguments.run,
        arguments.name,
        model=arguments.model,
        details=details,
        to=arguments.to,
        beside=arguments.beside,
        private=arguments.private,
        revision=arguments.revision,
        create_pr=arguments.create_pr,
        overwrite=arguments.overwrite,
        message=arguments.message,
        dry_run=arguments.dry_run,
    )
    if arguments.dry_run:
        list_files(done.files, done.left_out)
    else:
        print(f"pushed {done.url}")
    if arguments.space:
        push_space(arguments, details.license)
    return 0


def check_options(arguments: argparse.Namespace) -> None:
    """Checks before the model is pushed that its Space can be pushed.

    Raises:
        UsageError: If options exclude --space.
        UserError: If the page cannot show the model, or the Hub would refuse the Space.
    """
    if arguments.create_pr or arguments.revision != "main":
        raise UsageError("--space shows the model on the main branch; leave --create-pr and --revision out")
    check_task(arguments.run, arguments.model)
    if not arguments.dry_run:
        check_space(arguments.name, arguments.private, arguments.overwrite)


def push_space(arguments: argparse.Namespace, license: str | None) -> None:
    """Pushes the Space of the model, and prints its address."""
    files, url = publish_space(
        arguments.name, license=license, private=arguments.private, message=arguments.message, dry_run=arguments.dry_run
    )
    if url is None:
        list_files(files, [])
        return
    print(f"pushed {url}")
    if arguments.private:
        print("note   the Space needs a token to read a private model: add HF_TOKEN to the secrets in its settings")


def list_files(files: Mapping[str, int], left_out: Sequence[str]) -> None:
    """Prints the files that would be uploaded, with their sizes, and the files that would not."""
    for path, size in files.items():
        print(f"{size / 1e6:10,.3f} MB  {path}")
    print(f"{sum(files.values()) / 1e6:10,.3f} MB  in {len(files)} files; nothing was sent (--dry-run)")
    if left_out:
        print(f"{'':10}     not published: {', '.join(left_out)}")
