"""The oldest versions that pyproject.toml allows, and the table of tested versions in docs/compatibility.md.

    versions.py constraints          print the oldest version of each requirement, as constraints for pip
    versions.py row END REPORT       write this environment and the test results in REPORT (JUnit) into the table

END is floor (the oldest versions) or newest. The table has one row for each day and END; a second run on the same day
replaces the row of the first.
"""

import argparse
import datetime
import importlib.util
import platform
import re
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]
PROJECT = ROOT / "pyproject.toml"
TABLE = ROOT / "docs" / "compatibility.md"
ENDS = ("floor", "newest")


class Counts(NamedTuple):
    """Results of a run of pytest. A test that could not be set up or collected counts as failed."""

    passed: int
    skipped: int
    failed: int


class Row(NamedTuple):
    """A row of the table. The names of the fields are the headings."""

    date: str
    end: str
    python: str
    torch: str
    transformers: str
    accelerate: str
    peft: str
    tokenizers: str
    datasets: str
    passed: str
    skipped: str
    failed: str


def requirements(project: Path = PROJECT) -> list[Requirement]:
    """Returns the requirements in pyproject.toml, including those of the extras."""
    table = tomllib.loads(project.read_text(encoding="utf-8"))["project"]
    lists = [table["dependencies"], *table["optional-dependencies"].values()]
    return [Requirement(text) for texts in lists for text in texts]


def floors(wanted: list[Requirement]) -> dict[str, Version]:
    """Returns the oldest allowed version of each package: the newest one if several requirements set a minimum."""
    found: dict[str, Version] = {}
    for requirement in wanted:
        name = canonicalize_name(requirement.name)
        for bound in requirement.specifier:
            if bound.operator == ">=":
                found[name] = max(Version(bound.version), found.get(name, Version("0")))
    return found


def read_counts(report: Path) -> Counts:
    """Counts the results in a JUnit file."""
    passed, skipped, failed = 0, 0, 0
    for case in ElementTree.parse(report).iter("testcase"):
        outcomes = {child.tag for child in case}
        if outcomes & {"failure", "error"}:
            failed += 1
        elif "skipped" in outcomes:
            skipped += 1
        else:
            passed += 1
    return Counts(passed, skipped, failed)


def torch_build() -> str:
    """Returns the version of torch with its build, such as 2.13.0+cpu; the metadata of some builds lack the build."""
    spec = importlib.util.find_spec("torch")
    file = Path(spec.origin).with_name("version.py") if spec and spec.origin else None
    found = re.search(r"^__version__ = '(.+)'$", file.read_text(), flags=re.MULTILINE) if file else None
    return found[1] if found else version("torch")


def row_of_this_environment(end: str, counts: Counts) -> Row:
    libraries = [version(name) for name in ("transformers", "accelerate", "peft", "tokenizers", "datasets")]
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    return Row(today, end, platform.python_version(), torch_build(), *libraries, *map(str, counts))


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def read_table(text: str) -> tuple[str, list[Row]]:
    """Returns the text before the table and the rows of the table.

    Raises:
        ValueError: If the page does not end in a table with the columns of `Row`.
    """
    prose, heading, table = text.partition(f"| {' | '.join(Row._fields)} |\n")
    lines = table.splitlines()
    if not heading or any(len(cells(line)) != len(Row._fields) for line in lines):
        raise ValueError(f"the page does not end in a table with the columns {', '.join(Row._fields)}")
    return prose, [Row(*cells(line)) for line in lines[1:]]


def with_row(text: str, row: Row) -> str:
    """Returns the page with `row` in its table, the newest day first. It replaces a row of the same day and END."""
    prose, rows = read_table(text)
    kept = [other for other in rows if (other.date, other.end) != (row.date, row.end)]
    rows = sorted([*kept, row], key=lambda each: ENDS.index(each.end))
    rows.sort(key=lambda each: each.date, reverse=True)
    lines = [Row._fields, ["---"] * len(Row._fields), *rows]
    return prose + "".join(f"| {' | '.join(line)} |\n" for line in lines)


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("constraints")
    of_row = commands.add_parser("row")
    of_row.add_argument("end", choices=ENDS)
    of_row.add_argument("report", type=Path)
    options = parser.parse_args(words)
    if options.command == "constraints":
        print("\n".join(f"{name}=={oldest}" for name, oldest in sorted(floors(requirements()).items())))
        return 0
    if not options.report.exists():
        print(f"{options.report} is missing, so pytest did not run to its end: no row was written", file=sys.stderr)
        return 1
    row = row_of_this_environment(options.end, read_counts(options.report))
    TABLE.write_text(with_row(TABLE.read_text(encoding="utf-8"), row), encoding="utf-8")
    print(f"{TABLE.relative_to(ROOT)}: | {' | '.join(row)} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
