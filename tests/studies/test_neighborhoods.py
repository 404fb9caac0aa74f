import numpy as np
import pytest

from crowdloc.attention import sample_neighbors
from crowdloc.studies import neighborhoods


@pytest.mark.parametrize(
    ("size", "percent"),
    [
        ((12, 20), (29, 46, 74, 86)),
        ((24, 40), (15, 25, 46, 63)),
        ((48, 80), (8, 13, 25, 36)),
        ((135, 240), (3, 5, 9, 13)),
    ],
)
def test_share_of_draws_outside_the_map(size, percent):
    table = neighborhoods.outside_table([size], (3.0, 5.0, 10.0, 15.0))
    np.testing.assert_allclose(table.iloc[0], percent, atol=0.5)


def test_share_outside_agrees_with_the_sampler():
    """With masked borders the sampler marks what fell outside by -1."""
    drawn = np.asarray(sample_neighbors(12, 20, gamma=5.0, num_points=256, seed=0, boundary="mask"))
    assert (drawn < 0).mean() == pytest.approx(neighborhoods.outside_share(12, 20, 5.0), abs=0.01)


def test_mass_of_the_discrete_gaussian():
    assert neighborhoods.mass(3.0, 40).sum() == pytest.approx(1.0)
    assert neighborhoods.mass(0.1, 2)[2] == pytest.approx(1.0, abs=1e-6)


def test_repeated_and_own_cells():
    """Away from the border a query draws itself with probability 1 - (1 - m²)^32, m the mass of displacement 0."""
    table = neighborhoods.draw_statistics((90, 120), (3.0, 5.0, 10.0))
    for gamma, share in table["own cell drawn (%)"].items():
        inner = 100 * (1 - (1 - neighborhoods.mass(gamma, 0)[0] ** 2) ** 32)
        assert inner - 0.7 < share < inner + 2.5  # draws moved to the border add to the cells there
    # 28.1, 30.5 and 31.6 of 32 away from the border; draws moved to the border coincide, here for up to 0.8 more.
    distinct = table["distinct cells"].to_numpy()
    assert (distinct < (28.2, 30.6, 31.7)).all() and (distinct > (27.3, 29.7, 30.8)).all()


def test_cost_of_a_1080p_frame():
    row = neighborhoods.cost_table([(135, 240)]).iloc[0]
    assert row["full / GNA"] == pytest.approx(32400 / 96)
    assert row["gathered keys (MiB)"] == pytest.approx(3 * 1.98 * 1024, rel=0.01)


def test_maps_have_unit_variance_and_only_the_smooth_one_resembles_itself():
    maps = neighborhoods.smooth_map(8, 30, 40), neighborhoods.white_map(8, 30, 40)
    smooth, white = ((m[..., 1:] * m[..., :-1]).mean().item() for m in maps)
    assert all(m.std().item() == pytest.approx(1.0, abs=0.05) for m in maps)
    assert smooth > 0.7 and abs(white) < 0.05
