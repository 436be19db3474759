#!/usr/bin/env bash
# bash launch/gpu_check.sh --workdir=DIR: measures a GPU in under eight minutes, without internet,
# TensorFlow or data; one table, and DIR/gpu_check.json. SMALL=1 tries the same on a CPU.
set -euo pipefail
cd "$(dirname "$0")/.."
exec "${PYTHON:-python}" -m mg_jax.bench.gpu_check ${SMALL:+--small} "$@"
