"""Generated labelled video: no download, same seed, same pixels.

In: settings. Out: the clips of the four splits. A class is a shape and its way of moving. Videos
of a class differ in colours, background, path, size and aspect; a video's frames show one object
moving on one panning background. All shapes are drawn with equal area and in random colours, and
fragments of the same outlines litter the background, so the channel means of early layers say
little about the class. The fragments are brighter than the objects: they stretch the range that a
quantiser must cover.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt

from coach_exp.learning.array_cache import digest
from coach_exp.learning.decoding import FrameSide, in_order
from coach_exp.learning.footage import Clip, Footage
from coach_exp.learning.video import SPLIT_NAMES
from coach_exp.types.errors import ConfigError

Floats = NDArray[np.float32]

ANGLES = 360  # samples of an outline
PAN = 16  # pixels by which the background exceeds the frame
NOISE_FRAMES = 64
CHUNK = 20  # videos rendered at once: keeps the working set near the cache


# ---------------------------------------------------------------- outlines: radius at each angle


class Shape(NamedTuple):
    """A class: outline, share of the radius that is hollow, and the frequencies of its motion.

    In one video the object swings `x` and `y` times, turns `spin` radians, pulses `pulse` times.
    """

    name: str
    outline: Floats
    hollow: float = 0.0
    x: float = 1.0
    y: float = 1.0
    spin: float = 0.0
    pulse: float = 0.0


def _angles() -> Floats:
    return np.linspace(0, 2 * np.pi, ANGLES, endpoint=False, dtype=np.float32)


def _equal_area(radius: NDArray[Any], hollow: float = 0.0) -> Floats:
    """Scale an outline to the area of the unit disc, less what is hollow."""
    return (radius / np.sqrt(np.mean(radius**2) * (1 - hollow**2))).astype(np.float32)


def _polygon(sides: int) -> NDArray[Any]:
    sector = 2 * np.pi / sides
    return np.cos(sector / 2) / np.cos(_angles() % sector - sector / 2)


def _star(points: int, depth: float) -> NDArray[Any]:
    wave = np.abs((_angles() * points / (2 * np.pi)) % 1 - 0.5) * 2
    return depth + (1 - depth) * wave


def _bar(half_length: float, half_width: float) -> NDArray[Any]:
    tiny = 1e-6
    along, across = np.abs(np.cos(_angles())) + tiny, np.abs(np.sin(_angles())) + tiny
    return np.minimum(half_length / along, half_width / across)


def _plus() -> NDArray[Any]:
    return np.maximum(_bar(1, 0.34), _bar(0.34, 1))


def _flower(petals: int) -> NDArray[Any]:
    return 1 + 0.28 * np.cos(petals * _angles())


def _shape(name: str, outline: NDArray[Any], hollow: float = 0.0, **motion: float) -> Shape:
    return Shape(name, _equal_area(outline, hollow), hollow, **motion)


SHAPES = (
    _shape("disc", _polygon(180), x=1, y=0.5),
    _shape("ring", _polygon(180), hollow=0.6, x=1, y=1),
    _shape("triangle", _polygon(3), x=0.5, y=1, spin=0.5),
    _shape("square", _polygon(4), x=2, y=1),
    _shape("frame", _polygon(4), hollow=0.6, x=0.5, y=0.5, spin=1),
    _shape("pentagon", _polygon(5), x=1, y=2),
    _shape("plus", _plus(), x=0.25, y=0.25, spin=0.75),
    _shape("star", _star(5, 0.45), x=0.5, y=0.25, pulse=1),
    _shape("flower", _flower(6), x=1.5, y=0.5, pulse=0.5),
    _shape("bar", _bar(1, 0.45), x=0.25, y=1, spin=1.5),
)


# ---------------------------------------------------------------- settings, and clips


@dataclass(frozen=True)
class SyntheticVideo:
    """Settings of the generator. `videos` counts the videos of each class in each split.

    `noise` is the standard deviation of the sensor in grey levels, `clutter` the fragments drawn on
    each background, `contrast` the least by which the object is lighter than it (white is 1).
    """

    classes: Annotated[int, Field(ge=2, le=len(SHAPES))] = 10
    size: FrameSide = 64
    frames: PositiveInt = 16
    videos: Mapping[str, PositiveInt] = field(
        default_factory=lambda: {"train": 80, "centres": 6, "calib": 12, "stream": 14}
    )
    noise: NonNegativeFloat = 6.0
    clutter: NonNegativeInt = 4
    contrast: float = 0.12
    seed: NonNegativeInt = 0

    def __post_init__(self) -> None:
        if set(self.videos) != set(SPLIT_NAMES):
            raise ConfigError(
                f"videos={dict(self.videos)}: give each of {', '.join(SPLIT_NAMES)} at least "
                "one video per class"
            )

    def fingerprint(self) -> str:
        """Hash of the settings, which decide every pixel."""
        return digest(self)

    def read(self) -> Footage:
        """A clip for every video, class by class, rendered as the clips are taken."""
        names = tuple(shape.name for shape in SHAPES[: self.classes])
        return Footage(names, self.classes * sum(self.videos.values()), _clips(self))


def _labels(settings: SyntheticVideo) -> tuple[list[str], NDArray[np.int64]]:
    """Split and label of each video: split by split, class by class."""
    counts = [(name, settings.videos[name]) for name in SPLIT_NAMES]
    split = [name for name, n in counts for _ in range(n * settings.classes)]
    labels = np.concatenate([np.repeat(np.arange(settings.classes), n) for _, n in counts])
    return split, labels


def _clips(settings: SyntheticVideo) -> Iterator[Clip]:
    """Every video as one clip, rendered `CHUNK` at a time."""
    split, labels = _labels(settings)
    scenes = _scenes(labels, settings)
    size = settings.size
    noise = np.random.default_rng((settings.seed, 1)).standard_normal
    bank = noise((NOISE_FRAMES, size, size, 3), np.float32) * np.float32(settings.noise)
    numbers = np.arange(settings.frames)

    def render(first: int) -> list[Clip]:
        videos = range(first, min(first + CHUNK, len(labels)))
        frames = _render(scenes.of(slice(videos.start, videos.stop)), bank, size)
        return [
            Clip(split[n], int(labels[n]), n, numbers, own)
            for n, own in zip(videos, frames, strict=True)
        ]

    for chunk in in_order(render, range(0, len(labels), CHUNK)):
        yield from chunk


# ---------------------------------------------------------------- what happens in each video


class Sprites(NamedTuple):
    """Shapes to draw, one for each of n canvases; lengths in pixels, angles in radians."""

    outline: Floats  # [n, ANGLES] in radii; zero where nothing is drawn
    hollow: Floats  # [n] share of the outline
    centre: Floats  # [n, 2]
    radius: Floats  # [n]
    turn: Floats  # [n]
    aspect: Floats  # [n] width over length
    paints: Floats  # [n, 2, 3] the two colours of the stripes
    waves: Floats  # [n] stripes: radians per radius

    def of(self, rows: slice) -> "Sprites":
        return Sprites._make(column[rows] for column in self)


def _sprites(**columns: NDArray[Any]) -> Sprites:
    """Sprites of these columns, in single precision."""
    return Sprites(**{name: column.astype(np.float32) for name, column in columns.items()})


class Scenes(NamedTuple):
    """All random choices, one row per video; rendering is then a pure function of them."""

    objects: Sprites  # [videos · frames]
    fragments: tuple[Sprites, ...]  # each [videos]
    wash: Floats  # [videos, 4, 4, 3] large patches of colour
    texture: Floats  # [videos, 14, 14, 1] finer patches of grey
    pan: NDArray[np.int64]  # [videos, frames, 2] corner of the frame in the background
    light: Floats  # [videos, frames]
    grain: NDArray[np.int64]  # [videos, frames] which frame of the noise bank

    def of(self, rows: slice) -> "Scenes":
        frames = self.light.shape[1]
        objects = self.objects.of(slice(rows.start * frames, rows.stop * frames))
        fragments = tuple(sprites.of(rows) for sprites in self.fragments)
        return self._replace(
            objects=objects,
            fragments=fragments,
            wash=self.wash[rows],
            texture=self.texture[rows],
            pan=self.pan[rows],
            light=self.light[rows],
            grain=self.grain[rows],
        )


class Motion(NamedTuple):
    """How fast every video's things move: times [frames] from 0 to 1, speeds [videos, 1]."""

    rng: np.random.Generator
    time: NDArray[np.float64]
    speed: NDArray[np.float64]

    def swing(self, times: NDArray[Any]) -> NDArray[np.float64]:
        """So many swings of each video, each from a place of its own: -1 … 1 [videos, frames]."""
        begin = self.rng.uniform(0, 1, self.speed.shape)
        return np.sin(2 * np.pi * (times * self.time * self.speed + begin))


