"""What can be refused at once, before TensorFlow and JAX are imported, which takes seconds."""

import os
import pathlib
import tempfile

from data.preparation.prepare import Settings, settings_from_config
from mg_jax.errors import UserError, did_you_mean
from mg_jax.input.prepared import DATA_SETS, is_prepared


def check_preparation(config) -> Settings:
    """The checked settings of preparation.

    Raises:
      UserError: for an invalid setting or name, a source that is not there, or a data.dir that
        cannot be written to.
    """
    settings = settings_from_config(config)
    name, is_read = config.data.name.partition("/")[0], settings.renew or not is_prepared(config)
    if name not in DATA_SETS:
        raise UserError(
            f"data.name={name!r} has no builder in data/; there are {', '.join(DATA_SETS)}"
            f"{did_you_mean(name, DATA_SETS)}"
        )
    if name != "moving_shapes" and (is_read or settings.dry_run):
        if not config.prepare.source:
            raise UserError(
                f"prepare.source is not set; --config.prepare.source=DIR says where {name} lies"
            )
        if not settings.source.is_dir():
            raise UserError(
                f"prepare.source={settings.source} is no folder; set --config.prepare.source=DIR "
                f"to where {name} lies"
            )
    if is_read and not settings.dry_run:
        _check_can_be_made(pathlib.Path(config.data.dir).expanduser())
    return settings


def _check_can_be_made(data_dir: pathlib.Path) -> None:
    """Tries in the nearest folder that is there, so that other processes see nothing of it."""
    nearest = next(f for f in (data_dir, *data_dir.absolute().parents) if os.path.lexists(f))
    try:
        with tempfile.TemporaryDirectory(prefix=".tried_", dir=nearest):
            pass
    except OSError as error:
        reason = error.strerror if nearest.exists() else f"{nearest} links to nothing"
        raise UserError(
            f"--config.data.dir={data_dir} cannot be made ({reason}); choose another"
        ) from error
