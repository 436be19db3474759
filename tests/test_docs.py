"""What the documents name: files of the repository, modules to run, and pages and pictures."""

import importlib.util
import pathlib
import re

from tests.runs import ROOT

DOCUMENTS = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "launch").iterdir()),
]
# A word in capitals, such as NAME, stands for any name.
PATH = re.compile(r"(?<![\w./-])(?:mg_jax|data|tests|configs|launch)/[\w./]*[\w/]")
PLACEHOLDER = re.compile(r"[A-Z]{2,}")
MODULE = re.compile(r"python -m ([\w.]+)")
LINK = re.compile(r"""\]\(([^)#]+)|(?:src|href)="([^"#]+)""")


def is_module(name: str) -> bool:
    """Whether `python -m` can run it."""
    try:
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.submodule_search_locations is not None:
            spec = importlib.util.find_spec(f"{name}.__main__")
    except ModuleNotFoundError:
        return False
    return spec is not None


def missing(document: pathlib.Path) -> list[str]:
    """What a document names and does not exist."""
    text = document.read_text()
    links = [target or source for target, source in LINK.findall(text)]
    return [
        *(path for path in PATH.findall(text) if not any(ROOT.glob(PLACEHOLDER.sub("*", path)))),
        *(name for name in MODULE.findall(text) if not is_module(name)),
        *(link for link in links if "://" not in link and not (document.parent / link).exists()),
    ]


def test_files_modules_and_links_that_the_documents_name_exist():
    assert {path.name: names for path in DOCUMENTS if (names := missing(path))} == {}
