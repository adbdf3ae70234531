"""`vit_jax finetune`: the settings of a run, chosen from its images, its weights and the devices.

`data` and `sources` find the facts, `rules` choose from them, `fitting` makes a batch fit the
memory and times it, `choose` puts them together, `recipe_file` writes what was chosen as a recipe,
and `reuse` says when one that lies there already is used.
"""
