"""What can be refused at once, before TensorFlow and JAX are imported, which takes seconds."""

import pathlib
from collections.abc import Sequence

from data.preparation.prepare import Settings, settings_from_config
from mg_jax.errors import UserError
from mg_jax.input.prepared import check_builder, check_prepared, is_prepared, with_classes
from mg_jax.input.sampling import all_views, check_views
from mg_jax.machine.folder import check_can_be_made, did_you_mean_beside
from mg_jax.recipe import schedule_from_config
from mg_jax.training_settings import check_parts
from mg_jax.workdir.config import check_config, check_has_checkpoint, check_init_from

TABLES = (".csv", ".json")  # what --mode=predict writes
ARRAYS = (".npz", ".safetensors")  # what --mode=features writes
# Settings that must be as in training when a model is applied.
_APPLIED = (
    "model.",
    "frames",
    "data.name",
    "data.stride",
    "data.sampling",
    "data.multi_label",
    "data.mean",
    "data.std",
)


def check_preparation(config) -> Settings:
    """The checked settings of preparation.

    Raises:
      UserError: for an invalid setting or name, a source that is not there, or a data.dir that
        cannot be written to.
    """
    settings = settings_from_config(config)
    name, is_read = config.data.name.partition("/")[0], settings.renew or not is_prepared(config)
    check_builder(config)
    if name != "moving_shapes" and (is_read or settings.dry_run):
        if not config.prepare.source:
            raise UserError(
                f"prepare.source is not set; --config.prepare.source=DIR says where {name} lies"
            )
        if not settings.source.is_dir():
            raise UserError(
                f"prepare.source={settings.source} is no folder; set --config.prepare.source=DIR "
                f"to where {name} lies{did_you_mean_beside(settings.source)}"
            )
    if is_read and not settings.dry_run:
        check_can_be_made(pathlib.Path(config.data.dir).expanduser(), "--config.data.dir")
    return settings


def check_preview(config, workdir: pathlib.Path) -> None:
    """Checks settings, data and work directory of a preview.

    Raises:
      UserError: if the data set is not prepared, or for what else does not fit.
    """
    check_parts(config, schedule_from_config(config), devices=1)
    check_prepared(config)
    check_can_be_made(workdir, "--workdir")


def check_prediction(
    config,
    videos: Sequence[pathlib.Path],
    workdir: pathlib.Path | None,
    output: pathlib.Path | None,
) -> None:
    """Checks output, weights and a single video; arguments as of `predict_many.predict_videos`.

    Raises:
      UserError: for what is not there or does not fit.
    """
    if output is not None:
        check_output(output, TABLES)
    elif len(videos) == 1 and not videos[0].exists():
        raise UserError(f"--video={videos[0]} is not there{did_you_mean_beside(videos[0])}")
    check_weights(config, workdir)


def check_features(
    config,
    videos: Sequence[pathlib.Path] | None,
    workdir: pathlib.Path | None,
    output: pathlib.Path,
) -> None:
    """Checks output, weights and data; arguments as of `features.write_features`.

    Raises:
      UserError: for what is not there or does not fit.
    """
    check_output(output, ARRAYS)
    check_weights(config, workdir)
    if videos is None:
        check_prepared(config)


def check_output(output: pathlib.Path, suffixes: Sequence[str]) -> None:
    """Raises UserError unless a file of one of the suffixes can be written there."""
    if output.suffix not in suffixes or output.is_dir():
        raise UserError(f"--output={output} must be a file that ends in {' or '.join(suffixes)}")
    if not output.parent.is_dir():
        raise UserError(f"--output={output}: there is no folder {output.parent}")


def check_weights(config, workdir: pathlib.Path | None) -> None:
    """Checks that there are weights to apply, of a network with the config's settings.

    Args:
      config: of the model.
      workdir: whose best checkpoint is used; without one, the weights of config.init_from.

    Raises:
      UserError: if there are none, a setting is invalid or differs from training, or the views of
        a video are larger than this machine's memory.
    """
    schedule_from_config(config)
    check_views(all_views(config))
    if workdir is not None:
        check_has_checkpoint(workdir)
        # There the number of classes is known, where model.num_classes is 0 here.
        check_config(workdir, with_classes(config, workdir), _APPLIED)
    elif not config.init_from:
        raise UserError(
            "no weights to predict with; give a --workdir with checkpoints, or a file of weights "
            "as --config.init_from=FILE"
        )
    else:
        check_init_from(config)
