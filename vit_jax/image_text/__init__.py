"""Models of images and texts (LiT): learning from captions, zero-shot classes, retrieval."""
