"""Warns on import if the installed release of torch or transformers is outside the supported range."""

import warnings
from importlib.metadata import PackageNotFoundError, requires, version

from packaging.requirements import Requirement

_PACKAGE = "vanilla_transformers"
_NAMES = ("torch", "transformers")


def outside_range() -> list[str]:
    """One line for each package whose installed release is outside the range that this package requires."""
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
    except PackageNotFoundError:  # a source checkout on the path has no installed metadata
        return []


def install_command(extra: str) -> str:
    """The command that installs the packages of an extra, in the versions that this package requires."""
    try:
        wanted = [one for one in map(Requirement, requires(_PACKAGE) or []) if one.marker]
    except PackageNotFoundError:
        wanted = []
    names = [f'"{one.name}{one.specifier}"' for one in wanted if one.marker and one.marker.evaluate({"extra": extra})]
    return f"pip install {' '.join(names)}" if names else f'pip install "{_PACKAGE}[{extra}]"'


for _line in outside_range():
    warnings.warn(_line, RuntimeWarning, stacklevel=2)
