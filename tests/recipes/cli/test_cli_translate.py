"""`vanilla translate`: where sentences come from, where translations go, and that line N answers line N."""

import errno
import io
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

import vanilla_recipes.cli
from vanilla_recipes.cli.lines import atomic_file, read_lines
from vanilla_recipes.errors import UserError

LINES = ["the dog bites the man .", "", "the man", "  ", "dog", "the man bites the dog ."]


@pytest.fixture(scope="module")
def expected(saved_model: Path) -> list[str]:
    """Each line translated alone by generate(), which knows nothing of batches or of the command."""
    tokenizer = AutoTokenizer.from_pretrained(saved_model)
    model = AutoModelForSeq2SeqLM.from_pretrained(saved_model).eval()
    answers = []
    for line in LINES:
        with torch.inference_mode():
            output = model.generate(**tokenizer(line, return_tensors="pt"))
        text = tokenizer.decode(output[0], skip_special_tokens=True)
        answers.append(" ".join(text.split()) if line.strip() else "")
    return answers


class StandardInput(io.TextIOWrapper):
    """Bytes on standard input, of a terminal or not."""

    def __init__(self, content: bytes, terminal: bool = False) -> None:
        super().__init__(io.BytesIO(content))
        self.terminal = terminal

    def isatty(self) -> bool:
        return self.terminal


def test_sentences_of_the_command_line(saved_model, expected, capsys):
    assert vanilla_recipes.cli.main(["translate", str(saved_model), LINES[0], "--num-beams", "1", LINES[5]]) == 0
    printed = capsys.readouterr()
    assert printed.out.splitlines() == [expected[0], expected[5]]
    assert printed.err == ""


def test_eight_bits_by_ctranslate2(saved_model, capsys):
    assert vanilla_recipes.cli.main(["translate", str(saved_model), *LINES[::5], "--dtype", "int8", "--scores"]) == 0
    answers = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert [len(fields) for fields in answers] in ([2, 2], [1, 2], [2, 1], [1, 1])  # an empty answer has no score
    assert all(float(fields[0]) <= 0 for fields in answers if len(fields) == 2)


def test_eight_bits_without_ctranslate2(saved_model, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "ctranslate2", None)
    assert vanilla_recipes.cli.main(["translate", str(saved_model), "dog", "--dtype", "int8"]) == 1
    assert "--dtype int8: ctranslate2 is not installed: pip install" in capsys.readouterr().err


@pytest.mark.parametrize("words", [[], ["-"]])
def test_lines_of_standard_input_answer_one_to_one(words, saved_model, expected, capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdin", StandardInput("\r\n".join(LINES).encode()))
    assert vanilla_recipes.cli.main(["translate", str(saved_model), *words, "--num-beams", "1"]) == 0
    assert capsys.readouterr().out.split("\n") == [*expected, ""]


def test_from_a_file_to_a_file(saved_model, expected, tmp_path, capsys):
    source, target = tmp_path / "english.txt", tmp_path / "german.txt"
    source.write_text("\n".join(LINES) + "\n", encoding="utf-8-sig")
    command = ["translate", str(saved_model), "--from", str(source), "--to", str(target), "--num-beams", "1"]
    assert vanilla_recipes.cli.main([*command, "--batch-tokens", "8"]) == 0
    assert target.read_text(encoding="utf-8").split("\n") == [*expected, ""]
    assert capsys.readouterr().out == ""

    target.write_text("mine", encoding="utf-8")
    assert vanilla_recipes.cli.main(command) == 2
    assert "german.txt: the file exists; name another one or add --overwrite" in capsys.readouterr().err
    assert target.read_text(encoding="utf-8") == "mine"
    assert vanilla_recipes.cli.main([*command, "--overwrite"]) == 0
    assert target.read_text(encoding="utf-8").split("\n") == [*expected, ""]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["english.txt", "german.txt"]


def test_a_process_of_its_own_prints_the_translation_and_nothing_else(saved_model, expected):
    command = [sys.executable, "-m", "vanilla_recipes.cli", "translate", str(saved_model), LINES[0], "--num-beams", "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    assert (done.returncode, done.stdout, done.stderr) == (0, expected[0] + "\n", "")


def test_input_that_is_not_utf8_names_the_line_and_leaves_no_output(saved_model, tmp_path, capsys):
    source, target = tmp_path / "latin.txt", tmp_path / "german.txt"
    source.write_bytes(b"the man\nthe \xe4 dog\n")
    assert vanilla_recipes.cli.main(["translate", str(saved_model), "--from", str(source), "--to", str(target)]) == 1
    assert f"{source}:2: byte 5 of the line is not UTF-8" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["latin.txt"]


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ([], "nothing to translate: give a sentence, --from FILE, or lines on standard input"),
        (["a", "--from", "x"], "sentences on the command line and --from exclude each other"),
        (["-", "a"], "`-` (standard input) must be the only"),
        (["a", "--overwrite"], "--overwrite is for --to FILE"),
        (["a", "--to", "/dev/null"], "--to /dev/null: is no regular file"),
        (["a", "--to", "."], "--to .: is no regular file"),
        (["a", "--to", "no/such/folder.txt"], "create it first"),
    ],
)
def test_a_mistake_is_told_before_anything_is_loaded(words, text, capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdin", StandardInput(b"", terminal=True))
    assert vanilla_recipes.cli.main(["translate", "no/such/model", *words]) == 2
    assert text in capsys.readouterr().err


def test_a_source_that_is_missing_is_told_before_the_model_is_loaded(capsys):
    assert vanilla_recipes.cli.main(["translate", "no/such/model", "--from", "gone.txt"]) == 1
    assert capsys.readouterr().err == "vanilla: gone.txt: No such file or directory\n"


def test_no_input_gives_no_output(saved_model, capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdin", StandardInput(b""))
    assert vanilla_recipes.cli.main(["translate", str(saved_model)]) == 0
    assert capsys.readouterr().out == ""


def test_only_newlines_end_a_line(tmp_path):
    file = tmp_path / "lines.txt"
    file.write_bytes("a\u2028b\x0bc\rd\r\n\n\x85".encode())
    assert list(read_lines(str(file))) == ["a\u2028b\x0bc\rd", "", "\x85"]


def test_an_atomic_file_is_complete_or_absent(tmp_path):
    path = tmp_path / "out.txt"
    with pytest.raises(UserError):
        write_half(path)
    assert list(tmp_path.iterdir()) == []
    path.write_text("old")
    path.chmod(0o640)
    with atomic_file(path) as file:
        file.write("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert path.stat().st_mode & 0o777 == 0o640


def test_a_full_disk_names_the_output_file_and_leaves_nothing(saved_model, tmp_path, capsys, monkeypatch):
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    target = tmp_path / "german.txt"
    monkeypatch.setattr("os.fsync", full)
    assert vanilla_recipes.cli.main(["translate", str(saved_model), "the dog", "--to", str(target)]) == 1
    assert capsys.readouterr().err == f"vanilla: {target}: No space left on device\n"
    assert list(tmp_path.iterdir()) == []


def write_half(path: Path) -> None:
    with atomic_file(path) as file:
        file.write("half")
        raise UserError("stopped")
