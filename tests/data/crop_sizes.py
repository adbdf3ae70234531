"""How large random crops are: what TensorFlow's own draw, to compare with."""

import numpy as np

# (width, height), crop_area, and `crop_sizes` of 20,000 draws of
# tf.image.sample_distorted_bounding_box in TensorFlow 2.21, called as the official code calls it.
TENSORFLOW_CROPS = [
    ((500, 375), (0.05, 1.0), (0.3427, 0.0829, 0.6697, 1.0407)),
    ((320, 320), (0.05, 1.0), (0.3752, 0.0837, 0.7383, 1.0407)),
    ((200, 600), (0.3, 0.6), (0.3310, 0.3022, 0.3765, 0.9294)),
    ((400, 400), (0.8, 1.0), (0.8473, 0.8033, 0.9154, 1.0239)),
]


def crop_sizes(widths, heights, size):
    """Returns the mean share of the area, its first and ninth tenth, and the mean aspect ratio."""
    share = widths * heights / (size[0] * size[1])
    low, high = np.quantile(share, (0.1, 0.9))
    return share.mean(), low, high, (widths / heights).mean()
