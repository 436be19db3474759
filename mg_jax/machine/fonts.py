"""Fonts that have the letters of a text, for pictures drawn by Pillow and by Matplotlib.

Names of classes and folders may be in any script. Matplotlib comes with a font that has Latin,
Greek and Cyrillic letters and more; for other letters the installed fonts are searched.
"""

import contextlib
import functools
import pathlib
import unicodedata
import warnings
from collections.abc import Iterable, Iterator

import matplotlib
from matplotlib import font_manager
from matplotlib.ft2font import FT2Font
from PIL import Image, ImageDraw, ImageFont

from mg_jax.errors import some

# Comes first, so that pictures look alike everywhere.
_USUAL = pathlib.Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
# Words in the names of fonts that are used only where no plain font has the letters.
_UNUSUAL = ("bold", "black", "italic", "oblique", "light", "thin", "mono", "condensed", "serif")
_NAMED = 5  # letters, in a message


@functools.cache
def _letters(path: str) -> frozenset[int]:
    """Code points of a font; none if it cannot be read, or holds only bitmaps of fixed sizes."""
    try:
        font = FT2Font(path)  # keeps its file open as long as it exists
    except (RuntimeError, OSError, UnicodeDecodeError):
        return frozenset()
    return frozenset(font.get_charmap()) if font.scalable else frozenset()


def _needs_glyph(letter: str) -> bool:
    """Whether a letter is drawn: blanks, joiners and direction marks are not."""
    return not letter.isspace() and unicodedata.category(letter) not in ("Cc", "Cf")


@functools.cache
def _installed() -> tuple[str, ...]:
    """Paths of the installed fonts, plain ones first; each process searches once."""
    paths = set(font_manager.findSystemFonts())
    return tuple(sorted(paths, key=lambda path: (_is_unusual(path), path)))


def _is_unusual(path: str) -> bool:
    return any(word in pathlib.Path(path).name.lower() for word in _UNUSUAL)


def fonts_for(text: str) -> list[str]:
    """Paths of the fonts to draw a text with: the usual one, then others for what it lacks."""
    fonts = [str(_USUAL), *filter(None, map(_font_for, sorted(set(text))))]
    return list(dict.fromkeys(fonts))


@functools.cache
def _font_for(letter: str) -> str | None:
    """The first font that has a letter, the usual one if it is not drawn; None if none has it."""
    if not _needs_glyph(letter) or ord(letter) in _letters(str(_USUAL)):
        return str(_USUAL)
    return next((path for path in _installed() if ord(letter) in _letters(path)), None)


def say_missing(texts: Iterable[str]) -> str:
    """Which letters of some texts no font has, and what to install; empty if none is missing."""
    missing = [x for x in dict.fromkeys("".join(texts)) if _font_for(x) is None]
    if not missing:
        return ""
    return (
        f"no font here has {some(map(_name, missing), _NAMED)}; boxes stand for them. "
        "Debian's packages fonts-noto-cjk (Chinese, Japanese, Korean) and fonts-noto-core (other "
        "scripts) have most"
    )


def _name(letter: str) -> str:
    name = unicodedata.name(letter, f"U+{ord(letter):04X}")
    return f"{letter} ({name})" if letter.isprintable() else name


@contextlib.contextmanager
def matplotlib_fonts(texts: Iterable[str]) -> Iterator[None]:
    """Within it figures are drawn and saved with fonts that have the letters of the texts.

    Matplotlib does not warn of each missing letter then; `say_missing` tells of all at once.
    """
    families = []
    for path in fonts_for("".join(texts)):
        font_manager.fontManager.addfont(path)
        families.append(font_manager.get_font(path).family_name)
    with matplotlib.rc_context({"font.family": families}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Glyph \d+ .* missing from", UserWarning)
        yield


class Writer:
    """Draws lines of text of one size with Pillow."""

    def __init__(self, size: int):
        """Takes the size, in pixels."""
        self._size = size
        self._fonts: dict[str, ImageFont.FreeTypeFont] = {}

    def width(self, text: str) -> float:
        """Width of a line, pixels."""
        return sum(font.getlength(piece) for piece, font in self._pieces(text))

    def draw(
        self, image: Image.Image, x: float, y: float, text: str, colour: tuple[int, int, int]
    ) -> None:
        """Writes a line whose top left corner is at x, y."""
        # Fonts differ in their ascent; all pieces of a line stand on one baseline.
        base = y + self._font(str(_USUAL)).getmetrics()[0]
        canvas = ImageDraw.Draw(image)
        for piece, font in self._pieces(text):
            canvas.text((x, base), piece, colour, font, anchor="ls")
            x += font.getlength(piece)

    def _pieces(self, text: str) -> Iterator[tuple[str, ImageFont.FreeTypeFont]]:
        """The line, split where the font changes; combining marks stay with their letter."""
        piece, current = "", str(_USUAL)
        for letter in text:
            wanted = current
            if _needs_glyph(letter) and not unicodedata.category(letter).startswith("M"):
                wanted = _font_for(letter) or str(_USUAL)
            if wanted != current and piece:
                yield piece, self._font(current)
                piece = ""
            piece, current = piece + letter, wanted
        if piece:
            yield piece, self._font(current)

    def _font(self, path: str) -> ImageFont.FreeTypeFont:
        if path not in self._fonts:
            self._fonts[path] = ImageFont.truetype(path, self._size)
        return self._fonts[path]
