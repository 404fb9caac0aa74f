"""Commands of a copy of the project without the seconds of their imports: each runs in a fork of this process.

Reads a JSON object per line: `argv`, `log` (file for its output), `dies_at` (before this many-th change below `folders`
it kills itself; 0: never), `whole` (and its process group with it), `threads`. Answers with the pid and, after a
further line, once the command has ended, with its exit code and the number of changes.
"""

from __future__ import annotations

import importlib
import json
import mmap
import os
import signal
import struct
import sys
import traceback

import numba
import torch

IMPORTS = ("crowdloc.cli", "crowdloc.results.runs", "crowdloc.results.store", "crowdloc.datasets.synthcrowd",
           "crowdloc.reproduce.notebooks", "papermill", "lightning_fabric", "pyarrow.parquet")  # fmt: skip
CHANGES = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.chmod", "shutil.rmtree"}


def main() -> None:
    for name in IMPORTS:
        importlib.import_module(name)
    print("ready", flush=True)
    counter = mmap.mmap(-1, 8)
    for line in sys.stdin:
        order = json.loads(line)
        counter[:] = bytes(8)
        begun, begins = os.pipe()
        pid = os.fork()
        if not pid:
            os.setsid()
            os.write(begins, b"1")  # it leads a group now, which may be killed
            run(order, counter)
        os.read(begun, 1)
        os.close(begun)
        os.close(begins)
        print(pid, flush=True)
        sys.stdin.readline()
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), *struct.unpack("q", counter), flush=True)


def run(order: dict, counter: mmap.mmap) -> None:
    code = 70
    try:
        log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        nothing = os.open(os.devnull, os.O_RDONLY)
        for number, source in enumerate((nothing, log, log)):
            os.dup2(source, number)
        torch.set_num_threads(order["threads"])
        numba.set_num_threads(order["threads"])
        sys.addaudithook(watching(order, counter))
        from crowdloc.cli import main as command

        code = command(order["argv"])
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def watching(order: dict, counter: mmap.mmap):
    """An audit hook: called before each change of a file, whatever thread makes it."""
    folders = tuple(f"{folder}/" for folder in order["folders"])

    def hook(event: str, arguments: tuple) -> None:
        if event not in CHANGES or not arguments or not str(arguments[0]).startswith(folders):
            return
        if event == "open" and not (arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR):
            return
        (made,) = struct.unpack("q", counter)
        counter[:] = struct.pack("q", made + 1)
        if made + 1 == order["dies_at"]:
            os.killpg(0, signal.SIGKILL) if order["whole"] else os.kill(os.getpid(), signal.SIGKILL)

    return hook


if __name__ == "__main__":
    main()
