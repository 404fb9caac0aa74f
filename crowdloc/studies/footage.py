"""A film that no other part of the project has drawn: what a stranger's annotated footage stands for in notebook 22.

People are a few ellipses on a tiled square, seen from above at a slant; they walk to and fro and out of the picture,
each with a gait of its own. Their heads are known exactly. Nothing is shared with SynthCrowd: neither camera, nor
bodies, colours or noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from crowdloc.core.errors import CrowdlocError
from crowdloc.datasets.own import load_own
from crowdloc.datasets.samples import Sample
from crowdloc.results.films import FILM
from crowdloc.results.recording import read

if TYPE_CHECKING:
    import pandas as pd

WIDTH, HEIGHT, RATE = 320, 240, 5.0
_HORIZON, _NEAR = 40.0, 26.0  # row of the horizon; height of a person in pixels, per 100 rows below it
_BEYOND = 60  # pixels that people walk on outside the picture


class Walker(NamedTuple):
    """A person: place on the way (pixels), depth on the ground (0 far, 1 near), step a frame (pixels), colours."""

    across: float
    depth: float
    step: float
    coat: tuple[int, int, int]
    hair: tuple[int, int, int]


def draw(folder: Path, *, frames: int = 60, people: int = 20, annotate_every: int = 2, seed: int = 0) -> Path:
    """Write `film.mp4`, and in `plaza/` every second frame as PNG with `points.csv`; returns `folder`.

    `truth.csv` (frame, heads) holds the number of heads in every frame of the film.
    """
    import cv2

    random = np.random.default_rng(seed)
    crowd = [_walker(random) for _ in range(people)]
    ground = _ground(random)
    (folder / "plaza" / "square").mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(folder / "film.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), RATE, (WIDTH, HEIGHT))
    if not writer.isOpened():
        raise CrowdlocError("film.mp4 cannot be written: this OpenCV lacks the codec mp4v")
    lines, truth = ["frame,x,y"], ["frame,heads"]
    for time in range(frames):
        picture, heads = _frame(ground, crowd, time, random)
        writer.write(np.ascontiguousarray(picture[..., ::-1]))
        truth.append(f"{time},{len(heads)}")
        if time % annotate_every == 0:
            name = f"square/{time}.png"
            cv2.imwrite(str(folder / "plaza" / name), np.ascontiguousarray(picture[..., ::-1]))
            lines += [f"{name},{x:.1f},{y:.1f}" for x, y in heads]
    writer.release()
    (folder / "truth.csv").write_text("\n".join(truth) + "\n", encoding="utf-8")
    (folder / "plaza" / "points.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def stills(folder: Path, numbers: Sequence[int]) -> list[NDArray[np.uint8]]:
    """Frames of the annotated film that `locate` wrote, (h, w, 3) RGB."""
    import cv2

    film = cv2.VideoCapture(str(folder / FILM))
    found: list[NDArray[np.uint8]] = []
    for number in range(max(numbers) + 1):
        whole, frame = film.read()
        if not whole:
            raise CrowdlocError(f"{folder / FILM} ends before frame {number}: locate again")
        if number in numbers:
            found.append(np.ascontiguousarray(frame[..., ::-1]).astype(np.uint8))
    film.release()
    return found


def compared(results: dict[str, dict[str, Any]]) -> pd.DataFrame:
    """One row per network: mAP by σ, MAE and the threshold, from what `own.evaluate` returns."""
    import pandas as pd

    rows = {
        name: {f"mAP σ{sigma}": row["mAP"] for sigma, row in found["localization"].items()}
        | {"MAE": found["counting"]["MAE"], "threshold": found["counting_threshold"]}
        for name, found in results.items()
    }
    return pd.DataFrame(rows).T


def film_error(folder: Path, results: Path) -> float:
    """Mean absolute error of the counts that `locate` wrote for the film, against the heads that were drawn."""
    import pandas as pd

    heads = pd.read_csv(folder / "truth.csv")["heads"].to_numpy()
    counted = np.array([len(found.points) for found in read(results)])
    if len(counted) != len(heads):
        raise CrowdlocError(f"{results} holds {len(counted)} of {len(heads)} frames: locate goes on where it stopped")
    return float(np.abs(counted - heads).mean())


def samples(folder: Path, numbers: Sequence[int]) -> list[Sample]:
    """Annotated frames, for a picture."""
    data = load_own(folder / "plaza")
    return [Sample(data.frames[n].id, data.image(n), data.frames[n].points) for n in numbers]


def _walker(random: np.random.Generator) -> Walker:
    coats = ((150, 60, 50), (60, 80, 140), (70, 110, 70), (170, 150, 110), (40, 40, 45), (120, 80, 130))
    hair = ((40, 30, 25), (90, 60, 40), (170, 140, 90), (60, 60, 60))
    return Walker(
        across=float(random.uniform(0, 2 * (WIDTH + 2 * _BEYOND))),
        depth=float(random.uniform(0.15, 1.0)),
        step=float(random.uniform(2.0, 7.0) * random.choice([-1, 1])),
        coat=coats[random.integers(len(coats))],
        hair=hair[random.integers(len(hair))],
    )


def _ground(random: np.random.Generator) -> NDArray[np.uint8]:
    """Tiles that get smaller towards the horizon, and a wall behind."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH].astype(np.float64)
    depth = np.maximum(rows - _HORIZON, 1.0)
    tile = (np.floor(4000 / depth / 14) + np.floor((columns - WIDTH / 2) / depth * 4)) % 2
    shade = np.where(rows > _HORIZON, 150 + 22 * tile, 110 + 12 * np.sin(columns / 9))
    picture = shade[..., None] * (1.0, 0.97, 0.9) + random.normal(0, 4, (HEIGHT, WIDTH, 1))
    return np.clip(picture, 0, 255).astype(np.uint8)


