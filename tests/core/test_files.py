"""Files: whole or not at all, JSON as it was, digests of contents and names."""

from __future__ import annotations

import os

from crowdloc.core.files import digest


def test_digest_sees_contents_and_names_but_not_times(tmp_path):
    folder = tmp_path / "f"
    (folder / "sub").mkdir(parents=True)
    (folder / "a").write_text("x")
    (folder / "sub" / "b").write_text("y")
    before = digest(folder)
    os.utime(folder / "a", (1, 1))
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__" / "a.pyc").write_text("z")
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