def _scenes(labels: NDArray[np.int64], settings: SyntheticVideo) -> Scenes:
    rng = np.random.default_rng(settings.seed)
    videos, size = len(labels), settings.size
    motion = Motion(rng, np.linspace(0, 1, settings.frames), rng.uniform(0.7, 1.3, (videos, 1)))
    speed, swing = motion.speed, motion.swing
    wash = rng.uniform(0.15, 0.4, (videos, 1, 1, 3)) + rng.uniform(-0.12, 0.12, (videos, 4, 4, 3))
    texture = rng.uniform(-0.18, 0.18, (videos, 14, 14, 1)) * rng.uniform(0.2, 1, (videos, 1, 1, 1))
    pan = PAN / 2 * (1 + np.stack([swing(speed), swing(speed)], axis=-1))
    return Scenes(
        objects=_objects(motion, labels, wash.mean(axis=(1, 2)), settings),
        fragments=tuple(_fragments(rng, videos, size) for _ in range(settings.clutter)),
        wash=wash.astype(np.float32),
        texture=texture.astype(np.float32),
        pan=np.clip(pan, 0, PAN - 1).astype(np.int64),
        light=(1 + 0.12 * swing(speed)).astype(np.float32),
        grain=rng.integers(NOISE_FRAMES, size=(videos, settings.frames)),
    )


