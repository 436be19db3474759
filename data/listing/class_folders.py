"""Finds videos in class folders and in folders of videos, and reports what it leaves out."""

import dataclasses
import os
import pathlib
import unicodedata

from data.listing.findings import Findings, printable
from data.listing.image_folder import SUFFIXES as IMAGES
from data.listing.lists import CLASS_FILE
from data.listing.sources import LIST
from data.listing.system_files import is_system
from data.listing.video_root import SETS_VIDEOS, path_inside
from data.listing.videos import Action, Listing, Video
from mg_jax.errors import UserError, some

# Suffixes of video files; a list may name files with any suffix.
# fmt: off
VIDEOS = frozenset((
    ".mp4", ".webm", ".mkv", ".avi", ".mov", ".m4v", ".mpg", ".mpeg", ".wmv", ".flv", ".ogv",
    ".3g2", ".3gp", ".amv", ".asf", ".divx", ".dv", ".f4v", ".gif", ".h264", ".264", ".h265",
    ".265", ".hevc", ".ivf", ".m1v", ".m2p", ".m2t", ".m2ts", ".m2v", ".mj2", ".mjpeg", ".mjpg",
    ".mpe", ".mpv", ".mts", ".mxf", ".nut", ".ogm", ".ps", ".qt", ".rm", ".rmvb", ".ts", ".vob",
    ".wtv", ".xvid", ".y4m",
))
# fmt: on


@dataclasses.dataclass
class ClassFolder:
    """What a class folder holds, sub-folders included.

    Attributes:
      path: of the folder.
      videos: files, and folders of images.
      empty: folders in it that hold neither images nor videos.
      left_out: number of files that are no videos.
    """

    path: pathlib.Path
    videos: list[pathlib.Path]
    empty: list[pathlib.Path]
    left_out: int = 0


def folders_in(folder: pathlib.Path) -> list[pathlib.Path]:
    """The folders in a folder, in order, without hidden ones."""
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries if entry.is_dir() and not is_system(entry.name)]
    return [folder / name for name in sorted(names)]


def class_folder(path: pathlib.Path, findings: Findings) -> ClassFolder:
    """Looks for videos in a class folder and its sub-folders.

    A sub-folder with images and no videos is a video, its images the frames. One with neither is
    taken for a video that has lost its images, if the class has other videos.

    Args:
      path: of the folder.
      findings: what is left out is added.
    """
    found = ClassFolder(path, [], [])
    _search(path, found, {_node(path)}, findings)
    if found.videos:
        found.videos = sorted(found.videos + found.empty)
    return found


def _search(
    folder: pathlib.Path, found: ClassFolder, above: set[tuple[int, int]], findings: Findings
) -> None:
    folders, videos, images, others = [], [], [], []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                path, suffix = folder / entry.name, pathlib.Path(entry.name).suffix.lower()
                if is_system(entry.name):
                    if suffix in VIDEOS:
                        findings.leave_out(printable(path), "hidden")
                elif entry.is_dir():
                    folders.append(path)
                else:
                    kind = videos if suffix in VIDEOS else images if suffix in IMAGES else others
                    kind.append(path)
    except OSError as error:
        findings.error(
            f"{printable(folder)} cannot be looked into: {error.strerror}", "make it readable"
        )
        return
    if images and not videos and folder != found.path:
        found.videos.append(folder)
        for path in folders:
            findings.leave_out(printable(path), "folders in folders of images")
        return
    if not (videos or images or folders) and folder != found.path:
        found.empty.append(folder)
    for path in others + images:
        suffix = path.suffix.lower() or "no suffix"
        reason = "images that lie in no folder of their own" if path in images else suffix
        findings.leave_out(printable(path), reason)
    found.videos += videos
    found.left_out += len(others) + len(images)
    for path in sorted(folders):
        # A link may lead back up.
        if (node := _node(path)) not in above:
            _search(path, found, above | {node}, findings)


def _node(path: pathlib.Path) -> tuple[int, int]:
    stat = path.stat()
    return stat.st_dev, stat.st_ino


def find_class_folders(
    folders: dict[str, pathlib.Path], source: pathlib.Path, findings: Findings
) -> dict[str, dict[str, list[ClassFolder]]]:
    """The class folders of splits by name of the class, mostly one each.

    Args:
      folders: of the splits, each holding a folder per class.
      source: the folder that holds them, or is one; its lists and `classes.txt` are not reported as
        left out.
      findings: notices and what is left out are added.
    """
    found: dict[str, dict[str, list[ClassFolder]]] = {}
    for split, folder in folders.items():
        found[split] = {}
        for path in folders_in(folder):
            found[split].setdefault(_name(path), []).append(class_folder(path, findings))
        for alike in found[split].values():
            _report_empty([one for one in alike if not one.videos], findings)
            filled = [f"'{printable(one.path)}'" for one in alike if one.videos]
            if len(filled) > 1:
                findings.notice(
                    " and ".join(filled),
                    "folders of one class, since their names differ in blanks at the ends or in "
                    "the encoding of accents only",
                )
    for folder in dict.fromkeys((source, *folders.values())):
        _leave_out_files(folder, folder == source, findings)
    return found


