"""Files: whole or not at all and never in place of a device, JSON as it was, digests of contents and names."""

from __future__ import annotations

import errno
import json
import os
import socket
import stat
import subprocess
import sys
import threading

import numpy as np
import pytest

from crowdloc.core.errors import CrowdlocError
from crowdloc.core.files import atomic_write, digest, is_temporary, read_json, write_json
from crowdloc.core.paths import ROOT


def put(path, text="new"):
    with atomic_write(path) as temporary:
        temporary.write_text(text)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def run(code, *arguments, **options):
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, text=True, timeout=60, **{"capture_output": True} | options)


PUT = """
import sys
from crowdloc.core.files import atomic_write
with atomic_write(sys.argv[1]) as temporary:
    temporary.write_text("new")
"""


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "deep" / "a.csv"
    put(path, "old")
    with pytest.raises(ZeroDivisionError), atomic_write(path) as temporary:
        temporary.write_text("half")
        assert path.read_text() == "old" and is_temporary(temporary)
        raise ZeroDivisionError
    assert path.read_text() == "old"
    put(path)
    assert path.read_text() == "new" and names(path.parent) == ["a.csv"]


def test_file_and_folder_are_synced_around_the_renaming(tmp_path, monkeypatch):
    events = []
    monkeypatch.setattr(os, "fsync", lambda file: events.append("D" if stat.S_ISDIR(os.fstat(file).st_mode) else "F"))
    replace = os.replace
    monkeypatch.setattr(os, "replace", lambda *paths: (events.append("rename"), replace(*paths)))
    put(tmp_path / "a")
    assert events == ["F", "rename", "D"]


def test_permissions_stay_and_new_files_get_those_of_the_umask(tmp_path):
    path = tmp_path / "a"
    before = os.umask(0o027)
    try:
        put(path, "old")
        assert stat.S_IMODE(path.stat().st_mode) == 0o640
        path.chmod(0o604)
        put(path)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o604 and path.read_text() == "new"


@pytest.mark.parametrize("there", [True, False], ids=["target there", "dangling"])
def test_links_stay_and_their_target_is_replaced(tmp_path, there):
    (tmp_path / "x").mkdir()
    target = tmp_path / "far" / "target.csv"
    if there:
        put(target, "old")
    (tmp_path / "x" / "second").symlink_to("../far/target.csv")
    (tmp_path / "first").symlink_to("x/second")
    put(tmp_path / "first")
    assert target.read_text() == "new" and not target.is_symlink()
    assert (tmp_path / "first").readlink().as_posix() == "x/second"
    assert (tmp_path / "x" / "second").readlink().as_posix() == "../far/target.csv"
    assert names(tmp_path / "far") == ["target.csv"] and names(tmp_path / "x") == ["second"]


def test_a_circle_of_links_is_an_error_that_names_it(tmp_path):
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(OSError) as caught:
        put(tmp_path / "a")
    assert caught.value.errno == errno.ELOOP and caught.value.filename


def test_a_folder_is_an_error_that_names_it(tmp_path):
    with pytest.raises(IsADirectoryError) as caught:
        put(tmp_path)
    assert caught.value.filename == str(tmp_path) and names(tmp_path) == []


def test_a_fifo_is_written_through(tmp_path):
    fifo = tmp_path / "fifo.csv"
    os.mkfifo(fifo)
    read = []
    reader = threading.Thread(target=lambda: read.append(fifo.read_bytes()), daemon=True)
    reader.start()
    put(fifo, "through")
    reader.join(10)
    assert read == [b"through"] and stat.S_ISFIFO(fifo.stat().st_mode) and names(tmp_path) == ["fifo.csv"]


def test_a_socket_is_written_through(tmp_path):
    if len(str(tmp_path / "s")) > 100:
        pytest.skip("the temporary folder's name is too long for a socket")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s"))
        server.listen()
        server.settimeout(10)
        put(tmp_path / "s", "through")
        connection, _ = server.accept()
        with connection, connection.makefile("rb") as file:
            assert file.read() == b"through"
    assert stat.S_ISSOCK((tmp_path / "s").stat().st_mode)


def test_a_device_stays_a_device(tmp_path):
    """As root too, who could rename over it."""
    null = tmp_path / "null"
    try:
        os.mknod(null, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
        null.write_text("opened")  # file systems mounted with nodev refuse it
    except OSError as error:
        pytest.skip(f"no device can be made here: {error.strerror}")
    (tmp_path / "link").symlink_to("null")
    put(null)
    put(tmp_path / "link")
    assert stat.S_ISCHR(null.lstat().st_mode) and names(tmp_path) == ["link", "null"]


def test_a_link_to_dev_null_and_a_full_device(tmp_path):
    (tmp_path / "null").symlink_to("/dev/null")
    put(tmp_path / "null")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode) and (tmp_path / "null").is_symlink()
    (tmp_path / "full").symlink_to("/dev/full")
    with pytest.raises(OSError) as caught:
        put(tmp_path / "full")
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, "/dev/full")


