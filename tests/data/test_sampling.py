"""Which example comes when: frozen orders, every example once, any step without replay."""

import numpy as np
import pytest

from vit_jax.data import sampling


@pytest.mark.parametrize(
    ("seed", "epoch", "expected"),
    [
        (0, 0, [0, 2, 9, 1, 8, 5, 4, 3, 6, 7]),
        (0, 1, [5, 3, 7, 8, 2, 4, 1, 0, 6, 9]),
        (7, 3, [2, 5, 9, 7, 3, 0, 6, 8, 4, 1]),
    ],
)
def test_order_of_an_epoch_never_changes(seed, epoch, expected):
    """A change here would continue interrupted runs in another order than they began."""
    assert sampling.epoch_order(seed, epoch, 10).tolist() == expected


@pytest.mark.parametrize("size", [1, 2, 355, 10_000])
def test_every_example_comes_once_an_epoch(size):
    orders = [sampling.epoch_order(3, epoch, size) for epoch in range(3)]
    for order in orders:
        np.testing.assert_array_equal(np.sort(order), np.arange(size))
    assert size < 3 or not np.array_equal(orders[0], orders[1])


def test_an_order_cannot_be_written_to_by_its_user():
    with pytest.raises(ValueError, match="read-only"):
        sampling.epoch_order(0, 0, 5)[0] = 1


@pytest.mark.parametrize("batch", [1, 4, 10, 25])
def test_batches_are_cut_from_one_stream_of_epochs(batch):
    """Also where they straddle two epochs, or hold several."""
    steps = [sampling.training_rows(5, step, batch, 10) for step in range(30)]
    epochs = np.concatenate([epochs for epochs, _ in steps])
    indices = np.concatenate([indices for _, indices in steps])
    np.testing.assert_array_equal(epochs, np.arange(30 * batch) // 10)
    for epoch in range(3 * batch):
        np.testing.assert_array_equal(indices[epochs == epoch], sampling.epoch_order(5, epoch, 10))


def test_a_far_step_is_found_without_the_steps_before():
    sampling.epoch_order.cache_clear()
    step, batch, size = 10**6, 7, 11
    epochs, indices = sampling.training_rows(1, step, batch, size)
    assert sampling.epoch_order.cache_info().misses <= 2
    for row in range(batch):
        epoch, place = divmod(step * batch + row, size)
        assert epochs[row] == epoch
        assert indices[row] == sampling.epoch_order(1, epoch, size)[place]


@pytest.mark.parametrize("repeats", [1, 2, 3, 6])
def test_each_image_comes_so_many_times_a_batch_and_is_drawn_under_numbers_of_its_own(repeats):
    pairs = []
    for step in range(20):
        draws, indices = sampling.training_rows(5, step, 12, 10, repeats)
        copies = indices.reshape(repeats, -1)
        assert (copies == copies[0]).all()
        pairs += zip(draws.tolist(), indices.tolist(), strict=True)
    assert len(set(pairs)) == len(pairs)
    # Whole epochs hold each image once, and each copy of it.
    images = 20 * 12 // repeats // 10 * 10
    counted = [pair for pair in pairs if pair[0] < images // 10 * repeats]
    assert sorted(counted) == [(d, i) for d in range(images // 10 * repeats) for i in range(10)]


def test_images_of_repeated_augmentation_come_in_the_usual_order():
    """The first copies of two batches are the batch of the same images without repeats."""
    halves = [sampling.training_rows(3, step, 8, 11, 2)[1][:4] for step in (6, 7)]
    np.testing.assert_array_equal(np.concatenate(halves), sampling.training_rows(3, 3, 8, 11)[1])


def test_a_batch_that_repeats_do_not_divide_is_refused():
    with pytest.raises(AssertionError, match="10 rows do not hold each image 3 times"):
        sampling.training_rows(0, 0, 10, 10, 3)


@pytest.mark.parametrize(("size", "steps"), [(7, 0), (8, 1), (23, 2), (24, 3)])
def test_only_full_batches_count_if_the_remainder_is_dropped(size, steps):
    assert sampling.evaluation_steps(8, size, drop_remainder=True) == steps


@pytest.mark.parametrize("size", [1, 7, 8, 17])
@pytest.mark.parametrize("batch", [1, 3, 8, 64])
def test_evaluation_counts_every_example_once(batch, size):
    steps = sampling.evaluation_steps(batch, size)
    rows = [sampling.evaluation_rows(step, batch, size) for step in range(steps)]
    indices, mask = (np.concatenate(parts) for parts in zip(*rows, strict=True))
    assert set(mask.tolist()) <= {0.0, 1.0}
    assert indices.max() < size  # padding can be read too
    np.testing.assert_array_equal(indices[mask == 1], np.arange(size))
    assert len(mask) - size < batch  # no batch of padding alone
