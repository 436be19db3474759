"""Rules by which tensors of other code bases get PySlowFast's names."""

import re
from collections.abc import Iterable


def renamed(name: str, rules: Iterable[tuple[str, str]]) -> str | None:
    r"""A name by the first rule whose pattern matches all of it; None where none does.

    A rule is a pattern and its replacement, in which `<\1>` is a, b or c for 1, 2 or 3 and `s{\1}`
    the stage after the one of that number: PySlowFast's s1 is the stem, which others call 0 or do
    not count.
    """
    for pattern, replacement in rules:
        if match := re.fullmatch(pattern, name):
            ours = match.expand(replacement)
            ours = re.sub(r"s\{(\d)\}", lambda stage: f"s{int(stage[1]) + 1}", ours)
            return re.sub(r"<([123])>", lambda conv: "abc"[int(conv[1]) - 1], ours)
    return None