@pytest.mark.parametrize("name", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"])
def test_standard_output_is_written_through(tmp_path, name):
    assert run(PUT, name).stdout == "new"
    log = tmp_path / "log"
    log.write_text("before ")
    inode = log.stat().st_ino
    with open(log, "a") as file:
        assert run(PUT, name, stdout=file, capture_output=False).returncode == 0
    assert log.read_text() == "before new" and log.stat().st_ino == inode and names(tmp_path) == ["log"]


def test_what_a_killed_process_left_goes_with_the_next_writing(tmp_path):
    killed = PUT.replace('write_text("new")', 'write_text("half"); import os; os.kill(os.getpid(), 9)')
    assert run(killed, tmp_path / "a.b.csv").returncode == -9
    left = names(tmp_path)
    assert len(left) == 1 and is_temporary(left[0])
    alive = f".a.b.{os.getppid()}.part.csv"
    other = [left[0].replace(".a.b.", ".b."), left[0].replace(".csv", ".json"), left[0].replace(".csv", "")]
    for name in (alive, *other):
        (tmp_path / name).write_text("")
    put(tmp_path / "a.b.csv")
    assert names(tmp_path) == sorted(["a.b.csv", alive, *other])


@pytest.mark.parametrize(
    ("name", "temporary"),
    [
        (".a.12.part", True),
        (".a.b.12.part.csv", True),
        ("build/..lock.7.part", True),
        ("a.12.part.csv", False),
        (".a.part.csv", False),
        (".12.part.csv", False),
        (".a.12.part.csv.gz", False),
        (".a.x.part.csv", False),
        ("a.csv", False),
    ],
)
def test_which_names_are_temporary(name, temporary):
    assert is_temporary(name) is temporary


def test_a_full_disk_names_the_file(tmp_path):
    path = tmp_path / "a.csv"
    with pytest.raises(OSError) as caught, atomic_write(path):
        raise OSError(errno.ENOSPC, "as file.write says it")
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(path))
    with pytest.raises(FileNotFoundError) as caught, atomic_write(path):
        pass
    assert caught.value.filename == str(path)
    with pytest.raises(OSError) as caught, atomic_write(path) as temporary:
        raise OSError(errno.ENOSPC, "as shutil.copyfile says it", "origin", None, str(temporary))
    assert caught.value.filename == str(path)
    with pytest.raises(OSError, match="about something else") as caught, atomic_write(path):
        raise OSError(errno.ENOENT, "about something else", "other")
    assert caught.value.filename == "other" and names(tmp_path) == []


@pytest.mark.parametrize("error", ["RuntimeError('unexpected pos 64 vs 0')", "OSError('no number')"])
def test_a_full_disk_that_a_library_hides_is_told(tmp_path, error):
    code = f"""
import resource, sys
from crowdloc.core.files import atomic_write
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
try:
    with atomic_write(sys.argv[1]) as temporary:
        temporary.write_bytes(bytes(9_000))
        raise {error}  # as torch.save does
except OSError as error:
    print(error.errno, error.filename)
"""
    done = run(code, tmp_path / "a")
    assert done.stdout == f"{errno.EFBIG} {tmp_path / 'a'}\n", done.stderr
    assert names(tmp_path) == []
    with pytest.raises(RuntimeError, match="disk has room"), atomic_write(tmp_path / "a") as temporary:
        temporary.write_bytes(b"x")
        raise RuntimeError("disk has room")


def test_json_is_written_as_it_always_was(tmp_path):
    path = tmp_path / "deep" / "a.json"
    content = {"γ": [1, 1.0, 0.1, 1e-9, None, True], "n": {"int": np.int64(2**53 + 1), "flag": np.bool_(True)}}
    write_json(path, content | {"double": np.float64(2.0), "single": np.float32(0.5)})
    plain = {"γ": content["γ"], "n": {"int": 2**53 + 1, "flag": True}, "double": 2.0, "single": 0.5}
    assert path.read_bytes() == (json.dumps(plain, indent=1) + "\n").encode()
    assert read_json(path) == plain
    with pytest.raises(TypeError, match="ndarray has no JSON form"):
        write_json(path, {"a": np.zeros(2)})
    assert read_json(path) == plain


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"a":\n 1', "not valid JSON .line 2."),
        (b"", "not valid JSON .line 1."),
        (b'{"a": "\xff"}', "not valid JSON .not UTF-8."),
        (b'{"a": ' + b"[" * 100_000, "not valid JSON .nested too deeply."),
        (b'{"a": ' + b"9" * 5_000 + b"}", "not valid JSON .a number too long."),
        (b"[1]", "holds no JSON object"),
        (b"NaN", "holds no JSON object"),
    ],
)
def test_damaged_json_is_one_line_that_names_the_file(tmp_path, content, message):
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(CrowdlocError, match=f"{path}.* {message}") as caught:
        read_json(path)
    assert "\n" not in str(caught.value)


def test_absent_json_is_one_line_that_names_the_file(tmp_path):
    (tmp_path / "file").write_text("")
    for path, message in (
        (tmp_path / "a", "not found"),
        (tmp_path / "file" / "a", "not found"),
        (tmp_path, "a folder"),
    ):
        with pytest.raises(CrowdlocError, match=f"{path} .*{message}"):
            read_json(path)


def test_digest_sees_contents_and_names_but_not_times(tmp_path):
    folder = tmp_path / "f"
    (folder / "sub").mkdir(parents=True)
    (folder / "a").write_text("x")
    (folder / "sub" / "b").write_text("y")
    before = digest(folder)
    os.utime(folder / "a", (1, 1))
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__" / "a.pyc").write_text("z")
    (folder / ".a.12.part").write_text("half of a new a")
    assert digest(folder) == before
    (folder / "a").rename(folder / "c")
    renamed = digest(folder)
    (folder / "c").write_text("X")
    assert len({before, renamed, digest(folder)}) == 3
    assert digest(folder / "c") != digest(folder / "sub" / "b")


def test_digest_does_not_confuse_file_borders(tmp_path):
    for name, first, second in (("one", "ab", "c"), ("two", "a", "bc")):
        (tmp_path / name / "f").mkdir(parents=True)
        (tmp_path / name / "f" / "1").write_text(first)
        (tmp_path / name / "f" / "2").write_text(second)
    assert digest(tmp_path / "one" / "f") != digest(tmp_path / "two" / "f")
