"""Releases outside the range of pyproject.toml are told at import."""

import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError

import pytest

from vanilla_transformers import releases

RANGES = ["torch<3,>=2.13", "transformers<6,>=5.23", "tqdm<5,>=4.66", 'transformers<5; extra == "old"']


def installed(monkeypatch, **versions: str) -> None:
    monkeypatch.setattr(releases, "requires", lambda _: RANGES)
    found = {"torch": "2.13.0+cpu", "transformers": "5.24.0"} | versions
    monkeypatch.setattr(releases, "version", found.__getitem__)


@pytest.mark.parametrize(
    ("name", "release"),
    [("transformers", "5.22.2"), ("transformers", "6.0.0"), ("torch", "2.12.1"), ("torch", "3.0.0")],
)
def test_a_release_outside_the_range(name, release, monkeypatch):
    installed(monkeypatch, **{name: release})
    (line,) = releases.outside_range()
    own = next(text for text in RANGES if text.startswith(name))
    assert line == (
        f"{name} {release} is installed, but vanilla_transformers is made for {own}: results may be wrong; "
        f'pip install "{own}"'
    )


@pytest.mark.parametrize("versions", [{}, {"transformers": "5.25.0.dev0"}, {"torch": "2.15.0+cu130"}], ids=str)
def test_a_release_inside_it(versions, monkeypatch):
    installed(monkeypatch, **versions)
    assert releases.outside_range() == []


@pytest.mark.parametrize("name", ["requires", "version"])
def test_a_checkout_that_is_not_installed(name, monkeypatch):
    """Of this package, or of torch or transformers."""

    def missing(_):
        raise releases.PackageNotFoundError

    installed(monkeypatch, transformers="5.1.0")
    monkeypatch.setattr(releases, name, missing)
    assert releases.outside_range() == []


def test_it_is_told_at_import():
    code = (
        "import importlib.metadata as m; real = m.version\n"
        "m.version = lambda name: '5.1.0' if name == 'transformers' else real(name)\n"
        "import vanilla_transformers"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "RuntimeWarning: transformers 5.1.0 is installed, but vanilla_transformers is made for" in done.stderr


def test_an_extra_is_named_by_its_packages(monkeypatch):
    """The package itself may be on no index."""
    assert re.fullmatch(r'pip install "peft<1,>=[\d.]+"', releases.install_command("peft"))
    assert releases.install_command("onnx").count('"') == 6

    def lacking(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr(releases, "requires", lacking)
    assert releases.install_command("peft") == 'pip install "vanilla_transformers[peft]"'
