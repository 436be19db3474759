"""Draws short videos of moving shapes and encodes them.

The class is the direction in which the shapes of a video move; distractors, which are smaller, each
move in a direction of their own. Shapes enter on one side as they leave on the other and start
anywhere, so a single frame is equally likely under every class.
"""

import dataclasses
import pathlib

import av
import numpy as np
from PIL import Image, ImageDraw

# Direction of motion as (x, y) per unit of speed.
MOTIONS = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}
_DIAGONAL = 0.5**0.5
EIGHT_MOTIONS = {
    **MOTIONS,
    "up left": (-_DIAGONAL, -_DIAGONAL),
    "up right": (_DIAGONAL, -_DIAGONAL),
    "down left": (-_DIAGONAL, _DIAGONAL),
    "down right": (_DIAGONAL, _DIAGONAL),
}
# By codec, options that make it give the same file each time, as x264's macroblock tree does not
# (PyAV 18, with assembly). Nor does one thread for each core. With `veryfast` files are as large
# as with x264's default, and a video takes 0.5 to 0.7 of the time (docs/performance.md).
CODECS = {"libx264": {"mbtree": "0", "preset": "veryfast"}, "mpeg4": {}}
_SPEEDS = (0.03, 0.055)  # per frame, relative to the short side


@dataclasses.dataclass(frozen=True)
class Scene:
    """What a video shows.

    Attributes:
      shapes: how many shapes move in the direction of the class.
      distractors: how many move in directions of their own.
      distractor_size: their extent relative to that of the shapes.
    """

    shapes: int = 3
    distractors: int = 0
    distractor_size: float = 0.5


THREE_SHAPES = Scene()
CROWD = Scene(distractors=3)


@dataclasses.dataclass(frozen=True)
class Shape:
    """One moving shape.

    Attributes:
      kind: circle, square or triangle.
      color: RGB.
      radius: half its extent, relative to the frame's short side.
      start: position of its centre, (x, y), relative to the area it moves in.
    """

    kind: str
    color: tuple[int, int, int]
    radius: float
    start: tuple[float, float]


def draw_video(
    path: pathlib.Path,
    motion: tuple[float, float],
    rng: np.random.Generator,
    scene: Scene = THREE_SHAPES,
) -> None:
    """Writes one video: H.264 or MPEG-4, 72 to 128 pixels, 24 to 48 frames, 12 to 30 per second.

    Args:
      path: of the file to write, with the container's suffix.
      motion: direction (x, y) of length 1.
      rng: draws everything else.
      scene: what the video shows.
    """
    width, height = (2 * int(rng.integers(36, 65)) for _ in range(2))
    frames = int(rng.integers(24, 49))
    background = _texture(width, height, rng)
    short_side = min(width, height)
    shapes = [_random_shape(rng) for _ in range(scene.shapes)]
    velocity = np.array(motion) * rng.uniform(*_SPEEDS)
    codec, fps = str(rng.choice(list(CODECS))), int(rng.integers(12, 31))
    distractors = [_distractor(rng, scene.distractor_size) for _ in range(scene.distractors)]

    def image(i: int) -> Image.Image:
        drawn = background
        for distractor, own_velocity in distractors:
            drawn = _draw_frame(drawn, [distractor], own_velocity * i, short_side)
        return _draw_frame(drawn, shapes, velocity * i, short_side)

    encode(path, map(image, range(frames)), codec, fps)


def encode(path: pathlib.Path, images, codec: str, fps: int) -> None:
    """Encodes RGB images of one even size as an MP4 file, whatever its suffix, on one thread."""
    with av.open(str(path), "w", format="mp4") as container:
        stream = None
        for image in images:
            frame = av.VideoFrame.from_image(image)
            if stream is None:
                stream = container.add_stream(codec, rate=fps, options=CODECS[codec])
                stream.width, stream.height, stream.pix_fmt = *image.size, "yuv420p"
                stream.bit_rate = 800_000
                stream.codec_context.thread_count = 1
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def _texture(width: int, height: int, rng: np.random.Generator) -> Image.Image:
    """Smooth noise in colour, still throughout the video."""
    cells = rng.integers(60, 150, (int(rng.integers(3, 9)), int(rng.integers(3, 9)), 3), np.uint8)
    return Image.fromarray(cells).resize((width, height), Image.Resampling.BICUBIC)


def _random_shape(rng: np.random.Generator) -> Shape:
    # Brighter or darker than any background.
    low, high = (170, 256) if rng.integers(2) else (0, 40)
    return Shape(
        kind=str(rng.choice(["circle", "square", "triangle"])),
        color=tuple(int(c) for c in rng.integers(low, high, 3)),
        radius=rng.uniform(0.12, 0.2),
        start=(rng.uniform(), rng.uniform()),
    )


def _distractor(rng: np.random.Generator, size: float) -> tuple[Shape, np.ndarray]:
    """A shape, and its velocity per frame relative to the short side."""
    shape, angle = _random_shape(rng), rng.uniform(0, 2 * np.pi)
    velocity = rng.uniform(*_SPEEDS) * np.array([np.cos(angle), np.sin(angle)])
    return dataclasses.replace(shape, radius=size * shape.radius), velocity


def _draw_frame(
    background: Image.Image, shapes: list[Shape], moved: np.ndarray, short_side: int
) -> Image.Image:
    image = background.copy()
    draw = ImageDraw.Draw(image)
    for shape in shapes:
        radius = shape.radius * short_side
        # The area reaches past the frame by the shape's extent, so it wraps around out of sight.
        area = np.array(image.size) + 2 * radius
        x, y = (shape.start * area + moved * short_side) % area - radius
        box = (x - radius, y - radius, x + radius, y + radius)
        if shape.kind == "circle":
            draw.ellipse(box, fill=shape.color)
        elif shape.kind == "square":
            draw.rectangle(box, fill=shape.color)
        else:
            draw.polygon(
                [(x, y - radius), (x - radius, y + radius), (x + radius, y + radius)],
                fill=shape.color,
            )
    return image
