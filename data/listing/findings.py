"""Collects the problems of a source, so that all are reported at once."""

import dataclasses

from mg_jax.errors import UserError

_MOST = 10  # shown of each kind
_MOST_KINDS = 20


@dataclasses.dataclass
class Findings:
    """What was found in lists and folders, by kind.

    What was found names file and line; its kind is a sentence that says what is wrong with all of
    them, or how to correct them.

    Attributes:
      errors: what ends a preparation.
      notices: what a person should know.
      left_out: files and folders that are not used, by the reason.
    """

    errors: dict[str, list[str]] = dataclasses.field(default_factory=dict)
    notices: dict[str, list[str]] = dataclasses.field(default_factory=dict)
    left_out: dict[str, list[str]] = dataclasses.field(default_factory=dict)

    def error(self, text: str, kind: str = "") -> None:
        """Adds what ends the preparation."""
        self.errors.setdefault(kind, []).append(text)

    def notice(self, text: str, kind: str = "") -> None:
        """Adds what does not end the preparation but a person should know."""
        self.notices.setdefault(kind, []).append(text)

    def leave_out(self, path: object, reason: str) -> None:
        """Adds a file or folder that is not used."""
        self.left_out.setdefault(reason, []).append(str(path))

    def check(self, source: object) -> None:
        """Ends the preparation if there are errors.

        Raises:
          UserError: with all of them; a single one in one sentence.
        """
        count = sum(map(len, self.errors.values()))
        if not count:
            return
        if count == 1:
            ((kind, (text,)),) = self.errors.items()
            text = text if str(source) in text else f"{source}: {text}"
            raise UserError(printable(f"{text}; {kind}" if kind else text))
        # The source is named once.
        lines = "\n".join(grouped(self.errors)).replace(f"{source}/", "")
        raise UserError(
            printable(
                f"{source} cannot be prepared; {count} things are wrong. Fix them, then use the "
                f"same command again\n{lines}"
            )
        )


def grouped(found: dict[str, list[str]]) -> list[str]:
    """Lines that show what was found, kind after kind, a few of each."""
    lines = [f"- {text}" for text in found.get("", [])[:_MOST]]
    lines += _more(found.get("", []))
    kinds = [kind for kind in found if kind]
    for kind in kinds[:_MOST_KINDS]:
        texts = found[kind]
        if len(texts) == 1:
            lines.append(f"- {texts[0]}; {kind}")
            continue
        lines.append(f"- {kind} ({len(texts):,}):")
        lines += [f"    {text}" for text in texts[:_MOST]]
        lines += _more(texts)
    if len(kinds) > _MOST_KINDS:
        lines.append(f"- and {len(kinds) - _MOST_KINDS} more kinds")
    return lines


def _more(texts: list[str]) -> list[str]:
    return [f"    and {len(texts) - _MOST:,} more"] if len(texts) > _MOST else []


def printable(text: object) -> str:
    """The text, with bytes of file names that are not UTF-8 written as `\\xe9`."""
    return str(text).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
