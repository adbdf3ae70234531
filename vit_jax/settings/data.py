"""Settings of the data: where images come from, and what happens to them."""

from vit_jax.settings.rules import (
    AREA,
    BELOW_ONE,
    COLOUR,
    NOT_NEGATIVE,
    POSITIVE,
    SPREAD,
    Key,
    one_of,
)

DATA: dict[str, Key] = {
    # Data
    "dataset": Key(
        "digits",
        "'digits'; the path of an image folder ({train,test}/CLASS/*) or of an .npz file (x_train, "
        "y_train, x_test, y_test); a name of TensorFlow Datasets ('cifar10', "
        "'imagenet_resized/64x64'); or 'arrays', for those passed in Python.",
    ),
    "tfds_data_dir": Key(
        None, "Where TFDS keeps prepared datasets; None is ~/tensorflow_datasets.", None, str
    ),
    "tfds_manual_dir": Key(
        None,
        "Where files lie that TFDS may not download (ImageNet); None is downloads/manual of "
        "tfds_data_dir.",
        None,
        str,
    ),
    "num_classes": Key(
        None, "Classes expected in the data; None takes what is there.", POSITIVE, int
    ),
    "cache_bytes": Key(
        2**30,
        "Images of one size stay on the device whole if they take at most so many bytes.",
        NOT_NEGATIVE,
    ),
    "bad_images": Key(
        "fail",
        "An image that cannot be read: 'fail' names it and stops; 'skip' trains on the next one in "
        "its place, leaves it out of the score, and says so.",
        one_of("fail", "skip"),
    ),
    "bad_images_limit": Key(
        100, "bad_images='skip': unreadable images of a split past which the run stops.", POSITIVE
    ),
    "decode_threads": Key(4, "Host threads that read and decode images.", POSITIVE),
    "prefetch": Key(2, "Batches prepared ahead of the step.", POSITIVE),
    "pp.train": Key("train", "Split to train on; of TFDS also a part of one: 'train[:98%]'."),
    "pp.test": Key("test", "Split to evaluate on."),
    "pp.crop": Key(224, "Height and width of the images the model sees, in pixels.", POSITIVE),
    "pp.resize": Key(
        None,
        "Evaluation: resize the shorter side to so many pixels, then take the central crop; "
        "None resizes straight to the crop size, as the official code does.",
        POSITIVE,
        int,
    ),
    "pp.antialias": Key(
        None,
        "Smooth before shrinking; False is TensorFlow's plain bilinear, the official one. None is "
        "that of the pretrained weights, or False.",
        None,
        bool,
    ),
    "pp.mean": Key(
        None,
        "Subtracted from the colours, which run from 0 to 1; None is that of the pretrained "
        "weights, or (0.5, 0.5, 0.5).",
        COLOUR,
        tuple,
    ),
    "pp.std": Key(
        None,
        "Divides the colours after the mean is taken off; None is that of the pretrained weights, "
        "or (0.5, 0.5, 0.5).",
        SPREAD,
        tuple,
    ),
    # Training augmentation
    "augment.crop_area": Key(
        None,
        "(low, high): train on a random crop that covers this share of the image (official: "
        "0.05, 1.0), with an aspect ratio between 3/4 and 4/3; None takes the whole image.",
        AREA,
        tuple,
    ),
    "augment.flip": Key(False, "Mirror every second image, left to right."),
    "augment.rotate": Key(0.0, "Turn by up to so many degrees either way.", NOT_NEGATIVE),
    "augment.shift": Key(0.0, "Move by up to this share of the side, down and across.", BELOW_ONE),
    "augment.scale": Key(0.0, "Enlarge or shrink by up to this share.", BELOW_ONE),
    "augment.mixup": Key(0.0, "alpha of mixup's Beta(alpha, alpha); 0 is off.", NOT_NEGATIVE),
}
