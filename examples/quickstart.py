"""From a torchvision model to a Gantt chart:  python examples/quickstart.py [FOLDER]

ResNet101 is cut between a Jetson NX and an A6000 on a link of 20 Mbps; 2000 tasks are simulated.
"""

import sys
from pathlib import Path

import torchvision

import coach_exp as coach
from baselines.jps import Jps

folder = Path(sys.argv[1] if len(sys.argv) > 1 else ".")
problem = coach.problem(
    torchvision.models.resnet101(), (3, 224, 224), end="nx", cloud="a6000", mbps=20
)
plans = coach.Coach().plan(problem)
records = coach.simulate(problem, plans)
print(records.summary())
records.gantt(folder / "gantt.png")

# Any method stands behind the same protocol: here a baseline, on the same problem.
other = Jps()
view = other.view(problem)
beside = coach.simulate(view, other.plan(view), other)
for name, each in (("coach", records), ("jps", beside)):
    print(f"{name:6} {each.summary()['throughput_its'].value:6.1f} answers per second")
