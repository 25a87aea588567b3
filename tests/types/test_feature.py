"""The task feature: means that can be done in the head, then any axis of any tensor."""

import numpy as np
import pytest

from coach_exp.types.feature import task_feature, usual_axis


def floats(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape, dtype=np.float32)


def test_channels_are_averaged_over_everything_else():
    image = np.arange(12, dtype=np.float32).reshape(2, 2, 3)
    assert task_feature([image], [0]).tolist() == [2.5, 8.5]
    assert task_feature([image], [1]).tolist() == [4.0, 7.0]
    assert task_feature([image], [2]).tolist() == [4.5, 5.5, 6.5]


def test_tensors_stand_side_by_side_in_the_order_given():
    first, second = np.float32([[1, 3]]), np.float32([5, 7])
    assert task_feature([first, second], [0, 0]).tolist() == [2, 5, 7]
    assert task_feature([second, first], [0, 1]).tolist() == [5, 7, 1, 3]


def test_a_number_is_its_own_mean():
    assert task_feature([np.array(4, np.float32)], [0]).tolist() == [4]


@pytest.mark.parametrize("shape", [(7,), (5, 7), (3, 4, 5), (2, 3, 4, 5), (2, 2, 3, 4, 5)])
def test_any_axis_of_any_tensor(shape):
    tensor = floats(*shape)
    for axis in range(len(shape)):
        others = tuple(i for i in range(len(shape)) if i != axis)
        found = task_feature([tensor], [axis])
        assert found.dtype == np.float32
        assert found == pytest.approx(tensor.astype(float).mean(axis=others), abs=1e-6)


def test_the_layout_in_memory_does_not_matter():
    tensor = floats(6, 5, 4)
    moved = np.ascontiguousarray(tensor.transpose(1, 2, 0)).transpose(2, 0, 1)
    assert moved.strides != tensor.strides
    assert (task_feature([moved], [0]) == task_feature([tensor], [0])).all()


def test_every_tensor_has_an_axis():
    with pytest.raises(ValueError, match="shorter"):
        task_feature([floats(2, 3), floats(2)], [0])


def test_the_usual_axis():
    assert [usual_axis(axes) for axes in range(5)] == [0, 0, 1, 0, 0]