def _leave_out_files(folder: pathlib.Path, is_source: bool, findings: Findings) -> None:
    """Reports files that lie beside class folders or folders of splits as left out."""
    with os.scandir(folder) as entries:
        names = sorted(
            entry.name for entry in entries if not entry.is_dir() and not is_system(entry.name)
        )
    for name in names:
        suffix = pathlib.Path(name).suffix.lower()
        if is_source and (suffix == LIST or name == CLASS_FILE):
            continue
        reason = suffix or "no suffix"
        if suffix in VIDEOS or suffix in IMAGES:
            reason = f"{'videos' if suffix in VIDEOS else 'images'} that lie in no class folder"
        findings.leave_out(printable(folder / name), reason)


def listing_of_class_folders(
    found: dict[str, dict[str, list[ClassFolder]]],
    folders: dict[str, pathlib.Path],
    classes: list[str] | None,
    findings: Findings,
) -> Listing:
    """The classes and the videos of class folders.

    Args:
      found: the class folders, by split and name.
      folders: of the splits.
      classes: names in order, of `classes.txt`; None for those found, numbers in their order before
        names in theirs.
      findings: errors are added.
    """
    is_given, how = classes is not None, "names of folders" if classes is None else CLASS_FILE
    filled = {
        split: [
            (name, folder) for name, alike in by_class.items() for folder in alike if folder.videos
        ]
        for split, by_class in found.items()
    }
    if classes is None:
        names = {name for of_split in filled.values() for name, _ in of_split}
        classes = sorted(names, key=_numbers_first)
    labels = {name: k for k, name in enumerate(classes)}
    splits = {}
    for split, of_split in filled.items():
        splits[split] = []
        for name, folder in of_split:
            if name not in labels:
                findings.error(
                    f"{printable(folder.path)} ({len(folder.videos):,} videos)",
                    f"each class folder must be one of the {len(classes)} classes",
                )
                continue
            splits[split] += [
                Video(str(path.relative_to(folders[split])), path, (Action(labels[name]),))
                for path in folder.videos
            ]
        if not of_split:
            findings.error(
                f"{folders[split]} holds no videos; they belong into one folder per class, as "
                "files (.mp4 .mkv .avi ...) or as folders of images"
            )
    read_from = {split: f"folder {path.name}" for split, path in folders.items()}
    return Listing(classes, splits, how, is_given, read_from)


def _name(folder: pathlib.Path) -> str:
    """The class's name; accents in one encoding, since operating systems differ in it."""
    return unicodedata.normalize("NFC", folder.name).strip()


def _numbers_first(name: str) -> tuple[int, str]:
    return (int(name), name) if name.isdecimal() and len(name) < 10 else (10**9, name)


def _report_empty(folders: list[ClassFolder], findings: Findings) -> None:
    for folder in folders:
        holds = f"{folder.left_out:,} other files" if folder.left_out else "nothing"
        findings.notice(
            f"{printable(folder.path)} ({holds})", "folders without videos, which are no class"
        )


class VideosByStem:
    """The videos of a folder by name without extension: files, and folders of images."""

    def __init__(self, folder: pathlib.Path, suffix: str, findings: Findings):
        """Looks through the folder.

        Args:
          folder: of the videos.
          suffix: that the files of the data set have.
          findings: notices, what is left out, and later errors are added.

        Raises:
          UserError: if there is no such folder.
        """
        if not folder.is_dir():
            raise UserError(
                f"there is no folder {folder}; --config.prepare.source=... and {SETS_VIDEOS}"
            )
        self._folder, self._suffix, self._findings = folder, suffix, findings
        found: dict[str, list[pathlib.Path]] = {}
        with os.scandir(folder) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                path = folder / entry.name
                if is_system(entry.name):
                    continue
                if entry.is_dir():
                    found.setdefault(entry.name, []).append(path)
                elif path.suffix.lower() in VIDEOS:
                    found.setdefault(path.stem, []).append(path)
                elif path.suffix.lower() not in (".csv", ".json", ".txt"):  # the lists
                    findings.leave_out(printable(path), path.suffix.lower() or "no suffix")
        for paths in found.values():
            if len(paths) > 1:
                findings.notice(some(paths), "videos of the same name; the first of each is used")
        self._paths = {name: paths[0] for name, paths in found.items()}

    def path(self, name: str, where: str) -> pathlib.Path | None:
        """The path of a video, whether it exists or not; None, after adding an error, if invalid.

        Args:
          name: without extension.
          where: it is listed, file and line.
        """
        try:
            listed = path_inside(self._folder, f"{name}{self._suffix}", where)
        except UserError as error:
            self._findings.error(str(error))
            return None
        return self._paths.get(name, self._folder / listed)
