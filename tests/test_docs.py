"""What the documents name: files, modules, pages and pictures, and the settings of commands."""

import importlib.util
import os
import pathlib
import re
import shlex
import subprocess
import sys
import textwrap

import pytest

from tests.paper.test_configs import config_of
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


# main.py's commands in a page, each with the lines that it goes on in.
COMMAND = re.compile(r"^    (?:\$ )?python (?=main\.py )((?:.*\\\n)*.*)", re.M)
VARIABLE = re.compile(r'^ *([A-Z]+)="([^"]*)"$', re.M)
FLAG = re.compile(r'DEFINE_\w+\(\s*"(\w+)"')
PAGES = [path for path in DOCUMENTS if path.suffix == ".md" and "main.py" in path.read_text()]


def commands(document: pathlib.Path) -> list[list[str]]:
    """The words of each command, with the page's shell variables put in."""
    text = document.read_text()
    lines = COMMAND.findall(text)
    for name, value in reversed(VARIABLE.findall(text)):
        lines = [line.replace(f"${name}", value) for line in lines]
    return [shlex.split(line.replace("\\\n", " ").replace("...", "")) for line in lines]


# ml_collections loads files as Python 3.11 still allows.
@pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")
@pytest.mark.parametrize("document", PAGES, ids=lambda path: path.name)
def test_main_knows_the_flags_and_settings_of_commands(document, monkeypatch):
    monkeypatch.chdir(ROOT)
    sources = (ROOT / "main.py", *(ROOT / "mg_jax" / "tools").glob("*.py"))
    known = {name for path in sources for name in FLAG.findall(path.read_text())}
    for program, *words in commands(document):
        names = {word.partition("=")[0][2:] for word in words if word.startswith("--")}
        assert {name for name in names if not name.startswith("config.")} <= known
        settings = [w for w in words if w.startswith("--config") and not re.search(r"\.[A-Z]", w)]
        file = re.sub(r"^--config=CONFIG\b", "--config=configs/demo.py", " ".join(settings[:1]))
        if not settings or PLACEHOLDER.search(file):
            continue
        config_of([program, file, *settings[1:]])  # raises for what the config does not have


def test_the_stand_in_for_a_published_file_is_written_as_the_page_says(torch, tmp_path):
    text = (ROOT / "docs" / "own_videos.md").read_text()
    (code,) = re.findall(r"<<'END'\n((?:(?!END).*\n)*?.*torch_networks(?:.*\n)*?) *END\n", text)
    (printed,) = re.findall(r"END\n +(\d+ tensors, .* parameters)", text)
    (tmp_path / "work").mkdir()
    command = [sys.executable, "-c", textwrap.dedent(code)]
    path = {**os.environ, "PYTHONPATH": str(ROOT)}
    result = subprocess.run(command, cwd=tmp_path, env=path, capture_output=True, text=True)
    assert (result.stdout.strip(), result.stderr) == (printed, "")
    assert [file.name for file in (tmp_path / "work").iterdir()] == ["stand_in.pyth"]
