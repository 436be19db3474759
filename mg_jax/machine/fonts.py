"""Fonts that have the letters of a text, in pictures drawn by Pillow and by Matplotlib.

Names of classes and folders may be in any script. Matplotlib brings a font with Latin, Greek and
Cyrillic letters and more; others are looked for among the machine's.
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

# Comes first, so that pictures look alike everywhere.
_USUAL = pathlib.Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
# Styles that are taken only where no other has the letters.
_UNUSUAL = ("bold", "black", "italic", "oblique", "light", "thin", "mono", "condensed", "serif")
_NAMED = 5  # letters, in a message


@functools.cache
def _letters(path: str) -> frozenset[int]:
    """Code points of a font; none of what cannot be read, or consists of pictures of one size."""
    try:
        font = FT2Font(path)  # which keeps its file open for as long as it lives
    except (RuntimeError, OSError, UnicodeDecodeError):
        return frozenset()
    return frozenset(font.get_charmap()) if font.scalable else frozenset()


def _needs_glyph(letter: str) -> bool:
    """Whether a letter is drawn at all: not blanks, nor what joins and directs its neighbours."""
    return not letter.isspace() and unicodedata.category(letter) not in ("Cc", "Cf")


@functools.cache
def _installed() -> tuple[str, ...]:
    """The machine's fonts, plain ones first; looked for anew in each process."""
    paths = set(font_manager.findSystemFonts())
    return tuple(sorted(paths, key=lambda path: (_is_unusual(path), path)))


def _is_unusual(path: str) -> bool:
    return any(word in pathlib.Path(path).name.lower() for word in _UNUSUAL)


def fonts_for(text: str) -> list[str]:
    """Paths of the fonts to draw a text with, each for what those before it lack."""
    fonts = [str(_USUAL), *filter(None, map(_font_for, sorted(set(text))))]
    return list(dict.fromkeys(fonts))


@functools.cache
def _font_for(letter: str) -> str | None:
    """The first font that has a letter, or need not have it; None where none has."""
    if not _needs_glyph(letter) or ord(letter) in _letters(str(_USUAL)):
        return str(_USUAL)
    return next((path for path in _installed() if ord(letter) in _letters(path)), None)


def say_missing(texts: Iterable[str]) -> str:
    """What no font here has of some texts, and what to install; empty where nothing is missing."""
    missing = [x for x in dict.fromkeys("".join(texts)) if _font_for(x) is None]
    if not missing:
        return ""
    shown = ", ".join(map(_name, missing[:_NAMED]))
    more = f" and {len(missing) - _NAMED} more" if len(missing) > _NAMED else ""
    return (
        f"no font here has {shown}{more}; boxes stand for them. Debian's packages fonts-noto-cjk "
        "(Chinese, Japanese, Korean) and fonts-noto-core (other scripts) have most"
    )


def _name(letter: str) -> str:
    name = unicodedata.name(letter, f"U+{ord(letter):04X}")
    return f"{letter} ({name})" if letter.isprintable() else name


@contextlib.contextmanager
def matplotlib_fonts(texts: Iterable[str]) -> Iterator[None]:
    """Figures that are made and saved within it have the letters of the texts.

    `say_missing` says what they lack, not Matplotlib, which would for each letter.
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
        """Pixels that a line takes."""
        return sum(font.getlength(piece) for piece, font in self._pieces(text))

    def draw(
        self, image: Image.Image, x: float, y: float, text: str, colour: tuple[int, int, int]
    ) -> None:
        """Writes a line whose top left corner is at x, y."""
        # Fonts differ in how far their letters rise; a line's letters stand on one base.
        base = y + self._font(str(_USUAL)).getmetrics()[0]
        canvas = ImageDraw.Draw(image)
        for piece, font in self._pieces(text):
            canvas.text((x, base), piece, colour, font, anchor="ls")
            x += font.getlength(piece)

    def _pieces(self, text: str) -> Iterator[tuple[str, ImageFont.FreeTypeFont]]:
        """A line cut where the font changes. Marks stay with the letter they are set on."""
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
