"""`vanilla push`: put a model on the Hub, proved before it is sent."""

import argparse
import dataclasses
from collections.abc import Mapping, Sequence

from vanilla_recipes.cli.faults import UsageError
from vanilla_recipes.publishing.details import checked_details, read_details
from vanilla_recipes.publishing.publication import publish
from vanilla_recipes.publishing.space import check_space, check_task, publish_space


def push(arguments: argparse.Namespace) -> int:
    """Push what the arguments name, and say where it is.

    Raises:
        UsageError: options exclude each other.
        UserError: something cannot be pushed.
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
    """Refuse before the model is pushed what its Space would be refused for."""
    if arguments.create_pr or arguments.revision != "main":
        raise UsageError("--space shows the model on the main branch; leave --create-pr and --revision out")
    check_task(arguments.run, arguments.model)
    if not arguments.dry_run:
        check_space(arguments.name, arguments.private, arguments.overwrite)


def push_space(arguments: argparse.Namespace, license: str | None) -> None:
    """Push the Space beside the model."""
    files, url = publish_space(
        arguments.name, license=license, private=arguments.private, message=arguments.message, dry_run=arguments.dry_run
    )
    if url is None:
        list_files(files, [])
        return
    print(f"pushed {url}")
    if arguments.private:
        print("note   a private model is read with a token: add HF_TOKEN to the secrets in the settings of the Space")


def list_files(files: Mapping[str, int], left_out: Sequence[str]) -> None:
    """What would be sent, and what would not."""
    for path, size in files.items():
        print(f"{size / 1e6:10,.3f} MB  {path}")
    print(f"{sum(files.values()) / 1e6:10,.3f} MB  in {len(files)} files; nothing was sent (--dry-run)")
    if left_out:
        print(f"{'':10}     stays here: {', '.join(left_out)}")
