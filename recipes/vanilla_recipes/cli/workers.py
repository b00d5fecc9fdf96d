"""Starts the processes of a training run on this machine and supervises them. Imports the standard library only.

torchrun is not used: after a signal it allows 30 seconds for saving, and reports a failure even if all processes have
saved and exited with status 0. For several machines or restarts, start the recipes with torchrun.
"""

import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType

from vanilla_recipes.cli.faults import CONTACT_LOST, WORKER, UsageError

GRACE = 20.0  # seconds within which the other processes must exit after one process has failed
INTERVAL = 0.1  # seconds between two polls of the processes
SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
PR_SET_PDEATHSIG = 1  # option of prctl on Linux: the process gets a signal when its parent process dies


def must_start(num_processes: int | None) -> bool:
    """Returns whether processes must be started: several are requested, and no launcher has started them.

    Raises:
        UsageError: If a launcher has started another number of processes than requested.
    """
    launched = os.environ.get("WORLD_SIZE", os.environ.get("SLURM_STEP_NUM_TASKS", "1"))
    is_launched = "LOCAL_RANK" in os.environ or launched != "1"
    if is_launched and num_processes not in (None, int(launched)):
        raise UsageError(
            f"--num_processes {num_processes}: this process is already one of {launched} that a launcher started; "
            "leave the option out"
        )
    return not is_launched and num_processes not in (None, 1)


def end_with_launcher() -> None:
    """In a worker process, asks Linux for a SIGTERM if the launcher dies, so that no worker continues alone."""
    if WORKER in os.environ:
        with suppress(AttributeError, OSError):
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def run_workers(words: Sequence[str], num_processes: int) -> int:
    """Runs `vanilla WORDS` in processes that train together.

    Returns:
        The exit status: 0 if all processes exit with 0, also after a signal; otherwise the status that `report` returns
        for the process that caused the failure.
    """
    workers = [start_worker(words, environment) for environment in environments(num_processes)]
    with forwarded_signals(workers) as received:
        try:
            failed = wait_for(workers)
        finally:
            for worker in workers:
                worker.kill()
                worker.wait()
    if failed is None:
        return 0
    return report(workers.index(failed), failed.returncode, received)


def environments(num_processes: int) -> Iterator[dict[str, str]]:
    """Yields the environment variables of each process, as torchrun sets them."""
    port = free_port()
    threads = str(max(1, (os.cpu_count() or 1) // num_processes))
    for rank in range(num_processes):
        yield {
            "OMP_NUM_THREADS": threads, **os.environ, WORKER: "1",
            "RANK": str(rank), "LOCAL_RANK": str(rank),
            "WORLD_SIZE": str(num_processes), "LOCAL_WORLD_SIZE": str(num_processes),
            "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
        }  # fmt: skip


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def start_worker(words: Sequence[str], environment: dict[str, str]) -> subprocess.Popen:
    """Starts a worker process in a new session, so that Ctrl-C reaches it only once, through this process."""
    command = [sys.executable, "-m", "vanilla_recipes.cli", *words]
    return subprocess.Popen(command, env=environment, start_new_session=True)


@contextmanager
def forwarded_signals(workers: Sequence[subprocess.Popen]) -> Iterator[list[int]]:
    """Forwards signals to the workers, which then save and exit. Yields the list of received signals."""
    received: list[int] = []

    def forward(number: int, frame: FrameType | None) -> None:
        received.append(number)
        for worker in workers:
            worker.send_signal(signal.SIGINT if number == signal.SIGINT else signal.SIGTERM)

    previous = {number: signal.signal(number, forward) for number in SIGNALS}
    try:
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def wait_for(workers: Sequence[subprocess.Popen]) -> subprocess.Popen | None:
    """Waits until all workers have exited, or one has failed and the other workers had `GRACE` seconds to exit.

    Returns:
        The worker that caused the failure, or None if all exited with status 0.
    """
    while not (failed := [worker for worker in workers if worker.poll()]):
        if all(worker.returncode == 0 for worker in workers):
            return None
        time.sleep(INTERVAL)
    deadline = time.monotonic() + GRACE
    while any(worker.poll() is None for worker in workers) and time.monotonic() < deadline:
        time.sleep(INTERVAL)
    failed += [worker for worker in workers if worker.returncode and worker not in failed]
    return min(failed, key=lambda worker: blame(worker.returncode))


def blame(status: int) -> int:
    """Returns how likely a process with this exit status caused the failure: the smallest number is the likeliest.

    0: a signal ended the process; 1: the process failed; 2: the process lost contact with another process.
    """
    return 0 if status < 0 else 2 if status == CONTACT_LOST else 1


def report(rank: int, status: int, received: Sequence[int]) -> int:
    """Prints why a run ended, if its processes could not print the reason. Returns the exit status."""
    if received and -status in (*received, signal.SIGTERM):
        print("vanilla: interrupted", file=sys.stderr)
        return 128 + received[-1]
    resume = "resume=if_available goes on from the newest checkpoint"
    if status < 0:
        name = signal.Signals(-status).name
        hint = " (the system kills a process when memory runs out)" if name == "SIGKILL" else ""
        print(f"vanilla: process {rank} was ended by {name}{hint}; {resume}", file=sys.stderr)
    elif status == CONTACT_LOST:
        print(f"vanilla: a process hung for longer than process_timeout; {resume}", file=sys.stderr)
    return 1 if status < 0 else status
