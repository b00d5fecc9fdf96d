"""Tells, when the package is imported, of a release of torch or transformers that it was not made for."""

import warnings
from importlib.metadata import PackageNotFoundError, requires, version

from packaging.requirements import Requirement

_PACKAGE = "vanilla_transformers"
_NAMES = ("torch", "transformers")


def outside_range() -> list[str]:
    """For each of the packages whose release this package does not allow, one line with the release and the range."""
    try:
        return [
            f"{requirement.name} {version(requirement.name)} is installed, but vanilla_transformers is made for "
            f"{requirement.name}{requirement.specifier}: results may be wrong; "
            f'pip install "{requirement.name}{requirement.specifier}"'
            for requirement in map(Requirement, requires(_PACKAGE) or [])
            if requirement.name in _NAMES
            and not requirement.marker
            and not requirement.specifier.contains(version(requirement.name), prereleases=True)
        ]
    except PackageNotFoundError:  # of a checkout on the path, which has no range or no version
        return []


for _line in outside_range():
    warnings.warn(_line, RuntimeWarning, stacklevel=2)
