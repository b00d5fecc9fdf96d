"""`vanilla update`: a line for each kind of change."""

import vanilla_recipes.cli


def run(capsys, *words):
    """Status, and the lines on standard output and on standard error."""
    status = vanilla_recipes.cli.main(["update", *map(str, words)])
    printed = capsys.readouterr()
    return status, printed.out.splitlines(), printed.err.splitlines()


def test_each_kind_of_change_is_a_line(model_folder, capsys):
    (model_folder / "older.py").write_text("")
    layers = model_folder / "layers.py"
    layers.write_text(f"{layers.read_text()}\nfrom . import older\n")
    (model_folder / "caches.py").unlink()
    changes = ["renewed   1 file: layers.py", "added     1 file: caches.py", "removed   1 file: older.py"]
    status, lines, errors = run(capsys, model_folder, "--dry-run")
    assert (status, lines[:3], errors) == (0, changes, [])
    assert lines[3].startswith("unchanged ")
    assert lines[4:] == [f"{model_folder}: nothing was written (--dry-run)"]
    status, lines, errors = run(capsys, model_folder)
    assert (status, lines[-5:-2], errors) == (0, changes, [])
    assert lines[0].startswith("ok     model: loaded by")
    assert lines[-1] == f"{model_folder}: its code is now up to date"
    status, lines, errors = run(capsys, model_folder)
    assert (status, len(lines), errors) == (0, 1, [])
    assert lines[0].startswith(f"{model_folder}: nothing to do: its ")


def test_what_cannot_be_renewed_is_a_line(tmp_path, capsys):
    status, lines, [error] = run(capsys, tmp_path)
    assert (status, lines) == (1, [])
    assert error.startswith(f"vanilla: {tmp_path}: it holds neither a run (config.yaml) nor a model (config.json)")
