"""--mode=prepare: from the originals of a data set to one that can be opened."""

import contextlib
import csv
import dataclasses
import importlib
import pathlib

import tensorflow_datasets as tfds

from data.builder import VERSION, VideoBuilder
from data.preparation.parts import REMARKS, SKIPPED
from data.preparation.prepare import Settings
from data.preparation.provenance import SOURCES
from data.preparation.replacement import Replacement
from mg_jax.errors import UserError
from mg_jax.input.datasets import class_names, open_data_set
from mg_jax.input.prepared import data_folder, is_prepared
from mg_jax.machine.launcher import Process
from mg_jax.tools.checks import check_preparation

_SHOWN = 10  # of the skipped videos and of the remarks


def prepare(config, process: Process | None = None) -> None:
    """Prepares the config's data set under data.dir, unless it is prepared already.

    Args:
      config: the recipe's.
      process: which of several processes this is that prepare it together; None if there are no
        others.

    Raises:
      UserError: for an invalid name, setting, list or video; the message says what is valid.
    """
    tfds.disable_progress_bar()  # VideoBuilder shows its own
    settings = check_preparation(config)
    root = pathlib.Path(config.data.dir).expanduser()
    is_first = process is None or process.index == 0
    if settings.dry_run:
        if is_first:
            _builder(config, settings, root).look()
        return
    renewing = root / ".renewing" / config.data.name
    newer = renewing / config.data.name / str(VERSION)
    replacement = Replacement(data_folder(config), renewing, newer)
    if process is None:
        _prepare_alone(config, settings, root, replacement)
    else:
        _prepare_together(config, settings, root, replacement, process)
    if is_first:
        _print_data_set(config)
    else:
        print(f"{process}: {data_folder(config)} is prepared")


def _prepare_alone(
    config, settings: Settings, root: pathlib.Path, replacement: Replacement
) -> None:
    with contextlib.ExitStack() as stack:
        if replacement.root.exists() or (settings.renew and is_prepared(config)):
            stack.enter_context(replacement.locked())
        replacement.finish()
        builder = _builder(config, settings, root)
        if not is_prepared(config):
            builder.prepare()
        elif settings.renew:
            _builder(config, settings, replacement.root).prepare()
            replacement.finish()
        else:
            _check_stored(builder, settings)
            builder.remove_leftovers()
            _tell_prepared(builder, config, replacement)


def _prepare_together(
    config, settings: Settings, root: pathlib.Path, replacement: Replacement, process: Process
) -> None:
    """As `_prepare_alone`, but other processes may be preparing it or have finished.

    So it is not enough to be asked for a renewal: a process that is late, or was started again,
    would renew once more what the others have renewed. Only what has changed is renewed.
    """
    with contextlib.ExitStack() as stack:
        if replacement.root.exists() or (settings.renew and is_prepared(config)):
            stack.enter_context(replacement.joined())
        builder = _builder(config, settings, root)
        if not is_prepared(config):
            builder.prepare_together(process, lambda: is_prepared(config))
        elif settings.renew:
            newer = _builder(config, settings, replacement.root)

            def is_renewed() -> bool:
                return replacement.newer.exists() or _is_current(config, settings, root, newer)

            newer.prepare_together(process, is_renewed)
        else:
            _check_stored(builder, settings)
            if process.index == 0:
                _tell_prepared(builder, config, replacement)


def _is_current(config, settings: Settings, root: pathlib.Path, newer: VideoBuilder) -> bool:
    """Whether the data set is what the newer one would be."""
    folder = data_folder(config)
    found = _builder(config, settings, root)  # It reads the settings of what is there now.
    if _differing(found, settings) or not (folder / SOURCES).exists():
        return False
    return not newer.changes(folder)


def _tell_prepared(builder: VideoBuilder, config, replacement: Replacement) -> None:
    folder = data_folder(config)
    print(f"{folder} is there already; --config.prepare.renew=True prepares it again")
    _print_changes(builder, config)
    replacement.tell_unfinished()


