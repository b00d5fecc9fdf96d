"""`vanilla push`: put a model on the Hub, proved before it is sent."""

import argparse
import dataclasses

from vanilla_transformers.recipes.publishing.details import read_details
from vanilla_transformers.recipes.publishing.publication import Publication, publish


def push(arguments: argparse.Namespace) -> int:
    """Push what the arguments name, and say where it is."""
    details = read_details(arguments.card)
    if arguments.license is not None:
        details = dataclasses.replace(details, license=arguments.license)
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
        list_files(done)
    else:
        print(f"pushed {done.url}")
    return 0


def list_files(done: Publication) -> None:
    """What would be sent, and what would not."""
    for path, size in done.files.items():
        print(f"{size / 1e6:10,.3f} MB  {path}")
    print(f"{sum(done.files.values()) / 1e6:10,.3f} MB  in {len(done.files)} files; nothing was sent (--dry-run)")
    if done.left_out:
        print(f"{'':10}     stays here: {', '.join(done.left_out)}")
