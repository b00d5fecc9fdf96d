"""The oldest and the newest versions that pyproject.toml allows, and the table of what was tested with them."""

import datetime
import importlib.util
import re

import pytest
import torch
import yaml
from packaging.utils import canonicalize_name
from project import ROOT

spec = importlib.util.spec_from_file_location("versions", ROOT / ".ci" / "versions.py")
assert spec
assert spec.loader
versions = importlib.util.module_from_spec(spec)
spec.loader.exec_module(versions)
# pyproject.toml says why.
WITHOUT_UPPER_BOUND = {"packaging", "pyarrow", "setuptools"}


def operators(requirement) -> set[str]:
    return {bound.operator for bound in requirement.specifier}


def test_every_requirement_has_both_bounds():
    wanted = versions.requirements()
    assert len(wanted) > 40
    assert [str(one) for one in wanted if ">=" not in operators(one)] == []
    open_ended = {canonicalize_name(one.name) for one in wanted if "<" not in operators(one)}
    assert open_ended == WITHOUT_UPPER_BOUND


def test_the_floor_pins_every_requirement_to_a_version_that_all_lists_allow(capsys):
    assert versions.main(["constraints"]) == 0
    lines = [line.split("==") for line in capsys.readouterr().out.splitlines()]
    pinned = dict(lines)
    assert len(pinned) == len(lines)
    assert pinned.keys() == {canonicalize_name(one.name) for one in versions.requirements()}
    for requirement in versions.requirements():
        assert requirement.specifier.contains(pinned[canonicalize_name(requirement.name)]), requirement
    assert (pinned["torch"], pinned["transformers"]) == ("2.13", "5.23")


def test_of_two_floors_the_newer_one_counts(tmp_path):
    project = tmp_path / "pyproject.toml"
    project.write_text(
        '[project]\ndependencies = ["One_Name>=1.9,<3", "other==1"]\n'
        '[project.optional-dependencies]\na = ["one-name>=1.10"]\nb = ["one-name>=1.2"]\n'
    )
    assert {name: str(found) for name, found in versions.floors(versions.requirements(project)).items()} == {
        "one-name": "1.10"
    }


def row(date: str, end: str, passed: int = 5):
    return versions.Row(date, end, "3.11.7", "2.13.0+cpu", *["1.0"] * 5, str(passed), "0", "0")


def page(*rows) -> str:
    text = f"# Title\n\nProse.\n\n| {' | '.join(versions.Row._fields)} |\n|{' --- |' * len(versions.Row._fields)}\n"
    for each in rows:
        text = versions.with_row(text, each)
    return text


def test_the_table_has_the_last_day_first():
    rows = [row("2026-01-02", "newest"), row("2026-01-03", "newest"), row("2026-01-02", "floor")]
    prose, written = versions.read_table(page(*rows))
    assert prose == "# Title\n\nProse.\n\n"
    assert written == [rows[1], rows[2], rows[0]]


def test_a_second_run_of_a_day_replaces_the_first():
    text = page(row("2026-01-02", "floor", 5), row("2026-01-02", "newest"), row("2026-01-03", "floor"))
    _, rows = versions.read_table(versions.with_row(text, row("2026-01-02", "floor", 7)))
    assert rows == [row("2026-01-03", "floor"), row("2026-01-02", "floor", 7), row("2026-01-02", "newest")]


@pytest.mark.parametrize("end", ["", "\n", "More prose.\n", "| 2026-01-02 | floor |\n"])
def test_a_page_without_the_table_at_its_end_is_refused(end):
    text = page() + end if end else "# Title\n"
    with pytest.raises(ValueError, match="does not end in a table with the columns date, end, python, torch"):
        versions.with_row(text, row("2026-01-02", "floor"))


def test_the_page_of_the_project_has_the_table():
    _, rows = versions.read_table(versions.TABLE.read_text(encoding="utf-8"))
    assert len({(each.date, each.end) for each in rows}) == len(rows)
    for each in rows:
        assert datetime.date.fromisoformat(each.date)
        assert each.end in versions.ENDS
        assert int(each.passed) > 0
        assert int(each.skipped) >= 0
        assert int(each.failed) >= 0


def test_a_run_of_pytest_becomes_a_row(tmp_path, monkeypatch, capsys):
    report = tmp_path / "tests.xml"
    outcomes = ["", "", "<skipped/>", "<failure/>", "<error/>", ""]
    cases = "".join(f"<testcase>{outcome}</testcase>" for outcome in outcomes)
    report.write_text(f"<testsuites><testsuite>{cases}</testsuite></testsuites>")
    table = tmp_path / "table.md"
    table.write_text(page(row("2026-01-02", "floor")))
    monkeypatch.setattr(versions, "TABLE", table)
    monkeypatch.setattr(versions, "ROOT", tmp_path)
    assert versions.main(["row", "newest", str(report)]) == 0
    written = versions.read_table(table.read_text())[1][0]
    assert (written.end, written.passed, written.skipped, written.failed) == ("newest", "3", "1", "2")
    assert written.torch == torch.__version__
    assert " | ".join(written) in capsys.readouterr().out


def test_without_a_report_there_is_no_row(tmp_path, capsys):
    before = versions.TABLE.read_text()
    assert versions.main(["row", "floor", str(tmp_path / "tests.xml")]) == 1
    assert "tests.xml is missing, so pytest did not run to its end: no row was written" in capsys.readouterr().err
    assert versions.TABLE.read_text() == before


# Continuous integration


def steps(name: str) -> list[str]:
    """The commands of a workflow, once for each value of its matrix."""
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / name).read_text(encoding="utf-8"))
    found = []
    for job in workflow["jobs"].values():
        for end in job.get("strategy", {}).get("matrix", {}).get("end", [""]):
            found += [step["run"].replace("${{ matrix.end }}", end) for step in job["steps"] if "run" in step]
    return found


def test_the_workflows_run_what_there_is():
    rules = re.findall(r"^([a-z][a-z ]*):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE)
    targets = {name for rule in rules for name in rule.split()}
    made = {step.split()[1] for step in steps("versions.yml") if step.startswith("make ")}
    assert made == {*versions.ENDS, "plain"} <= targets
    assert steps("ci.yml") == [".ci/run"]
    assert (ROOT / ".ci" / "run").stat().st_mode & 0o100


def test_actions_are_named_by_their_major_version():
    for file in (ROOT / ".github" / "workflows").glob("*.yml"):
        actions = re.findall(r"uses: (.+)", file.read_text(encoding="utf-8"))
        assert actions, file
        assert all(re.fullmatch(r"actions/[a-z-]+@v\d+", action) for action in actions)
