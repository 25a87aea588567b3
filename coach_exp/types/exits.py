"""The early-exit head that may stand behind any layer, in numbers: what it computes and reads.

In: a layer and the number of classes. Out: the head as layers of its own, whose costs are counted
as those of every other layer. The same architecture for all: the output as an image of at most
8×8, a 3×3 convolution to 128 channels with batch norm and ReLU, the mean over the image, a linear
layer to the classes, and the confidence of the best (SPINN, Laskaridis et al., MobiCom 2020).
"""

from math import prod

from coach_exp.types.graph import Layer

CHANNELS = 128
SIDE = 8
KERNEL = 3
FLOAT_BYTES = 4


def image_shape(layer: Layer) -> tuple[int, int, int]:
    """A layer's output as [channels, rows, columns]: the channel axis first, then one axis of rows,
    then whatever is left; tokens lie along the rows.

    >>> image_shape(Layer("block", shape=(64, 14, 7), elements=6272))
    (64, 14, 7)
    >>> image_shape(Layer("tokens", shape=(197, 768), elements=151296, channel_axis=1))
    (768, 197, 1)
    >>> image_shape(Layer("vector", shape=(512,), elements=512))
    (512, 1, 1)
    """
    axes = [size for axis, size in enumerate(layer.shape) if axis != layer.channel_axis]
    return layer.channels, prod(axes[:1]), prod(axes[1:])


def averaged_sides(layer: Layer) -> tuple[int, int]:
    """Rows and columns of the image that the convolution sees: at most 8×8."""
    _, rows, columns = image_shape(layer)
    return min(rows, SIDE), min(columns, SIDE)


def head_layers(layer: Layer, classes: int) -> tuple[Layer, ...]:
    """The head behind `layer` as a chain of layers, named after it; the first reads its output.
    Where there is nothing to average, the chain begins with the convolution.
    """
    channels, *sides = image_shape(layer)
    rows, columns = averaged_sides(layer)
    image = (CHANNELS, rows, columns)
    kernel, linear = channels * KERNEL**2, CHANNELS + 1  # weights for each of the outputs
    parts: list[tuple[str, str, tuple[int, ...], int, int]] = [
        # what, kind, shape, FLOPs, parameters
        ("average", "pool", (channels, rows, columns), 0, 0),
        ("conv", "conv", image, 2 * prod(image) * kernel, CHANNELS * kernel),
        ("norm", "norm", image, 0, 4 * CHANNELS),
        ("relu", "activation", image, 0, 0),
        ("mean", "pool", (CHANNELS,), 0, 0),
        ("scores", "linear", (classes,), 2 * CHANNELS * classes, linear * classes),
        ("confidence", "other", (classes,), 0, 0),
    ]
    if [rows, columns] == sides:
        parts = parts[1:]
    chain: list[Layer] = [layer]
    for what, kind, shape, flops, parameters in parts:
        before = chain[-1]
        chain.append(
            Layer(
                f"{layer.name}/{what}",
                (before.name,),
                prod(shape),
                shape,
                kind,
                flops,
                FLOAT_BYTES * parameters,
                FLOAT_BYTES * before.elements,
            )
        )
    return tuple(chain[1:])
