"""The MATLAB reader against scipy, which writes the files and reads them back, and against damage."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from files_of_sets import DATA, cell, needs
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.io import loadmat, savemat

from crowdloc.core.errors import CrowdlocError
from crowdloc.datasets import matlab
from crowdloc.datasets.matlab import load_mat, variable


def plain(value: Any) -> Any:
    """What scipy read, in the words of our reader: structures as dicts, cells as nested lists, text as str."""
    if isinstance(value, np.ndarray) and value.dtype.names:
        records = [{name: plain(record[name]) for name in value.dtype.names} for record in value.ravel(order="F")]
        return records[0] if len(records) == 1 else [value.shape, records]
    if isinstance(value, np.ndarray) and value.dtype == object:
        return [value.shape, [plain(item) for item in value.ravel(order="F")]]
    if isinstance(value, np.ndarray) and value.dtype.kind == "U":
        return "".join(value.ravel().tolist())
    return value


def same(ours: Any, theirs: Any) -> bool:
    if isinstance(ours, dict):
        return ours.keys() == theirs.keys() and all(same(ours[key], theirs[key]) for key in ours)
    if isinstance(ours, np.ndarray) and ours.dtype == object:
        shape, items = theirs
        return ours.shape == shape and all(map(same, ours.ravel(order="F"), items))
    if isinstance(ours, np.ndarray):
        return ours.shape == theirs.shape and np.array_equal(ours, theirs, equal_nan=True)
    return ours == theirs


def check(path: Path) -> None:
    ours, theirs = load_mat(path), {k: plain(v) for k, v in loadmat(path).items() if not k.startswith("__")}
    assert same(ours, theirs)


numbers = st.sampled_from(["f8", "f4", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8"]).flatmap(
    lambda kind: st.tuples(st.integers(0, 3), st.integers(0, 3)).map(
        lambda shape: (np.arange(shape[0] * shape[1]) * 37 % 120).reshape(shape).astype(kind)
    )
)
words = st.text(st.characters(min_codepoint=97, max_codepoint=122), min_size=1, max_size=5)


matlab_values = st.recursive(
    st.one_of(numbers, words),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda items: cell(*items)),
        st.dictionaries(words, inner, min_size=1, max_size=3),
    ),
    max_leaves=6,
)


@settings(deadline=None, max_examples=60)
@given(variables=st.dictionaries(words, matlab_values, min_size=1, max_size=3), compressed=st.booleans())
def test_equals_scipy(tmp_path_factory: pytest.TempPathFactory, variables: dict, compressed: bool) -> None:
    path = tmp_path_factory.getbasetemp() / "any.mat"
    savemat(path, variables, do_compression=compressed)
    check(path)


def test_arrays_of_structures_and_what_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "a.mat"
    records = np.array([[(1.0, "a"), (2.0, "bc")]], dtype=[("x", object), ("name", object)])
    savemat(path, {"records": records, "deep": np.arange(24.0).reshape(2, 3, 4), "flag": np.array([True])})
    content = load_mat(path)
    assert [record["name"] for record in content["records"][0]] == ["a", "bc"]
    np.testing.assert_array_equal(content["deep"], np.arange(24).reshape(2, 3, 4))
    assert content["flag"].tolist() == [[1]]
    from scipy.sparse import csc_array

    savemat(path, {"sparse": csc_array(np.eye(2)), "full": 1})
    assert load_mat(path)["sparse"] is None and load_mat(path)["full"].tolist() == [[1]]


def test_variable_names_what_is_there(tmp_path: Path) -> None:
    assert variable({"b": 2, "c": 3}, tmp_path, "a", "c") == 3
    with pytest.raises(CrowdlocError, match=r"has no variable 'a' \(found: b, c\): restore the official file"):
        variable({"b": 2, "c": 3}, tmp_path, "a", "d")
    with pytest.raises(CrowdlocError, match="found: nothing"):
        variable({}, tmp_path, "a")


@pytest.mark.parametrize("content", [b"", b"text", bytes(500), b"MATLAB 5.0".ljust(124) + b"\x01\x00MI" + bytes(64)])
def test_no_matlab_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.mat"
    path.write_bytes(content)
    with pytest.raises(CrowdlocError, match=f"annotation {path} is damaged or no .mat file .*: restore"):
        load_mat(path)
    for absent in (tmp_path, tmp_path / "none.mat"):
        with pytest.raises(CrowdlocError, match=f"annotation {absent} cannot be read"):
            load_mat(absent)


def sample(path: Path, compressed: bool) -> bytes:
    frames = cell(*({"loc": np.arange(2.0 * n).reshape(n, 2)} for n in range(4)))
    savemat(path, {"frame": frames, "word": "abc", "number": 3}, do_compression=compressed)
    return path.read_bytes()


@pytest.mark.parametrize("compressed", [False, True])
def test_damage_is_an_error_or_read_but_never_a_crash(tmp_path: Path, compressed: bool) -> None:
    path = tmp_path / "a.mat"
    whole = sample(path, compressed)
    outcomes = set()
    for position in range(124, len(whole)):
        for byte in {(0, 0x7F, 0xFF)[position % 3], whole[position] ^ 0x80} if position % 2 else {0xFF}:
            path.write_bytes(whole[:position] + bytes([byte]) + whole[position + 1 :])
            try:
                load_mat(path)
                outcomes.add("read")
            except CrowdlocError as error:
                assert str(path) in str(error) and "\n" not in str(error)
                outcomes.add("refused")
    assert "refused" in outcomes
    if compressed:  # the checksum finds every change of the content
        path.write_bytes(whole[:-30] + bytes([whole[-30] ^ 1]) + whole[-29:])
        with pytest.raises(CrowdlocError):
            load_mat(path)
    for length in range(0, len(whole), 7):
        if _is_element_end(whole, length):
            continue  # whole variables are left: not damaged, but without the variables that a reader asks for
        path.write_bytes(whole[:length])
        with pytest.raises(CrowdlocError, match=r"damaged or no \.mat file"):
            load_mat(path)


def _is_element_end(whole: bytes, length: int) -> bool:
    offset = 128
    while offset < length:
        offset += 8 + struct.unpack_from("<I", whole, offset + 4)[0]
    return offset == length


def test_lengths_that_promise_too_much_cost_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "a.mat"
    savemat(path, {"frame": cell(1, 2)})
    whole = path.read_bytes()
    sizes = whole.index(struct.pack("<ii", 1, 2))
    for rows, columns in ((2**31 - 1, 2**31 - 1), (2**31 - 1, 1), (-1, 2), (0, 0), (2, 2)):
        path.write_bytes(whole[:sizes] + struct.pack("<ii", rows, columns) + whole[sizes + 8 :])
        with pytest.raises(CrowdlocError, match="a size is negative|other values than its size"):
            load_mat(path)


def test_a_small_file_that_inflates_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matlab, "LIMIT", 1 << 20)
    path = tmp_path / "bomb.mat"
    bomb = zlib.compress(struct.pack("<II", 14, 8 << 20) + bytes(8 << 20))
    path.write_bytes(b"MATLAB 5.0".ljust(124) + b"\x00\x01IM" + struct.pack("<II", 15, len(bomb)) + bomb)
    with pytest.raises(CrowdlocError, match=f"{path} is damaged .*inflates to more than 1 MB.*: restore"):
        load_mat(path)


def test_what_is_nested_too_deeply_is_refused(tmp_path: Path) -> None:
    path, value = tmp_path / "deep.mat", cell(1)
    for _ in range(20):
        value = cell(value)
    savemat(path, {"frame": value})
    assert load_mat(path)["frame"][0, 0].shape == (1, 1)
    for _ in range(40):
        value = cell(value)
    savemat(path, {"frame": value})
    with pytest.raises(CrowdlocError, match="nested too deeply"):
        load_mat(path)


@needs["mall"]
def test_real_files_equal_scipy_and_survive_damage(tmp_path: Path) -> None:
    root = Path(DATA or "")
    check(root / "mall" / "mall_gt.mat")
    check(root / "mall" / "perspective_roi.mat")
    for path in sorted(root.glob("shanghaitech/part_*/*/ground_truth/GT_IMG_1.mat")):
        check(path)
    whole = (root / "mall" / "mall_gt.mat").read_bytes()  # scipy.io.loadmat dies of some of these with a bus error
    rng = np.random.default_rng(7)
    for _ in range(30):
        damaged = bytearray(whole)
        for position in rng.integers(200, len(whole), 3):
            damaged[position] ^= 0x55
        (tmp_path / "mall_gt.mat").write_bytes(damaged)
        with pytest.raises(CrowdlocError, match="damaged"):
            load_mat(tmp_path / "mall_gt.mat")
