"""Converts weights to PySlowFast's names and layout, as safetensors.

    python -m mg_jax.tools.convert --config=CONFIG --input=WEIGHTS --output=OUT.safetensors

The config's `model` section says which network it is; each of its tensors is loaded or reported.
What no tensor shows, such as model.alpha, is reported where published networks of these shapes have
it otherwise; --config=CONFIG:NAME sets up the published network NAME (docs/weights.md).
model.num_classes=0 stands for as many classes as the work directory has, or else the prepared data
set. --input is one of

  a work directory of mg_jax           its best checkpoint, with precise batch-norm statistics, or
                                       the newest where none was evaluated yet
  *.safetensors                        names of PySlowFast, PyTorchVideo, mmaction2, torchvision
                                       or timm
  *.pyth *.pth *.pt                    the same names; reading them needs PyTorch
  *.pkl                                Caffe2, as in PySlowFast's model zoo

ResNets for images (torchvision's and timm's names) are inflated: kernels are repeated along time
and divided by its length, and what images do not have (classifier, fast pathway, non-local blocks)
is newly initialised by --config.seed. So is a classifier for another number of classes.

--output can be converted again to the same bits, loaded by PySlowFast, and used as
`main.py --config.init_from=OUT.safetensors`.
"""

import pathlib
import sys

import jax
from absl import app, flags, logging

from mg_jax.architectures import check_model
from mg_jax.errors import UserError
from mg_jax.input.prepared import with_classes
from mg_jax.machine.folder import did_you_mean_beside
from mg_jax.tools import command_line
from mg_jax.training.state import draw_variables, init_variables
from mg_jax.weights.files import write_tensors
from mg_jax.weights.layout import to_tensors
from mg_jax.weights.load import load_weights

flags.adopt_module_key_flags(command_line)
_INPUT = flags.DEFINE_string("input", None, "Weights to read: a file or a work directory.")
_OUTPUT = flags.DEFINE_string("output", None, "File to write, *.safetensors.")


def convert(config, source: pathlib.Path, target: pathlib.Path) -> str:
    """Writes a model's weights as PySlowFast-named safetensors; returns the account in words.

    Args:
      config: of the model.
      source: see the module's description.
      target: file to write.

    Raises:
      UserError: if the source cannot be read or holds another network, or the target has another
        suffix than .safetensors.
    """
    if not source.exists():
        raise UserError(f"--input={source} is not there{did_you_mean_beside(source)}")
    check_model(config.model)
    config = with_classes(config, source)
    if target.suffix != ".safetensors" or target.is_dir():
        raise UserError(f"--output={target} must be a file that ends in .safetensors")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--output={target} cannot be written: {error}") from error

    shapes = jax.eval_shape(lambda: init_variables(config))
    loaded = load_weights(source, shapes, config=config)
    variables = loaded.variables(lambda: draw_variables(config))
    write_tensors(target, to_tensors(variables))
    return f"{loaded.account}\nwritten to {target}"


def main(argv: list[str]) -> None:
    """Converts by the flags."""
    if len(argv) > 1:
        sys.exit(f"error: unexpected arguments {argv[1:]}")
    for flag in (command_line.CONFIG, _INPUT, _OUTPUT):
        if flag.value is None:
            sys.exit(f"error: --{flag.name} is missing")
    logging.set_verbosity(logging.WARNING)
    command_line.stay_on_cpu()
    paths = (pathlib.Path(flag.value).expanduser() for flag in (_INPUT, _OUTPUT))
    with command_line.signals_as_statuses(), command_line.errors_as_messages():
        print(convert(command_line.CONFIG.value, *paths))


if __name__ == "__main__":
    app.run(main, flags_parser=command_line.parse_flags)
