"""`vanilla update`: renew the code in a saved folder, proved before anything is replaced."""

import argparse
from collections.abc import Iterator, Sequence

from vanilla_recipes.publishing.renewal import Renewal, renew


def update(arguments: argparse.Namespace) -> int:
    """Renew the code of what the arguments name, and say what changed.

    Raises:
        UserError: it cannot be renewed; the folder is as it was.
    """
    renewal = renew(arguments.run, arguments.model, dry_run=arguments.dry_run)
    for line in changes(renewal, arguments.dry_run):
        print(line)
    return 0


def changes(renewal: Renewal, dry_run: bool) -> Iterator[str]:
    """A line for each kind of change."""
    if not renewal.is_needed:
        yield f"{renewal.folder}: nothing to do: its {files(renewal.unchanged)} of code are those of this package"
        return
    for deed, names in (("renewed", renewal.renewed), ("added", renewal.added), ("removed", renewal.removed)):
        if names:
            yield f"{deed:9} {files(names)}: {', '.join(names)}"
    if renewal.changes_config:
        yield "renewed   auto_map in config.json"
    if renewal.unchanged:
        yield f"unchanged {files(renewal.unchanged)} of code"
    yield f"{renewal.folder}: {'nothing was written (--dry-run)' if dry_run else 'its code is that of this package'}"


def files(names: Sequence[str]) -> str:
    """How many there are."""
    return f"{len(names)} file{'s' * (len(names) != 1)}"
