"""Folders that are complete or absent."""

import pytest

from vanilla_recipes.errors import UserError
from vanilla_recipes.folders import clear_leftovers, complete_folder, write_text


def content(folder):
    return {path.name: path.read_text() for path in folder.iterdir()}


def test_replaces_the_folder_as_a_whole(tmp_path):
    for number in ("1", "2"):
        with complete_folder(tmp_path / "best") as folder:
            (folder / number).write_text(number)
    assert content(tmp_path / "best") == {"2": "2"}
    assert [path.name for path in tmp_path.iterdir()] == ["best"]


@pytest.mark.parametrize("error", [ValueError("mine"), OSError(28, "No space left on device")])
def test_keeps_the_old_folder_when_writing_fails(tmp_path, error):
    with complete_folder(tmp_path / "best") as folder:
        (folder / "1").write_text("1")

    def fail():
        with complete_folder(tmp_path / "best") as folder:
            (folder / "2").write_text("2")
            raise error

    with pytest.raises(UserError if isinstance(error, OSError) else ValueError):
        fail()
    assert content(tmp_path / "best") == {"1": "1"}
    assert [path.name for path in tmp_path.iterdir()] == ["best"]


def test_finds_the_full_disk_behind_another_error(tmp_path):
    def save():
        try:
            raise OSError(28, "No space left on device")
        finally:
            raise RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 64 vs 0")

    message = r"new: cannot be written: .*No space left on device; free some space or"
    with pytest.raises(UserError, match=message), complete_folder(tmp_path / "new"):
        save()


def test_clears_what_a_killed_process_left(tmp_path):
    for name in (".writing-best", ".replaced-final", ".replaced-best", "best"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    (tmp_path / ".writing-config.yaml").write_text("half")
    clear_leftovers(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best", "final"]
    assert content(tmp_path / "best") == {"file": "best"}
    assert content(tmp_path / "final") == {"file": ".replaced-final"}


def test_text_file_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"results\.json: cannot be written"):
        write_text(tmp_path / "file" / "results.json", "{}")
