"""python -m pytest test_my_part.py"""

from my_part import my_part


def test_it_has_batches_of_normalized_images() -> None:
    data = my_part(mean=[0.35], std=[0.24])
    batch = next(data.train_batches(0, batch_size=100, seed=0))
    assert batch.inputs.shape == (100, 1, 16, 16)
    assert abs(batch.inputs.mean()) < 0.2
    assert abs(batch.inputs.std() - 1) < 0.2
    assert len(data.test) == 100
