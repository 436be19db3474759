"""Files that operating systems leave in folders of people's data."""

_SYSTEM = {"thumbs.db", "desktop.ini", "__macosx", "@eadir", "lost+found", "$recycle.bin"}


def is_system(name: str) -> bool:
    """Whether a file or folder is hidden or belongs to an operating system."""
    return name.startswith(".") or name.lower() in _SYSTEM
