"""Multigrid training for video models (Wu et al., CVPR 2020) in JAX and Flax."""
