"""`python -m data.moving_shapes --to=DIR`: class folders of drawn videos, to try things with."""

import pathlib
import sys

from absl import app, flags

from data.moving_shapes.class_folders import draw_class_folders
from mg_jax.errors import UserError

_TO = flags.DEFINE_string("to", None, "The folder to write CLASS/NUMBER.mp4 to.")
_VIDEOS = flags.DEFINE_list(
    "videos", "10", "Of each class, such as 40,40,20,20,10,10,5,5; or one number for all."
)
_SEED = flags.DEFINE_integer("seed", 0, "Other seeds draw other videos.", lower_bound=0)


def main(argv: list[str]) -> None:
    """Draws by the flags."""
    if len(argv) > 1:
        sys.exit(f"error: unexpected arguments {argv[1:]}")
    if not _TO.value:
        sys.exit("error: --to=FOLDER is missing")
    folder = pathlib.Path(_TO.value).expanduser()
    try:
        videos = [int(number) for number in _VIDEOS.value]
    except ValueError:
        sys.exit(f"error: --videos={','.join(_VIDEOS.value)} must be whole numbers")
    try:
        count = draw_class_folders(folder, videos, _SEED.value)
    except UserError as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        sys.exit(f"error: --to={folder} cannot be written ({error.strerror or error})")
    print(f"{folder}: {count} videos")


if __name__ == "__main__":
    app.run(main)
