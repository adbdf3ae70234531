"""Settings of images with texts: what is learned from them, and the text tower."""

from vit_jax.settings.rules import BELOW_ONE, POSITIVE, Key, Rule, one_of

TEXTS: dict[str, Key] = {
    "task": Key(
        "classify",
        "'classify' images; or 'contrast': learn from images with captions which belong together "
        "(LiT). `loss` then is 'softmax' over the batch, or 'sigmoid' for each pair.",
        one_of("classify", "contrast"),
    ),
    "captions": Key(
        "files",
        "task='contrast': 'files' takes the captions that lie with the images (texts beside them, "
        "tables, tar shards, TFDS); 'classes' makes them of the names of classes.",
        one_of("files", "classes"),
    ),
    "templates": Key(
        None,
        "captions='classes': a file of captions, one a line, with {} in the place of the class; "
        "None is a few usual ones.",
        None,
        str,
        is_path=True,
    ),
    "lock_image": Key(
        True,
        "task='contrast': the pretrained image tower stays as it is, without gradient and "
        "optimiser state; False trains it too.",
    ),
    "locked_dtype": Key(
        "float32", "What a locked image tower is kept in.", one_of("float32", "bfloat16")
    ),
    "precompute": Key(
        True,
        "Compute what a locked image tower makes of each image once, and keep it in the cache, "
        "where nothing alters the images.",
    ),
    "temperature": Key(
        10.0, "task='contrast': what similarities are multiplied by at first; learned.", POSITIVE
    ),
    "pair_bias": Key(
        -10.0, "task='contrast', loss='sigmoid': what is added to them at first; learned."
    ),
    "logits_bytes": Key(
        2**28,
        "task='contrast': the most that the similarities of a batch may take on a device at any "
        "time; they are made in parts.",
        POSITIVE,
    ),
    # The text tower
    "text.tower": Key(
        "text_transformer",
        "'text_transformer' (pre-norm, the last token's output) or 'bert' (the first one's).",
        one_of("text_transformer", "bert"),
    ),
    "text.hidden_size": Key(512, "Width of a token.", POSITIVE),
    "text.num_layers": Key(12, "Blocks.", POSITIVE),
    "text.num_heads": Key(8, "Attention heads of a block.", POSITIVE),
    "text.mlp_dim": Key(2048, "Hidden width of a block's MLP.", POSITIVE),
    "text.dropout_rate": Key(0.0, "Dropout in the text tower.", BELOW_ONE),
    "text.tokenizer": Key(
        "bytes",
        "'bert' (word pieces) or 'sentencepiece', of text.vocabulary; or 'bytes', without one.",
        one_of("bytes", "bert", "sentencepiece"),
    ),
    "text.vocabulary": Key(
        None,
        "The tokenizer's file: vocab.txt or a .model; a path or URL.",
        None,
        str,
        is_path=True,
    ),
    "text.max_len": Key(
        16, "Tokens of a text; what is longer is cut.", Rule(lambda n: n >= 2, "must be at least 2")
    ),
}
