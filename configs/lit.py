"""Tune a text tower to pretrained images (LiT): zero-shot classes, and retrieval by words.

    vit_jax train --config=configs/lit.py:IMAGE_WEIGHTS,DATA --workdir=runs/lit
    vit_jax train --config=configs/lit.py:vit_b16,coco_captions,small --workdir=runs/coco
    vit_jax train --config=configs/lit.py:vit_ti16,PHOTOS,tiny,classes --workdir=runs/photos
    vit_jax train --config=configs/lit.py:vit_b16,SHARDS,base --workdir=runs/web \\
        --config.text.tokenizer=bert --config.text.vocabulary=vocab.txt --config.batch=4096 \\
        --config.loss=sigmoid

IMAGE_WEIGHTS: a file, folder, URL or workdir, or a published name; the image tower, which stays as
it is ("locked") unless `--config.lock_image=false`.
DATA: images with captions: a folder (`a.txt` beside `a.jpg`, or `captions.jsonl` or `.tsv`), a
folder of WebDataset tar shards, or a name of TFDS. The captions of `classes` are made of the names
of classes, for whatever `config.dataset` takes: {train,test}/CLASS/*.jpg.
TEXT: the text tower, `tiny` (4 layers, width 192), `small` (6, 384) or `base` (12, 512).

AdamW at 1e-3, cosine, 20 epochs of batches of 256, softmax over the batch, temperature from 10;
images are not augmented, so that what the image tower makes of each is computed once and kept.
After Zhai et al., "LiT: Zero-Shot Transfer with Locked-image text Tuning", arXiv:2111.07991.
Evaluations give zero-shot accuracy where there are classes, else recall of captions and images.

Score, hardware and time: configs/README.md.
"""

from ml_collections import ConfigDict

from vit_jax.recipe_words import Word, read_words

# Width, layers, heads, width of the MLP.
_TOWERS = {"tiny": (192, 4, 3, 768), "small": (384, 6, 6, 1536), "base": (512, 12, 8, 2048)}


def get_config(arg: str = "") -> ConfigDict:
    """Returns the settings for "IMAGE_WEIGHTS,DATA", with TEXT and CAPTIONS after it or not."""
    weights, data, text, captions = read_words(
        "lit",
        arg,
        Word("IMAGE_WEIGHTS"),
        Word("DATA"),
        Word("TEXT", tuple(_TOWERS), "tiny"),
        Word("CAPTIONS", ("files", "classes"), "files"),
    )
    width, layers, heads, mlp_dim = _TOWERS[text]
    return ConfigDict(
        {
            "task": "contrast",
            "model_or_filename": weights,
            "dataset": data,
            "captions": captions,
            "text": {
                "hidden_size": width,
                "num_layers": layers,
                "num_heads": heads,
                "mlp_dim": mlp_dim,
                "max_len": 48,  # bytes; of word pieces, 16 hold as much
            },
            "epochs": 20.0,
            "batch": 256,
            "batch_eval": 250,
            "optimizer": "adamw",
            "base_lr": 1e-3,
            "beta2": 0.95,
            "weight_decay": 1e-4,
            "warmup_steps": 20,
            "eval_every": 100,
            "checkpoint_every": 500,
        }
    )
