"""Pictures of runs and of models, as PNG, and the page that shows them."""
