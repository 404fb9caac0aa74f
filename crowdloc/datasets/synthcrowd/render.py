"""Frames of a scene: the place, its figures, then the camera's and the codec's faults."""

from __future__ import annotations

import cv2
import numpy as np

from crowdloc.datasets.synthcrowd.paint import Painter
from crowdloc.datasets.synthcrowd.place import empty_place
from crowdloc.datasets.synthcrowd.scene import Scene
from crowdloc.datasets.synthcrowd.settings import DOMAINS, PRESETS

_BLOCK = 16  # side of a block that the codec loses, mini pixels


def _lose_blocks(image: np.ndarray, scene: Scene, t: int, share: float, scale: float) -> None:
    """Replace runs of blocks by their mean colour, as decoders do when bits are missing; other runs in each frame."""
    side = int(_BLOCK * scale)
    rows, columns = -(-image.shape[0] // side), -(-image.shape[1] // side)
    stream, left = scene.stream("lost", t), share * rows * columns
    while left >= 1:
        row, column, length = stream.integer(0, rows - 1), stream.integer(0, columns - 1), stream.integer(1, 5)
        for number in range(column, min(column + length, columns)):
            block = image[row * side : (row + 1) * side, number * side : (number + 1) * side]
            block[:] = cv2.mean(block)[:3]
        left -= length


def _sensor_noise(image: np.ndarray, scene: Scene, t: int, sigma: float) -> np.ndarray:
    """Add noise of standard deviation `sigma` levels, independent in each frame and pixel."""
    rows = image.reshape(len(image), -1)
    raw = scene.stream("noise", t).bits(image.size // 2).view(np.uint8).reshape(4, *rows.shape)
    total = raw[0].astype(np.int16) + raw[1] + raw[2] + raw[3]  # four bytes: mean 510, standard deviation 147.8
    noisy = cv2.addWeighted(rows, 1.0, total, sigma / 147.8, -510 * sigma / 147.8, dtype=cv2.CV_8U)
    return np.asarray(noisy).reshape(image.shape)


def render_jpeg(scene: Scene, t: int, preset: str = "mini") -> bytes:
    """Frame number `t` as the JPEG file that is stored; a pure function of its arguments."""
    height, width = PRESETS[preset]
    scale, over = height / PRESETS["mini"][0], 2 if preset == "mini" else 1  # small frames are drawn twice as large
    place = empty_place(scene, preset)
    painter = Painter(scene, t, place, (height * over, width * over))

    mask: np.ndarray = np.zeros((height // 2, width // 2), dtype=np.uint8)
    painter.draw_shadows(mask, 2 * over)
    mask = cv2.resize(cv2.GaussianBlur(mask, (0, 0), 0.9 * scale), (width, height), interpolation=cv2.INTER_LINEAR)
    darkness = 1.0 - mask.astype(np.float32)[..., None] * np.float32(place.shadow / 255)
    ground = cv2.multiply(place.picture, cv2.merge([darkness] * 3), dtype=cv2.CV_8U)
    canvas = cv2.resize(ground, (width * over, height * over), interpolation=cv2.INTER_NEAREST) if over > 1 else ground
    painter.draw(canvas)
    image = cv2.resize(canvas, (width, height), interpolation=cv2.INTER_AREA) if over > 1 else canvas

    look, faults = scene.place_stream("look"), scene.difficulty
    blur, contrast = look.uniform(*faults.blur), look.uniform(*faults.contrast)
    noise, share = look.uniform(*faults.noise), look.uniform(*faults.lost_blocks)
    quality = look.integer(*faults.quality)
    image = np.asarray(cv2.multiply(image, place.light, dtype=cv2.CV_8U), dtype=np.uint8)
    image = cv2.GaussianBlur(image, (0, 0), blur * scale)
    image = cv2.convertScaleAbs(image, alpha=contrast, beta=(1 - contrast) * look.uniform(70, 150))
    image = _sensor_noise(image, scene, t, noise)
    if DOMAINS[scene.domain].is_video:
        _lose_blocks(image, scene, t, share, scale)
    done, code = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    assert done, "OpenCV encodes any 8-bit image"
    return code.tobytes()


def render_frame(scene: Scene, t: int, preset: str = "mini") -> np.ndarray:
    """Frame number `t` as it is read back from the stored JPEG: (h, w, 3) uint8 RGB."""
    code = np.frombuffer(render_jpeg(scene, t, preset), np.uint8)
    return np.asarray(cv2.imdecode(code, cv2.IMREAD_COLOR_RGB))
