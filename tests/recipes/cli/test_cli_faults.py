"""From exceptions to one line and an exit status, in processes of their own where the output itself fails."""

import errno
import os
import signal
import subprocess
import sys
import time

import pytest
from huggingface_hub.errors import StrictDataclassClassValidationError, StrictDataclassFieldValidationError
from safetensors import SafetensorError

from vanilla_recipes.cli.faults import UsageError, explanation, guarded
from vanilla_recipes.errors import UserError


def run(code: str, **options) -> subprocess.CompletedProcess:
    """Run a Python program that may import vanilla_recipes.cli."""
    return subprocess.run([sys.executable, "-c", code], text=True, stderr=subprocess.PIPE, check=False, **options)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (UserError("data.jsonl:3: broken\n  second fault"), (1, "data.jsonl:3: broken\n  second fault")),
        (UsageError("no such option"), (2, "no such option")),
        (SafetensorError("header\ntoo small"), (1, "header too small")),
        (
            FileNotFoundError(errno.ENOENT, "No such file or directory", "x.txt"),
            (1, "x.txt: No such file or directory"),
        ),
        (OSError(errno.EXDEV, "Invalid link", "a", None, "b"), (1, "a -> b: Invalid link")),
        (OSError(errno.ENOSPC, "No space left on device"), (1, "writing or reading failed: No space left on device")),
        (OSError("a text\nof a library"), (1, "a text of a library")),
        (KeyboardInterrupt(), (130, "interrupted")),
        (BrokenPipeError(), (141, "the output was closed before everything was written")),
        (RuntimeError("a bug"), None),
    ],
)
def test_what_is_told_about_an_exception(error, expected):
    assert explanation(error) == expected


def test_a_rejected_model_configuration_is_one_line():
    error = StrictDataclassFieldValidationError(field="hidden_size", cause=TypeError("expected int"))
    status, line = explanation(error)
    assert status == 1
    assert "hidden_size" in line
    assert "\n" not in line


def test_a_validator_of_a_model_configuration_speaks_for_itself():
    error = StrictDataclassClassValidationError(validator="validate_sizes", cause=ValueError("too wide"))
    error.__cause__ = ValueError("hidden_size is\ntoo wide")
    assert explanation(error) == (1, "hidden_size is too wide")


def test_a_bug_keeps_its_traceback_and_debug_shows_every_one():
    def fail(error: Exception) -> int:
        raise error

    with pytest.raises(ZeroDivisionError):
        guarded(lambda: 1 // 0)
    with pytest.raises(UserError):
        guarded(lambda: fail(UserError("x")), debug=True)
    assert guarded(lambda: fail(UserError("x"))) == 1


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
def test_a_full_disk_is_one_line():
    with open("/dev/full", "w") as full:
        done = run("import sys, vanilla_recipes.cli; sys.exit(vanilla_recipes.cli.main(['configs']))", stdout=full)
    assert done.returncode == 1
    assert done.stderr == "vanilla: writing or reading failed: No space left on device\n"


def test_a_closed_pipe_is_one_line():
    code = (
        "import sys\nfrom vanilla_recipes.cli.faults import guarded\n"
        "sys.exit(guarded(lambda: print('x' * 1_000_000) or 0))"
    )
    reader, writer = os.pipe()
    os.close(reader)
    done = run(code, stdout=writer)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, "vanilla: the output was closed before everything was written\n")


def test_an_interrupt_is_one_line():
    code = (
        "import signal, sys, time\nfrom vanilla_recipes.cli.faults import guarded\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # shells have background jobs ignore it
        "sys.exit(guarded(lambda: print('ready', flush=True) or time.sleep(60)))"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=30)
    assert (process.returncode, stderr) == (130, "vanilla: interrupted\n")
