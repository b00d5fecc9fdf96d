"""How processes find each other under Slurm, and which of them tells of a fault."""

import pytest
import torch.distributed as dist
from two_processes import in_processes

from vanilla_recipes.errors import ContactError, UserError
from vanilla_recipes.processes.launch import build_accelerator
from vanilla_recipes.processes.processes import contact, first_host, join_slurm, speaks
from vanilla_recipes.settings.experiment import Experiment

STEP = {
    "SLURM_JOB_ID": "12345", "SLURM_STEP_ID": "2", "SLURM_STEP_NUM_TASKS": "16", "SLURM_STEP_NODELIST": "gpu[07-08]",
    "SLURM_PROCID": "9", "SLURM_LOCALID": "1",
}  # fmt: skip


def test_srun_gives_what_torch_needs():
    environment = dict(STEP)
    join_slurm(environment)
    assert {name: value for name, value in environment.items() if not name.startswith("SLURM")} == {
        "WORLD_SIZE": "16", "RANK": "9", "LOCAL_RANK": "1", "MASTER_ADDR": "gpu07", "MASTER_PORT": "22347",
    }  # fmt: skip


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"SLURM_NTASKS": "16", "SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_JOB_NODELIST": "gpu[07-08]"},
        STEP | {"SLURM_STEP_NUM_TASKS": "1"},
        STEP | {"WORLD_SIZE": "4", "RANK": "3", "LOCAL_RANK": "3", "MASTER_ADDR": "a", "MASTER_PORT": "1"},
    ],
    ids=["no Slurm", "a batch script", "one task", "torchrun under srun"],
)
def test_leaves_other_launches_alone(environment):
    before = dict(environment)
    join_slurm(environment)
    assert environment == before


def test_an_address_that_is_given_stays():
    environment = STEP | {"MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "29500"}
    join_slurm(environment)
    assert (environment["MASTER_ADDR"], environment["MASTER_PORT"]) == ("10.0.0.1", "29500")


def test_tells_what_srun_does_not_say():
    environment = {name: value for name, value in STEP.items() if name not in ("SLURM_LOCALID", "SLURM_PROCID")}
    message = "srun started 16 tasks, but SLURM_LOCALID, SLURM_PROCID is not set: use torchrun"
    with pytest.raises(UserError, match=message):
        join_slurm(environment)


@pytest.mark.parametrize(
    ("hosts", "first"),
    [
        ("head", "head"),
        ("head,gpu[1-4]", "head"),
        ("gpu[03-05,9]-ib,head", "gpu03-ib"),
        ("rack2-gpu[11,13]", "rack2-gpu11"),
        ("r[1-2]n[3-4]", "r1n3"),
    ],
)
def test_first_machine_of_a_list(hosts, first):
    assert first_host(hosts) == first


def test_before_the_processes_meet_the_first_of_each_machine_speaks(monkeypatch):
    assert speaks()
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert not speaks()


def who_speaks() -> tuple[bool, bool]:
    accelerator = build_accelerator(Experiment())
    accelerator.wait_for_everyone()
    return speaks(), speaks()


def test_of_two_processes_the_first_that_asks_speaks_and_only_once():
    answers = in_processes(2, who_speaks)
    assert sum(answer for both in answers for answer in both) == 1


def lose_contact() -> str:
    accelerator = build_accelerator(Experiment())
    accelerator.wait_for_everyone()
    if accelerator.process_index == 1:
        return "gone"
    try:
        with contact():
            for _ in range(1000):
                dist.barrier()
    except ContactError as error:
        return str(error)
    return "still there"


def test_a_process_that_ended_is_told_in_one_line():
    message, _ = in_processes(2, lose_contact)
    assert message.startswith("lost contact with another process, which ended or hung (a process")
    assert message.endswith("resume=if_available continues from the newest checkpoint")
    assert "\n" not in message


def test_other_faults_pass_through():
    with pytest.raises(RuntimeError, match="a fault of the program"), contact():
        raise RuntimeError("a fault of the program")
