"""A picture of the report."""

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
        return f"data:image/png;base64,{base64.b64encode(self.png).decode()}"
