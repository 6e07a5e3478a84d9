"""Audio generation with diffusion models in JAX and Flax."""
