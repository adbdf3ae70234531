"""How fast this machine does what a config asks for: `vit_jax benchmark`, a file for each kind."""