def _objects(
    motion: Motion,
    labels: NDArray[np.int64],
    ground: NDArray[np.float64],
    settings: SyntheticVideo,
) -> Sprites:
    """The labelled object of every frame, on its class's path: rows [videos · frames]."""
    videos, size = len(labels), settings.size
    rng, time, speed, swing = *motion, motion.swing
    x, y, spin, pulse = np.array([[s.x, s.y, s.spin, s.pulse] for s in SHAPES])[labels].T[..., None]
    radius = size * rng.uniform(0.18, 0.34, (videos, 1)) * (1 + 0.25 * swing(pulse) * (pulse > 0))
    reach = rng.uniform(0.05, 0.16, (videos, 1, 2)) * size
    home = size / 2 + rng.uniform(-0.06, 0.06, (videos, 1, 2)) * size
    side = rng.choice([-1, 1], (videos, 1))

    def each_frame(per_video: NDArray[Any]) -> NDArray[Any]:
        return np.repeat(per_video, settings.frames, axis=0)

    shapes = [SHAPES[label] for label in labels]
    centre = home + reach * np.stack([swing(x), swing(y)], axis=-1)
    turn = rng.uniform(-0.4, 0.4, (videos, 1)) + spin * side * (speed * time - 0.5)
    return _sprites(
        outline=each_frame(np.array([shape.outline for shape in shapes])),
        hollow=each_frame(np.array([shape.hollow for shape in shapes])),
        centre=centre.reshape(-1, 2),
        radius=radius.reshape(-1),
        turn=turn.reshape(-1),
        aspect=each_frame(rng.uniform(0.78, 1.0, videos)),
        paints=each_frame(_paints(rng, ground, settings.contrast)),
        waves=each_frame(rng.uniform(2, 7, videos)),
    )


def _paints(
    rng: np.random.Generator, ground: NDArray[np.float64], contrast: float
) -> NDArray[np.float64]:
    """Two similar colours for each video, lighter than its background by at least `contrast`."""
    lift = rng.uniform(contrast, 0.3, (len(ground), 1, 1))
    hue = rng.uniform(-0.12, 0.12, (len(ground), 1, 3))
    return ground[:, None] + lift + hue + rng.uniform(-0.06, 0.06, (len(ground), 2, 3))


