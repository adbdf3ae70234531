"""Settings of the data: where images come from, and what happens to them."""

from vit_jax.settings.augreg import PRESETS
from vit_jax.settings.rules import (
    AREA,
    BELOW_ONE,
    COLOUR,
    LAYERS,
    NOT_NEGATIVE,
    POSITIVE,
    SHARE,
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
        is_path=True,
    ),
    "tfds_data_dir": Key(
        None,
        "Where TFDS keeps prepared datasets; None is ~/tensorflow_datasets.",
        None,
        str,
        is_path=True,
    ),
    "tfds_manual_dir": Key(
        None,
        "Where files lie that TFDS may not download (ImageNet); None is downloads/manual of "
        "tfds_data_dir.",
        None,
        str,
        is_path=True,
    ),
    "num_classes": Key(
        None, "Classes expected in the data; None takes what is there.", POSITIVE, int
    ),
    "cache_bytes": Key(
        2**30,
        "Images of one size stay on the device whole if they take at most so many bytes. Others "
        "are sent batch by batch, and their random crops are other draws.",
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
    "sampling": Key(
        "shuffled",
        "Order of training: 'shuffled' takes every image once an epoch; 'balanced' every class as "
        "often as any other, so that images of rare ones come more often.",
        one_of("shuffled", "balanced"),
    ),
    "eval_drop_remainder": Key(
        False,
        "Leave the last test images out if they do not fill a batch of batch_eval, as the official "
        "code does: only to compare with its scores.",
    ),
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
    "pp.interpolation": Key(
        None,
        "How images are resized for evaluation: 'bilinear', as officially, or 'bicubic', which "
        "needs pp.antialias. None is that of the pretrained weights, or 'bilinear'. Random crops "
        "are bilinear always.",
        one_of("bilinear", "bicubic"),
        str,
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
    "pp.from_data": Key(
        False,
        "Take pp.mean and pp.std from the training images (10,000 of them at most), where neither "
        "they nor pretrained weights are given; the run keeps what it found.",
    ),
    # Training augmentation
    "augment.preset": Key(
        None,
        "RandAugment and mixup as AugReg names them, from 'none' to 'strong2'; sets "
        "augment.randaugment and augment.mixup, which are then left alone.",
        one_of(*PRESETS),
        str,
    ),
    "augment.repeats": Key(
        1,
        "Repeated augmentation: copies of each image in a batch, each augmented anew. An epoch of "
        "`epochs` has as many copies as the split has images.",
        POSITIVE,
    ),
    "augment.crop_area": Key(
        None,
        "(low, high): train on a random crop that covers this share of the image (official: "
        "0.05, 1.0), with an aspect ratio between 3/4 and 4/3; None takes the whole image.",
        AREA,
        tuple,
    ),
    "augment.crop_rule": Key(
        "torchvision",
        "How the crop is drawn: 'torchvision' as its RandomResizedCrop, every area equally likely; "
        "'tensorflow' as officially (sample_distorted_bounding_box), small ones likelier.",
        one_of("torchvision", "tensorflow"),
    ),
    "augment.flip": Key(False, "Mirror every second image, left to right."),
    "augment.rotate": Key(
        0.0,
        "Turn by up to so many degrees either way, bilinearly; corners repeat the edge of the "
        "image.",
        NOT_NEGATIVE,
    ),
    "augment.shift": Key(0.0, "Move by up to this share of the side, down and across.", BELOW_ONE),
    "augment.scale": Key(0.0, "Enlarge or shrink by up to this share.", BELOW_ONE),
    "augment.randaugment": Key(
        None,
        "(layers, magnitude) of RandAugment, as in AugReg: (2, 15); 10 is full strength. Done on "
        "the host.",
        LAYERS,
        tuple,
    ),
    "augment.three_augment": Key(
        False,
        "3-Augment of DeiT III: grey, solarisation or blur, then color_jitter=0.3. Done on the "
        "host.",
    ),
    "augment.color_jitter": Key(
        0.0,
        "Change brightness, contrast and saturation by up to this share. Done on the host.",
        NOT_NEGATIVE,
    ),
    "augment.erase": Key(
        0.0, "Random erasing: probability that a rectangle of an image is covered.", SHARE
    ),
    "augment.erase_area": Key(
        (0.02, 0.4), "(low, high): share of the image that the rectangle covers.", AREA
    ),
    "augment.erase_fill": Key("noise", "What covers it.", one_of("noise", "mean")),
    "augment.mixup": Key(0.0, "alpha of mixup's Beta(alpha, alpha); 0 is off.", NOT_NEGATIVE),
    "augment.cutmix": Key(0.0, "alpha of CutMix's Beta(alpha, alpha); 0 is off.", NOT_NEGATIVE),
    "augment.cutmix_share": Key(
        0.5, "Share of the batches that CutMix takes where mixup is on too.", SHARE
    ),
}