def _frame(
    ground: NDArray[np.uint8], crowd: Sequence[Walker], time: int, random: np.random.Generator
) -> tuple[NDArray[np.uint8], list[tuple[float, float]]]:
    """A picture (h, w, 3) RGB and the heads in it."""
    import cv2

    picture, heads = ground.copy(), []
    for walker in sorted(crowd, key=lambda w: w.depth):  # the near ones in front
        foot = _HORIZON + 20 + walker.depth * (HEIGHT - _HORIZON - 25)
        tall = _NEAR * (foot - _HORIZON) / 100
        way = WIDTH + 2 * _BEYOND
        place = (walker.across + walker.step * walker.depth * time) % (2 * way)
        x = (place if place < way else 2 * way - place) - _BEYOND  # turns round outside the picture
        bob = 0.04 * tall * np.sin(1.7 * time + walker.across)
        head = max(2, round(0.13 * tall))
        top = foot - tall + bob
        shadow, body = (round(x + 0.3 * tall), round(foot)), (round(x), round(foot - 0.42 * tall))
        axes = (round(0.4 * tall), max(1, round(0.07 * tall))), (round(0.2 * tall), round(0.45 * tall))
        for centre, size, colour in ((shadow, axes[0], (95, 92, 88)), (body, axes[1], walker.coat)):
            cv2.ellipse(picture, centre, size, 0, 0, 360, colour, cv2.FILLED, cv2.LINE_AA)
        cv2.circle(picture, (round(x), round(top)), head, walker.hair, cv2.FILLED, cv2.LINE_AA)
        face = (round(x + np.sign(walker.step) * 0.4 * head), round(top + 0.2 * head))
        cv2.circle(picture, face, max(1, round(0.55 * head)), (205, 165, 140), cv2.FILLED, cv2.LINE_AA)
        if 0 <= round(x) < WIDTH:
            heads.append((float(round(x)), float(round(top))))
    noisy = picture + random.normal(0, 5, picture.shape)
    return np.clip(noisy, 0, 255).astype(np.uint8), heads