def _print_changes(builder: VideoBuilder, config) -> None:
    """Prints what has changed in the source since the data set was prepared from it."""
    folder, source = data_folder(config), config.prepare.source
    if not source or not (folder / SOURCES).exists():
        return
    if not pathlib.Path(source).expanduser().is_dir():
        print(f"prepare.source={source} is no folder, so whether videos have changed is not known")
        return
    try:
        changed = builder.changes(folder)
    except UserError as error:
        print(f"whether videos have changed since is not known: {error}")
        return
    for line in changed:
        print(f"changed in {source} since: {line}")
    if changed:
        print("what is prepared stays as it is; --config.prepare.renew=True takes the changes up")


def _print_data_set(config) -> None:
    """Prints what was prepared, and the first skipped videos and remarks."""
    data_set, folder = open_data_set(config), data_folder(config)
    skipped, remarks = _listed(folder / SKIPPED), _listed(folder / REMARKS)
    for row in skipped[:_SHOWN]:
        print(f"skipped {row['path']}: {row['reason']}")
    for row in remarks[:_SHOWN]:
        print(f"stored {row['path']}, but look at it: {row['remark']}")
    counts = ", ".join(
        f"{info.num_examples:,} {name}" for name, info in sorted(data_set.info.splits.items())
    )
    more = f", see {folder / SKIPPED}" if skipped else ""
    odd = len({(row["split"], row["id"]) for row in remarks})
    more += f"; {odd} videos stored with remarks, see {folder / REMARKS}" if odd else ""
    classes = class_names(data_set)
    names = ", ".join(classes[:5]) + (" ..." if len(classes) > 5 else "")
    print(
        f"{data_set.data_path}: {counts}; {len(classes)} classes ({names}); "
        f"{len(skipped)} videos skipped{more}; --mode=preview --workdir=DIR draws its clips"
    )


def _listed(path: pathlib.Path) -> list[dict[str, str]]:
    """Rows of a list beside the data set; those of earlier versions have no remarks."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _check_stored(data_set: tfds.core.DatasetBuilder, settings: Settings) -> None:
    differing = _differing(data_set, settings)
    if differing:
        found, wanted = ({name: pair[i] for name, pair in differing.items()} for i in range(2))
        raise UserError(
            f"{data_set.data_path} is prepared with {_listed_settings(found)}, not with "
            f"{_listed_settings(wanted)}; "
            "use it with the same --config.prepare flags, prepare it again with "
            "--config.prepare.renew=True, or choose another --config.data.dir"
        )


def _differing(
    data_set: tfds.core.DatasetBuilder, settings: Settings
) -> dict[str, tuple[object, object]]:
    """Settings that are others than those of a prepared data set: what it has, what is wanted."""
    metadata = data_set.info.metadata
    wanted = {
        **dataclasses.asdict(settings.stored),
        "validation_share": settings.validation_share,
        "group_pattern": settings.group_pattern,
    }
    pairs = {name: (metadata.get(name, value), value) for name, value in wanted.items()}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def _listed_settings(settings: dict[str, object]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in settings.items())


def _builder(config, settings: Settings, root: pathlib.Path) -> VideoBuilder:
    """The builder of the config's data set, under the folder `root`."""
    name, _, variant = config.data.name.partition("/")
    if variant == "NAME":
        raise UserError(
            f"data.name={config.data.name!r} is a placeholder; give the data set a name of your "
            f"own with --config.data.name={name}/..."
        )
    if variant and (variant in (".", "..") or pathlib.PurePath(variant).name != variant):
        raise UserError(
            f"data.name={config.data.name!r} must be {name}/ and a name without / behind it; "
            "--config.data.dir=... says where data sets lie"
        )
    builder = importlib.import_module(f"data.{name}.{name}_dataset_builder").Builder
    named = bool(variant) == bool(builder.VARIANTS)
    if not named and not (builder.VARIANT_OPTIONAL and not variant):
        what = f"{name}/VARIANT, {builder.VARIANTS}" if builder.VARIANTS else f"{name} alone"
        raise UserError(f"data.name={config.data.name!r} must be {what}")
    return builder(root, variant, settings)
