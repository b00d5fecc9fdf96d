"""The tests which transformers runs on its own models, run on ours.

Its source distribution carries the mixins in `tests/`, but not all that they import. The driver lays them out in a
temporary folder with stand-ins for the rest and the files of `suite/`, and runs pytest there on one class of
`suite/families.py` at a time. Nothing of the distribution is kept in the project.

`VANILLA_TRANSFORMERS_SDIST` names a distribution that is already on the disk.
"""

import importlib.util
import os
import shutil
import subprocess
import sys
import tarfile
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
import transformers

pytestmark = pytest.mark.slow

SUITE = Path(__file__).parent / "suite"

# Class in suite/families.py -> tests that pass at least, with transformers 5.23 and 5.24 on the CPU. A lost support
# flag makes tests skip instead of fail: the count notices.
FLOORS = {
    "Seq2Seq": 116,
    "Seq2SeqSwitched": 116,
    "Seq2SeqWithoutPositions": 116,
    "Encoder": 118,
    "EncoderSwitched": 118,
    "EncoderWithoutPositions": 118,
    "Decoder": 120,
    "DecoderSwitched": 120,
    "DecoderWithoutPositions": 120,
}

# What the mixins import and the distribution lacks. The tests of generation and of the exporters are left out with it.
STAND_INS = {
    "generation/test_utils.py": "class GenerationTesterMixin: pass\n",
    "exporters/test_export.py": "class ExportTesterMixin: pass\n",
    "utils/test_configuration_utils.py": (
        "config_common_kwargs = dict(return_dict=False, output_hidden_states=True, output_attentions=True,"
        " dtype='float16', chunk_size_feed_forward=5, architectures=['AnyModel'], id2label={0: 'label'},"
        " label2id={'label': '0'}, problem_type='regression')\n"
    ),
}

# Counts are those of a machine without an accelerator, without a network, slow tests included.
ENVIRONMENT = {
    "CUDA_VISIBLE_DEVICES": "",
    "HF_HUB_OFFLINE": "1",
    "OMP_NUM_THREADS": "1",
    "RUN_SLOW": "1",
    "TRANSFORMERS_TEST_DEVICE": "cpu",
}


class Outcome(NamedTuple):
    """Result of one run: number of passed tests, and `name: message` of each that failed or could not run."""

    passed: int
    broken: list[str]


def find_distribution(cache: Path) -> Path:
    """Return the source distribution of the installed transformers, downloading it into ``cache`` the first time.

    Skips the test where the package index cannot be reached.
    """
    if named := os.environ.get("VANILLA_TRANSFORMERS_SDIST"):
        return Path(named)
    path = cache / f"transformers-{transformers.__version__}.tar.gz"
    if not path.exists():
        options = ["--quiet", "--no-deps", "--no-build-isolation", "--no-binary", ":all:", "--dest", str(cache)]
        command = [sys.executable, "-m", "pip", "download", *options, f"transformers=={transformers.__version__}"]
        run = subprocess.run(command, capture_output=True, text=True)
        if run.returncode:
            pytest.skip(f"no source distribution of transformers {transformers.__version__}: {run.stderr[-300:]}")
    return path


def lay_out(distribution: Path, folder: Path) -> Path:
    """Make ``folder/tests`` of the distribution's mixins, the stand-ins and our suite; return ``folder``."""
    tests = folder / "tests"
    with tarfile.open(distribution) as archive:
        for member in archive:
            name = Path(member.name)
            if member.isfile() and name.parent.name == "tests" and name.suffix == ".py":
                member.name = f"tests/{name.name}"
                archive.extract(member, folder, filter="data")
    for stand_in, text in STAND_INS.items():
        path = tests / stand_in
        path.parent.mkdir(parents=True)
        path.write_text(text)
        (path.parent / "__init__.py").touch()
    (tests / "__init__.py").touch()
    (folder / "pytest.ini").write_text("[pytest]\n")
    shutil.copytree(SUITE, tests, dirs_exist_ok=True)
    return folder


def run_suite(folder: Path, name: str) -> Outcome:
    """Run the class ``name`` of ``tests/families.py`` below ``folder`` in a pytest of its own."""
    report = folder / f"{name}.xml"
    options = ["-q", "-p", "no:cacheprovider", "--disable-warnings", "--tb=short", f"--junitxml={report}"]
    if importlib.util.find_spec("xdist"):
        options += ["-n", "2"]
    run = subprocess.run(
        [sys.executable, "-m", "pytest", *options, f"tests/families.py::{name}"],
        cwd=folder,
        env={**os.environ, **ENVIRONMENT, "PYTHONPATH": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if run.returncode not in (0, 1):
        pytest.fail(f"the suite did not run to its end:\n{run.stdout[-3000:]}")
    return read_report(report)


def read_report(report: Path) -> Outcome:
    """Count the results in a JUnit file."""
    passed, broken = 0, []
    for case in ElementTree.parse(report).iter("testcase"):
        faults = [child for child in case if child.tag in ("failure", "error")]
        broken += [f"{case.get('name')}: {fault.get('message', '')[:300]}" for fault in faults]
        passed += not any(child.tag in ("failure", "error", "skipped") for child in case)
    return Outcome(passed, broken)


@pytest.fixture(scope="module")
def suite(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Outcome]:
    distribution = find_distribution(request.config.cache.mkdir("transformers-sdist"))
    folder = lay_out(distribution, tmp_path_factory.mktemp("conformance"))
    return lambda name: run_suite(folder, name)


@pytest.mark.parametrize(("name", "floor"), FLOORS.items(), ids=FLOORS)
def test_family_passes_what_transformers_asks_of_its_models(
    suite: Callable[[str], Outcome], name: str, floor: int
) -> None:
    passed, broken = suite(name)
    assert not broken, "\n".join([f"{len(broken)} tests of {name} failed:", *broken])
    assert passed >= floor, f"{passed} tests of {name} passed, {floor} did before: has a support flag been lost?"
