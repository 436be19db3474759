"""Names in any script are readable in pictures, or it is said which letters no font has."""

import io
import subprocess
import sys

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from mg_jax.machine.fonts import Writer, fonts_for, matplotlib_fonts, say_missing
from mg_jax.tools.preview import Clip, Section, draw
from tests import runs

# Private use: no font may have it.
MISSING = "\ue0ff"


def drawn(letter):
    image = Image.new("RGB", (60, 60))
    Writer(32).draw(image, 8, 8, letter, (255, 255, 255))
    return np.asarray(image)[..., 0]


def plotted(letter):
    figure = Figure(figsize=(0.6, 0.6), dpi=100)
    with matplotlib_fonts([letter]):
        figure.text(0.3, 0.3, letter, fontsize=20)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png")
    return np.asarray(Image.open(buffer).convert("L"))


@pytest.mark.parametrize("picture", [drawn, plotted])
def test_letters_with_accents_of_greek_and_of_cyrillic_are_no_boxes(picture):
    letters = "eéñßøğΩλψЖщыїאس"
    pictures = [picture(letter) for letter in letters]
    box = picture(MISSING)
    assert (box != box[0, 0]).any()
    for i, one in enumerate(pictures):
        assert (one != one[0, 0]).any()
        assert all((one != other).any() for other in [box, *pictures[:i]]), letters[i]
    assert say_missing(letters) == ""


def test_what_no_font_has_is_said_once_with_what_to_install():
    said = say_missing(["Прыжок", f"a {MISSING}", f"{MISSING} b\n"])
    assert said.count("U+E0FF") == 1
    assert "LETTER" not in said
    assert "fonts-noto-cjk" in said
    assert "fonts-noto-core" in said


def test_the_usual_font_is_enough_for_what_it_has():
    assert len(fonts_for("Été, прыжок: Ωμέγα")) == 1
    assert fonts_for("") == fonts_for("a")


LOOKED_THROUGH = f"""
import pathlib
from mg_jax.machine.fonts import say_missing
assert say_missing({MISSING!r})
opened = [str(path.resolve()) for path in pathlib.Path("/proc/self/fd").iterdir()]
print([path for path in opened if path.endswith((".ttf", ".otf", ".ttc"))])
"""


def test_fonts_that_were_looked_through_are_not_kept_open():
    found = subprocess.run(
        [sys.executable, "-c", LOOKED_THROUGH], cwd=runs.ROOT, capture_output=True, text=True
    )
    assert found.stdout == "[]\n", found.stderr


def test_a_line_in_pieces_is_as_wide_as_its_letters():
    writer = Writer(20)
    assert writer.width(f"ab{MISSING}") == pytest.approx(
        writer.width("ab") + writer.width(MISSING), abs=1
    )
    assert writer.width("") == 0
    # A mark is drawn over its letter and takes no room.
    assert writer.width("a\u0301") == pytest.approx(writer.width("a"), abs=1)


def test_names_without_blanks_stay_within_the_sheet():
    frames_THWC = np.zeros((2, 16, 16, 3), np.uint8)
    sheets = [
        np.asarray(draw("heading", [Section("", "", [Clip(frames_THWC, name, "")])]))
        for name in ("a", "abc" * 100)
    ]
    assert sheets[0].shape[1] == sheets[1].shape[1]
    assert sheets[0].shape[0] < sheets[1].shape[0]
    margin_HWC = sheets[1][:, -30:]
    assert (margin_HWC == margin_HWC[0, 0]).all()
