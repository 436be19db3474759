"""A picture of the report, and how a page holds it."""

import base64
import dataclasses


@dataclasses.dataclass(frozen=True)
class Picture:
    """A PNG with what it shows, in words.

    Attributes:
      name: of its file.
      png: its bytes.
      shows: a sentence for those who cannot see it.
    """

    name: str
    png: bytes
    shows: str

    @property
    def data_uri(self) -> str:
        """The picture as an address that holds it."""
        return data_uri(self.png, "png")


def data_uri(content: bytes, kind: str) -> str:
    """A picture's bytes as an address that holds them; `kind` is the format, such as png."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
