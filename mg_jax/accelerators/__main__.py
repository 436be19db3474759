"""`python -m mg_jax.accelerators`: prints the lines that install the compilers still missing."""

from mg_jax.accelerators.devices import ACCELERATORS
from mg_jax.accelerators.topology import has_compiler, install_line

missing = (a for a in ACCELERATORS.values() if not has_compiler(a))
print(*dict.fromkeys(map(install_line, missing)), sep="\n")
