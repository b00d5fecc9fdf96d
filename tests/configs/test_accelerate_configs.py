"""How to launch: each file is what Accelerate's own launcher reads, and the Slurm script does what it says."""

import os
import signal
import subprocess
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from accelerate.commands import launch
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.utils import DistributedType
from accelerate.utils.launch import (
    prepare_deepspeed_cmd_env,
    prepare_multi_gpu_env,
    prepare_simple_launcher_cmd_env,
)
from project import ROOT

from vanilla_recipes.processes.launch import _contradictions
from vanilla_recipes.processes.zero import zero_problems
from vanilla_recipes.settings.config_files import load_experiment
from vanilla_recipes.settings.experiment import Experiment
from vanilla_recipes.translation import TranslationExperiment

FOLDER = ROOT / "configs" / "accelerate"
KINDS = {
    "cpu": DistributedType.NO,
    "one_gpu": DistributedType.NO,
    "ddp": DistributedType.MULTI_GPU,
    "two_nodes": DistributedType.MULTI_GPU,
    "fsdp2": DistributedType.FSDP,
    "deepspeed_zero2": DistributedType.DEEPSPEED,
    "deepspeed_zero3": DistributedType.DEEPSPEED,
}


def launch_environment(file: Path, monkeypatch) -> dict[str, str]:
    """What `accelerate launch` puts into the environment of the processes."""
    monkeypatch.setattr("accelerate.utils.launch.is_port_in_use", lambda port: False)
    found = []
    for name, prepare in (
        ("simple_launcher", lambda arguments: prepare_simple_launcher_cmd_env(arguments)[1]),
        ("multi_gpu_launcher", prepare_multi_gpu_env),
        ("deepspeed_launcher", lambda arguments: prepare_deepspeed_cmd_env(arguments)[1]),
    ):
        monkeypatch.setattr(launch, name, lambda arguments, prepare=prepare: found.append(prepare(arguments)))
    launch.launch_command(
        launch.launch_command_parser().parse_args(["--config_file", str(file), "recipes/translation.py"])
    )
    (environment,) = found
    return environment


def test_every_file_is_tested():
    assert {file.stem for file in FOLDER.glob("*.yaml")} == KINDS.keys()


@pytest.mark.parametrize("name", KINDS)
def test_accelerate_reads_it_and_the_engine_takes_it(name, monkeypatch):
    file = FOLDER / f"{name}.yaml"
    assert load_config_from_file(str(file)).distributed_type == KINDS[name]
    environment = launch_environment(file, monkeypatch)
    asked = {kind for kind in ("FSDP", "DEEPSPEED") if environment.get(f"ACCELERATE_USE_{kind}") == "true"}
    assert asked == ({KINDS[name].value} & {"FSDP", "DEEPSPEED"})
    assert list(_contradictions(Experiment(precision="bf16"), environment)) == []


@pytest.mark.parametrize("name", KINDS)
def test_opens_with_its_command(name):
    command, purpose, *_ = (FOLDER / f"{name}.yaml").read_text(encoding="utf-8").splitlines()
    assert command.startswith(f"# accelerate launch --config_file configs/accelerate/{name}.yaml ")
    assert command.split(" recipes/")[1].split()[0] == "translation.py"
    assert purpose.startswith("# ")


@pytest.mark.parametrize("name", ["deepspeed_zero2", "deepspeed_zero3"])
def test_deepspeed_takes_the_run_of_the_command(name):
    command = (FOLDER / f"{name}.yaml").read_text(encoding="utf-8").splitlines()[0]
    config, *overrides = command.split("translation.py ")[1].split()
    experiment = load_experiment(TranslationExperiment, config, overrides)
    plugin = SimpleNamespace(zero3_init_flag=False)
    assert not list(zero_problems(experiment, SimpleNamespace(state=SimpleNamespace(deepspeed_plugin=plugin))))


def test_shards_are_what_the_files_say(monkeypatch):
    fsdp = launch_environment(FOLDER / "fsdp2.yaml", monkeypatch)
    assert (fsdp["FSDP_VERSION"], fsdp["FSDP_AUTO_WRAP_POLICY"]) == ("2", "TRANSFORMER_BASED_WRAP")
    assert (fsdp["FSDP_CPU_RAM_EFFICIENT_LOADING"], fsdp["FSDP_ACTIVATION_CHECKPOINTING"]) == ("false", "false")
    for stage in ("2", "3"):
        zero = launch_environment(FOLDER / f"deepspeed_zero{stage}.yaml", monkeypatch)
        assert zero["ACCELERATE_DEEPSPEED_ZERO_STAGE"] == stage
        assert zero["ACCELERATE_DEEPSPEED_ZERO3_INIT"] == "false"


# The Slurm script, with stand-ins for Slurm's commands

SRUN = """#!/bin/bash
echo "srun $*" >> calls; echo $$ > step
trap 'sleep 1; echo saved >> calls; exit 0' TERM
for _ in $(seq 100); do sleep 0.1; [ -e finish ] && exit "$(cat finish)"; done
"""
SCANCEL = '#!/bin/bash\necho "scancel $*" >> calls; kill -TERM "$(cat step)"\n'
SCONTROL = '#!/bin/bash\necho "scontrol $*" >> calls\n'


@pytest.fixture
def job(tmp_path):
    """The script, running with stand-ins for Slurm, in a folder of its own."""
    for name, text in {"srun": SRUN, "scancel": SCANCEL, "scontrol": SCONTROL}.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_JOB_ID": "77"}
    command = ["bash", str(FOLDER / "slurm.sh"), "translation/toy", "seed=2"]
    script = subprocess.Popen(command, cwd=tmp_path, env=environment)
    deadline = time.monotonic() + 10
    while not (tmp_path / "step").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    yield script, tmp_path
    script.kill()


STARTED = "srun --kill-on-bad-exit=1 vanilla train translation/toy seed=2 resume=if_available"


def test_job_that_runs_out_of_time_saves_and_queues_up_again(job):
    script, folder = job
    script.send_signal(signal.SIGUSR1)
    assert script.wait(timeout=20) == 0
    calls = (folder / "calls").read_text().splitlines()
    assert calls == [STARTED, "scancel --signal=TERM 77", "saved", "scontrol requeue 77"]


@pytest.mark.parametrize("status", [0, 1])
def test_job_that_ends_by_itself_does_not_queue_up_again(job, status):
    script, folder = job
    (folder / "finish").write_text(str(status))
    assert script.wait(timeout=20) == status
    assert (folder / "calls").read_text().splitlines() == [STARTED]