def _fragments(rng: np.random.Generator, videos: int, size: int) -> Sprites:
    """One piece of some outline for each video's background."""
    which = rng.integers(len(SHAPES), size=videos)
    start = rng.integers(ANGLES, size=(videos, 1))
    kept = ANGLES * rng.uniform(0.1, 0.42, (videos, 1))
    arc = (np.arange(ANGLES) - start) % ANGLES < kept
    paint = rng.uniform(0, 1.2, (videos, 1, 3))
    return _sprites(
        outline=np.array([shape.outline for shape in SHAPES])[which] * arc,
        hollow=np.array([shape.hollow for shape in SHAPES])[which],
        centre=rng.uniform(0, size + PAN, (videos, 2)),
        radius=size * rng.uniform(0.05, 0.16, videos),
        turn=rng.uniform(0, 2 * np.pi, videos),
        aspect=np.ones(videos),
        paints=np.repeat(paint, 2, axis=1),
        waves=np.zeros(videos),
    )


# ---------------------------------------------------------------- drawing


def _render(scenes: Scenes, bank: Floats, size: int) -> NDArray[np.uint8]:
    """Frames [videos, frames, size, size, 3] of some videos, with sensor noise from `bank`."""
    ground = _smooth(scenes.wash, size + PAN) + _smooth(scenes.texture, size + PAN)
    for sprites in scenes.fragments:
        _draw(ground, sprites, opacity=0.7)
    image = np.empty((*scenes.light.shape, size, size, 3), np.float32)
    for video, frame in np.ndindex(*scenes.light.shape):
        row, column = scenes.pan[video, frame]
        image[video, frame] = ground[video, row : row + size, column : column + size]
    _draw(image.reshape(-1, size, size, 3), scenes.objects, opacity=1.0)
    image *= 255 * scenes.light[..., None, None, None]
    image += bank[scenes.grain]
    return np.clip(image, 0, 255, out=image).astype(np.uint8)


def _smooth(coarse: Floats, side: int) -> Floats:
    """Bilinear enlargement of [n, k, k, channels] to [n, side, side, channels]."""
    k = coarse.shape[1]
    at = np.linspace(0, k - 1, side)
    weight = np.maximum(0, 1 - np.abs(at[:, None] - np.arange(k))).astype(np.float32)
    rows = np.einsum("yk,vkjc->vyjc", weight, coarse, optimize=True)
    return np.einsum("xj,vyjc->vyxc", weight, rows, optimize=True)


def _draw(canvas: Floats, sprites: Sprites, opacity: float) -> None:
    """Paint one sprite on each canvas [n, side, side, 3], in place, with edges one pixel soft.

    Only the pixels within a sprite's largest radius are visited.
    """
    axis = np.arange(canvas.shape[1], dtype=np.float32) + np.float32(0.5)
    dx, dy = axis - sprites.centre[:, :1], axis - sprites.centre[:, 1:]
    bound = sprites.radius * sprites.outline.max(axis=1) + 1
    near = dx[:, None, :] ** 2 + dy[:, :, None] ** 2 < (bound**2)[:, None, None]
    n, row, column = np.nonzero(near)
    radius, cos, sin = sprites.radius[n], np.cos(sprites.turn)[n], np.sin(sprites.turn)[n]
    across, along = dx[n, column], dy[n, row]
    across, along = cos * across + sin * along, (cos * along - sin * across) / sprites.aspect[n]
    reach = np.hypot(across, along) / radius
    angle = (np.arctan2(along, across) * np.float32(ANGLES / (2 * np.pi))).astype(np.int32)
    edge = sprites.outline[n, angle]  # a negative angle counts from the end, as it should
    inner = sprites.hollow[n] * edge
    cover = np.clip((edge - reach) * radius + 0.5, 0, 1) * (edge > 0)
    cover *= np.where(inner > 0, np.clip((reach - inner) * radius + 0.5, 0, 1), 1)
    stripe = 0.5 + 0.5 * np.sin(sprites.waves[n] * reach)
    first, second = sprites.paints[n, 0], sprites.paints[n, 1]
    old = canvas[n, row, column]
    paint = first + stripe[:, None] * (second - first)
    canvas[n, row, column] = old + opacity * cover[:, None] * (paint - old)
