"""A residual network small enough to train on two cores in a minute (He et al. 2016, scaled down).

In: normalised images [n, 3, height, width], 64 pixels by default. Out: class scores [n, classes].
Four stages halve the resolution and double the channels, as the ImageNet networks do, so that cuts
early and late differ in size and in what they know.
"""

from torch import Tensor, nn


class BasicBlock(nn.Module):
    """Two 3×3 convolutions beside a shortcut: [n, c_in, h, w] -> [n, c_out, h/stride, w/stride]."""

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels_out)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels_out)
        self.relu2 = nn.ReLU()
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels_in != channels_out:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels_in, channels_out, 1, stride, bias=False),
                nn.BatchNorm2d(channels_out),
            )

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(self.relu1(self.bn1(self.conv1(x)))))
        return self.relu2(y + self.shortcut(x))


class SmallResNet(nn.Module):
    """Stem, four stages of basic blocks, global average pooling and a linear classifier."""

    def __init__(self, num_classes: int, width: int, blocks: tuple[int, ...]) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, width, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
        )
        channels, stages = width, []
        for depth, count in enumerate(blocks):
            stage = []
            for place in range(count):
                stride = 2 if depth and place == 0 else 1
                stage.append(BasicBlock(channels, width * 2**depth, stride))
                channels = width * 2**depth
            stages.append(nn.Sequential(*stage))
        self.stages = nn.Sequential(*stages)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.classifier = nn.Linear(channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.flatten(self.pool(self.stages(self.stem(x)))))


def small_resnet(
    num_classes: int, width: int = 16, blocks: tuple[int, ...] = (1, 2, 2, 2)
) -> SmallResNet:
    """A SmallResNet of 30 million multiply-accumulates at 64×64 pixels with its default sizes.

    `blocks` counts the basic blocks of each stage; stage k has `width`·2^k channels.
    """
    return SmallResNet(num_classes, width, tuple(blocks))
