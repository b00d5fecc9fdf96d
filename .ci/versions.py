"""The versions that this project is run with: the oldest that pyproject.toml allows, and the table of what was tested.

    versions.py constraints          print a line for pip for the oldest version of each requirement
    versions.py row END REPORT       put this environment, and what pytest wrote into REPORT (JUnit), into the table

END is floor or newest. The table has one row for each day and end; a second run of the day replaces the first.
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
    """Results of a run of pytest. What could not be set up or collected counts as failed."""

    passed: int
    skipped: int
    failed: int


class Row(NamedTuple):
    """A row of the table. The names are its headings."""

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
    """What pyproject.toml asks for, its extras included."""
    table = tomllib.loads(project.read_text(encoding="utf-8"))["project"]
    lists = [table["dependencies"], *table["optional-dependencies"].values()]
    return [Requirement(text) for texts in lists for text in texts]


def floors(wanted: list[Requirement]) -> dict[str, Version]:
    """The oldest version of each requirement; where two of them name a package, the newer one of their floors."""
    found: dict[str, Version] = {}
    for requirement in wanted:
        name = canonicalize_name(requirement.name)
        for bound in requirement.specifier:
            if bound.operator == ">=":
                found[name] = max(Version(bound.version), found.get(name, Version("0")))
    return found


def read_counts(report: Path) -> Counts:
    """The results in a JUnit file."""
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
    """The version of torch with its build, such as 2.13.0+cpu. The metadata of some builds lack the latter."""
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
    """The prose before the table, and the rows of the table, with which the page ends."""
    prose, heading, table = text.partition(f"| {' | '.join(Row._fields)} |\n")
    lines = table.splitlines()
    if not heading or any(len(cells(line)) != len(Row._fields) for line in lines):
        raise ValueError(f"the page must end in a table with the columns {', '.join(Row._fields)}, and has none")
    return prose, [Row(*cells(line)) for line in lines[1:]]


def with_row(text: str, row: Row) -> str:
    """The page with ``row`` in its table, the last day first, in the place of the row of the same day and end."""
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
