"""The official input pipeline in TensorFlow, and the best that tf.data makes of the same work.

Each function returns endless batches in random order, made by one thread, and needs TensorFlow.
"""

from collections.abc import Callable, Iterator
from typing import Any

BATCH = 64


def official(files: list[str], size: int) -> Iterator[Any]:
    """Returns float32 training crops, decoded, cut, resized and normalised as officially."""
    import tensorflow as tf

    def example(path: Any) -> Any:
        return _official_crop(tf.image.decode_jpeg(tf.io.read_file(path), 3), size)

    return _batches(files, example)


def best(files: list[str], size: int) -> Iterator[Any]:
    """Returns uint8 training crops, of which nothing else was decoded."""
    import tensorflow as tf

    def example(path: Any) -> Any:
        data = tf.io.read_file(path)
        begin, extent = _box(tf.image.extract_jpeg_shape(data))
        window = tf.stack([begin[0], begin[1], extent[0], extent[1]])
        image = tf.image.decode_and_crop_jpeg(data, window, 3)
        return tf.cast(tf.round(_finished(image, size)), tf.uint8)

    return _batches(files, example)


def official_cifar(images: Any, size: int) -> Iterator[Any]:
    """Returns float32 training crops of images (n, h, w, 3) in memory."""
    return _batches(images, lambda image: _official_crop(image, size))


def _official_crop(image: Any, size: int) -> Any:
    import tensorflow as tf

    begin, extent = _box(tf.shape(image))
    image = tf.slice(image, begin, extent)
    image.set_shape([None, None, 3])
    return (_finished(image, size) - 127.5) / 127.5


def _box(shape: Any) -> tuple[Any, Any]:
    """Returns the beginning and the extent of a random crop, the official one."""
    import tensorflow as tf

    begin, extent, _ = tf.image.sample_distorted_bounding_box(
        shape,
        tf.zeros([0, 0, 4], tf.float32),
        area_range=(0.05, 1.0),
        min_object_covered=0,
        use_image_if_no_bounding_boxes=True,
    )
    return begin, extent


def _finished(image: Any, size: int) -> Any:
    """Resizes to float32, and mirrors every second image."""
    import tensorflow as tf

    image = tf.image.resize(image, [size, size])
    mirrored = tf.random.uniform([]) > 0.5
    return tf.cond(mirrored, lambda: tf.image.flip_left_right(image), lambda: image)


def _batches(items: Any, example: Callable[[Any], Any]) -> Iterator[Any]:
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    order = tf.data.Dataset.from_tensor_slices(items).shuffle(len(items)).repeat()
    options = tf.data.Options()
    options.threading.private_threadpool_size = 1
    made = order.map(example, num_parallel_calls=1).batch(BATCH).prefetch(1)
    return iter(made.with_options(options))
