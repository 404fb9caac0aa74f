"""Which cells a query names: the generator, the threshold tables, the draws, and what they must not depend on."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from crowdloc.attention import module_seed, sample_neighbors
from crowdloc.attention.sampling import owen_scramble, philox, sobol_second
from crowdloc.attention.tables import thresholds

ALL = 0xFFFFFFFF


def test_philox_gives_the_published_known_answers() -> None:
    pi = (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344)
    cases = [
        ((0, 0, 0, 0), 0, "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ((ALL, ALL, ALL, ALL), -1, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        (pi, 0x299F31D0_A4093822, "d16cfe09 94fdcceb 5001e420 24126ea1"),
    ]
    for counter, key, expected in cases:
        words = philox(tuple(torch.tensor(word) for word in counter), torch.tensor(key))
        assert " ".join(f"{int(word):08x}" for word in words) == expected


@pytest.mark.parametrize("gamma", [0.25, 1.0, 3.0, 10.0, 64.0])
def test_thresholds_are_the_normal_distribution(gamma: float) -> None:
    table = np.array(thresholds(gamma))
    half = len(table) // 2
    assert len(table) == 2 * half
    assert (np.diff(table) >= 0).all() and table[0] >= 1 and table[-1] < 2**32
    assert (table + table[::-1] == 2**32).all()  # D and −D are equally likely
    exact = 2.0**32 * stats.norm.cdf((np.arange(2 * half) - half + 0.5) / gamma)
    assert np.abs(table - exact).max() < 0.501


def test_thresholds_of_hand_computed_cases() -> None:
    assert thresholds(0.0) == thresholds(0.01) == thresholds(5e-324) == ()
    # γ = ½: Φ(1) = .8413447460685429, Φ(3) = .9986501019683699, Φ(5) = .9999997133484281; Φ(7) rounds to 1
    assert thresholds(0.5)[3:] == (3613548169, 4289169528, 4294966065)


def plain_cell(
    kind: str, y: int, x: int, focus: int, s: int, frame: int, p: int, gamma: float, seed: int
) -> tuple[int, int]:
    """One draw (dy, dx) in plain Python integers, written from the specification."""

    def random_words(point: int) -> tuple[int, int]:
        c = [y & ALL, x & ALL, focus << 16 | s, frame << 16 | point]
        k = [seed & ALL, seed >> 32 & ALL]
        for _ in range(10):
            first, third = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
            c = [third >> 32 ^ c[1] ^ k[0], third & ALL, first >> 32 ^ c[3] ^ k[1], first & ALL]
            k = [k[0] + 0x9E3779B9 & ALL, k[1] + 0xBB67AE85 & ALL]
        return c[0], c[1]

    def reverse(word: int) -> int:
        return int(f"{word:032b}"[::-1], 2)

    def scramble(word: int, key: int) -> int:
        word = reverse(word) + key & ALL
        for factor in (0x6C50B47C, 0xB82F1E52, 0xC7AFE638, 0x8D22F6E6):
            word ^= word * factor & ALL
        return reverse(word)

    if kind == "qmc":
        second, direction = 0, 1 << 31  # Sobol' second dimension: primitive polynomial x + 1, m₁ = 1
        for bit in range(32):
            second ^= direction * (p >> bit & 1)
            direction ^= direction >> 1
        keys = random_words(0)
        words = scramble(reverse(p), keys[0]), scramble(second, keys[1])
    else:
        words = random_words(p)
    table = thresholds(gamma)
    dx, dy = (sum(t <= word for t in table) - len(table) // 2 for word in words)
    return dy, dx


@pytest.mark.parametrize("kind", ["independent", "qmc"])
def test_draws_follow_the_specification(kind: str) -> None:
    height, width, frames, gammas, points, samples, seed = 3, 4, 2, (0.7, 5.0), 4, 2, -(2**40) + 17
    cells = sample_neighbors(
        height, width, num_frames=frames, gamma=gammas, num_points=points, num_samples=samples, seed=seed,
        origin=(-2, 5), sampling=kind,
    )  # fmt: skip
    assert cells.dtype == torch.int64 and cells.shape == (12, 4, 8)
    for n in range(height * width):
        for row in range(4):
            for draw in range(8):
                (y, x), (frame, p) = divmod(n, width), divmod(draw, points)
                focus, s = divmod(row, samples)
                dy, dx = plain_cell(kind, y - 2, x + 5, focus, s, frame, p, gammas[focus], seed)
                to_y, to_x = min(max(y + dy, 0), height - 1), min(max(x + dx, 0), width - 1)
                assert cells[n, row, draw] == (frame * height + to_y) * width + to_x


@pytest.mark.parametrize("kind", ["independent", "qmc"])
@pytest.mark.parametrize("gamma", [0.25, 1.0, 3.0, 10.0])
def test_steps_have_the_discrete_gaussian_distribution(kind: str, gamma: float) -> None:
    # as the specification says, for 20,000 queries; of each Sobol' set one point, since only scrambles are independent
    query, zero = torch.arange(20_000), torch.tensor(0)
    bits_x, bits_y, _, _ = philox((query, zero, zero, zero), torch.tensor(9))
    if kind == "qmc":
        bits_x, bits_y = owen_scramble(query % 64, bits_x), owen_scramble(sobol_second(query % 64), bits_y)
    table = torch.tensor(thresholds(gamma))
    dx, dy = (torch.searchsorted(table, bits, right=True).numpy() - len(table) // 2 for bits in (bits_x, bits_y))
    for d in (dx, dy):
        reach = max(1, int(2.5 * gamma))  # steps beyond are counted with the last
        edges = np.arange(-reach, reach + 2) - 0.5
        expected = np.diff(stats.norm.cdf(np.r_[-np.inf, edges[1:-1], np.inf] / gamma)) * len(d)
        seen = np.histogram(np.clip(d, -reach, reach), edges)[0]
        assert stats.chisquare(seen, expected).pvalue > 1e-4
        variance = sum((2 * k + 1) * 2 * stats.norm.sf((k + 0.5) / gamma) for k in range(int(9 * gamma) + 2))
        spread = 5 / np.sqrt(len(d))
        assert abs(d.mean()) < spread * np.sqrt(variance)
        assert abs(d.var() / variance - 1) < spread * np.sqrt(2 + 1 / variance)
    assert abs(np.corrcoef(dx, dy)[0, 1]) < 5 / np.sqrt(len(dx))


def test_wide_gaussian_still_draws() -> None:
    cells = sample_neighbors(1, 601, gamma=64, num_points=64, seed=1)[300, 0] - 300
    assert 40 < cells.double().std() < 90
    assert (sample_neighbors(5, 7, gamma=0, num_points=3, seed=1)[:, 0] == torch.arange(35)[:, None]).all()


def test_qmc_points_are_spread_more_evenly_than_independent_ones() -> None:
    # of 64 scrambled Sobol' points every dyadic box of area 1/64 holds exactly one
    point, key = torch.arange(64), torch.tensor([12345, 987654321])
    x, y = owen_scramble(point, key[0]), owen_scramble(sobol_second(point), key[1])
    for bits in range(7):
        box = (x >> 32 - bits) * 2 ** (6 - bits) + (y >> 32 - (6 - bits))
        assert len(box.unique()) == 64


@pytest.mark.parametrize("boundary", ["clamp", "mask"])
def test_draws_are_prefix_stable_in_points_samples_frames_and_foci(boundary: str) -> None:
    small = dict(num_frames=2, gamma=(1.0, 3.0), num_points=4, num_samples=2)
    large = dict(num_frames=3, gamma=(1.0, 3.0, 5.0), num_points=8, num_samples=3)
    a, b = (
        sample_neighbors(9, 9, seed=3, boundary=boundary, **options)  # type: ignore[arg-type]
        .reshape(81, len(options["gamma"]), options["num_samples"], options["num_frames"], -1)
        for options in (small, large)
    )  # fmt: skip
    common = b[:, :2, :2, :2, :4]
    assert torch.equal(a[40], common[40])  # far from the border, where no set can lose all its draws


def test_a_tile_draws_what_the_whole_map_draws() -> None:
    whole = sample_neighbors(12, 10, gamma=2.0, num_points=8, seed=5, boundary="mask").reshape(12, 10, 8)
    tile = sample_neighbors(6, 5, gamma=2.0, num_points=8, seed=5, boundary="mask", origin=(3, 4)).reshape(6, 5, 8)
    for y in range(6):
        for x in range(5):
            (wy, wx), (ty, tx) = (
                np.divmod(c[c >= 0], w) for c, w in ((whole[y + 3, x + 4].numpy(), 10), (tile[y, x].numpy(), 5))
            )
            inside = {(i - 3, j - 4) for i, j in zip(wy, wx, strict=True)} & {
                (i, j) for i in range(6) for j in range(5)
            }
            assert inside <= set(zip(ty, tx, strict=True))


def test_a_masked_set_without_draws_looks_at_its_own_cell_in_every_frame() -> None:
    cells = sample_neighbors(2, 3, num_frames=2, gamma=(500.0,), num_points=3, seed=0, boundary="mask")
    own = torch.arange(6)
    assert (cells[:, 0, 0] == own).all() and (cells[:, 0, 3] == own + 6).all()
    assert (cells[:, 0, [1, 2, 4, 5]] == -1).all()


@settings(max_examples=30, deadline=None)
@given(
    height=st.integers(1, 6), width=st.integers(1, 6), gamma=st.floats(0, 100), points=st.integers(1, 5),
    seed=st.integers(-(2**70), 2**70), boundary=st.sampled_from(["clamp", "mask"]),
    origin=st.tuples(st.integers(-(2**33), 2**33), st.integers(-9, 9)),
)  # fmt: skip
def test_named_cells_are_always_in_the_map(
    height: int, width: int, gamma: float, points: int, seed: int, boundary: str, origin: tuple[int, int]
) -> None:
    cells = sample_neighbors(height, width, gamma=gamma, num_points=points, seed=seed, boundary=boundary, origin=origin)
    assert cells.max() < height * width and cells.min() >= (0 if boundary == "clamp" else -1)
    assert (cells >= 0).any(-1).all()


def test_seeds_count_modulo_64_bits_and_may_be_tensors() -> None:
    def draw(seed: int | torch.Tensor) -> torch.Tensor:
        return sample_neighbors(4, 4, gamma=3.0, num_points=8, seed=seed)

    assert torch.equal(draw(2**64 - 7), draw(-7)) and torch.equal(draw(torch.tensor(-7)), draw(-7))
    assert not torch.equal(draw(1), draw(2)) and not torch.equal(draw(1), draw(1 + 2**32))


def test_module_seeds_are_fixed_and_differ() -> None:
    assert module_seed(0, "scene", None) == 1619720687847940007
    seeds = {module_seed(run, name, step) for run in (0, 1) for name in ("scene", "keyframe") for step in (None, 0, 1)}
    assert len(seeds) == 12 and all(0 <= seed < 2**63 for seed in seeds)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"gamma": -1.0}, "gamma"),
        ({"gamma": float("nan")}, "gamma"),
        ({"gamma": float("inf")}, "gamma"),
        ({"gamma": ()}, "gamma"),
        ({"num_points": 0}, "num_points"),
        ({"num_points": 65536}, "num_points"),
        ({"num_samples": 0}, "num_samples"),
        ({"num_frames": 65536}, "num_frames"),
        ({"boundary": "wrap"}, "boundary"),
        ({"sampling": "sobol"}, "sampling"),
        ({"sampling": "qmc", "num_points": 12}, "num_points"),
        ({"height": 0}, "height"),
    ],
)
def test_bad_arguments_are_named_in_one_line(options: dict[str, object], word: str) -> None:
    given = {"height": 2, "width": 2, "gamma": 1.0, "num_points": 4, "seed": 0, **options}
    with pytest.raises(ValueError, match=word) as error:
        sample_neighbors(**given)  # type: ignore[arg-type]
    assert "\n" not in str(error.value)


def test_import_is_light() -> None:
    code = "import sys, crowdloc.attention; print([m for m in ('numba', 'triton', 'torchvision') if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
