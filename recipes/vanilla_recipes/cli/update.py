"""`vanilla update`: renews the code in a saved folder, after a check that the outputs of the model stay the same."""

import argparse
from collections.abc import Iterator, Sequence

from vanilla_recipes.publishing.renewal import Renewal, renew


def update(arguments: argparse.Namespace) -> int:
    """Renews the code in a folder, and prints the changes.

    Raises:
        UserError: If the code cannot be renewed; the folder is unchanged.
    """
    renewal = renew(arguments.run, arguments.model, dry_run=arguments.dry_run)
    for line in changes(renewal, arguments.dry_run):
        print(line)
    return 0


def changes(renewal: Renewal, dry_run: bool) -> Iterator[str]:
    """Yields one line for each kind of change."""
    if not renewal.is_needed:
        yield f"{renewal.folder}: nothing to do: its {files(renewal.unchanged)} of code are up to date"
        return
    for deed, names in (("renewed", renewal.renewed), ("added", renewal.added), ("removed", renewal.removed)):
        if names:
            yield f"{deed:9} {files(names)}: {', '.join(names)}"
    if renewal.changes_config:
        yield "renewed   auto_map in config.json"
    if renewal.unchanged:
        yield f"unchanged {files(renewal.unchanged)} of code"
    yield f"{renewal.folder}: {'nothing was written (--dry-run)' if dry_run else 'its code is now up to date'}"


def files(names: Sequence[str]) -> str:
    """Returns the number of names as text: `1 file`, `2 files`."""
    return f"{len(names)} file{'s' * (len(names) != 1)}"
