"""What a frame of a stream costs."""

from __future__ import annotations

from crowdloc.benchmarks import streaming


def test_every_kind_of_arithmetic_has_its_times_and_the_stream_is_little_more_than_its_stages():
    table = streaming.measure(["raznet"], frames=3, size=(64, 96))
    assert list(zip(table["layout"], table["precision"], strict=True)) == list(streaming.ARITHMETIC)
    assert (table[["encode", "decode", "faster"]] > 0).all(axis=None) and table["faster"][0] == 1
    streamed = table[table["layout"] == "channels last"]
    near = 1e3 / streamed["stream"]
    assert (abs(streamed["frames per second"] - near) < 0.05 * near).all()
    assert (streamed["share"] > 0.5).all()  # small frames: what surrounds the stages weighs more than it ever will


def test_the_film_moves_and_has_the_size_that_is_asked_for():
    first, second = streaming.film(2, height=48, width=64)
    assert first.shape == (48, 64, 3) and (first != second).any()
