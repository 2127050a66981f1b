"""What the benchmarks of backups and of restores share."""

import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TIME_LIMIT_SECONDS = 1800


def newest_restic():
    """What ci/setup unpacked, or the one on PATH."""
    unpacked = ROOT / "ci/.tools/bin"
    for name in ("restic-0.19", "restic-0.18", "restic"):
        found = shutil.which(name, path=f"{unpacked}{os.pathsep}{os.environ.get('PATH', '')}")
        if found:
            return found
    sys.exit("restic is not installed; ci/setup installs it")


def make_files(folder, count, chance):
    """Files of 0 bytes to 2 MB, half of them compressible, a tenth copied from another."""
    folder.mkdir(parents=True)
    total = 0
    previous = b""
    for number in range(count):
        size = min(int(chance.lognormvariate(9.5, 2.2)), 2_000_000)
        kind = chance.random()
        if kind < 0.1 and previous:
            content = previous
        elif kind < 0.55:
            line = f"{chance.random()} some words of a log that repeats itself\n".encode()
            content = (line * (size // len(line) + 1))[:size]
        else:
            content = chance.randbytes(size)
        previous = content
        place = folder / f"{number % 16:02}"
        place.mkdir(exist_ok=True)
        (place / f"file {number}").write_bytes(content)
        total += len(content)
    return total


def clean_environment(work):
    """No settings of whoever runs this."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("RESTIC_", "FIREDRILL_"))}
    password = work / "password"
    password.write_text("bench")
    return kept | {
        "RESTIC_REPOSITORY": str(work / "repository"),
        "RESTIC_PASSWORD_FILE": str(password),
        "TMPDIR": str(work),
        "FIREDRILL_STATE": str(work / "state"),
    }


def measure(commands, environment, cwd):
    """Runs the commands one after another: wall, user and system seconds, and the peak memory in MiB."""
    wall = user = system = peak = 0.0
    for command in commands:
        began = time.monotonic()
        bounded = ["timeout", str(TIME_LIMIT_SECONDS), *command]
        child = subprocess.Popen(bounded, env=environment, cwd=cwd, stdout=subprocess.DEVNULL)
        _, status, used = os.wait4(child.pid, 0)
        wall += time.monotonic() - began
        user += used.ru_utime
        system += used.ru_stime
        peak = max(peak, used.ru_maxrss / 1024)
        code = os.waitstatus_to_exitcode(status)
        if code != 0:
            sys.exit(f"{' '.join(command)} ended with {code}")
    return wall, user, system, peak


def busy():
    """How busy the machine was besides, for whoever reads the figures."""
    return f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors"


def table(results, mine):
    """Prints medians, and the ratios of `mine` to everybody else."""
    medians = {name: [statistics.median(column) for column in zip(*rounds)] for name, rounds in results.items()}
    print(f"{'':20} {'wall s':>9} {'user s':>9} {'system s':>9} {'peak MiB':>9}")
    for name, row in medians.items():
        print(f"{name:20} " + " ".join(f"{value:9.2f}" for value in row))
    for name, row in medians.items():
        if name != mine:
            ratios = [a / b if b else float("nan") for a, b in zip(medians[mine], row)]
            print(f"{'ratio to ' + name:20} " + " ".join(f"{value:9.2f}" for value in ratios))
    return medians
