"""What vit_jax is measured against."""
