"""SPINN (Laskaridis et al., MobiCom 2020): a split and a confidence threshold, chosen together.

What it decides: offline, early exits are placed at equal shares of the model's work and trained on
the frozen backbone. At run time, for the link's rate, the split and the confidence from which an
exit answers: the pair of least expected latency (or longest stage) among those that lose at most
`limit_points` of accuracy on the calibration split, measured through the real codec. Every task
then decides for itself at each exit, on the end and on the cloud. Crossing tensors go at 8 bits,
bit-shuffled and compressed by LZ4; sizes are measured.

What it cannot do: change the bit-width, schedule the pipeline, or cut where several tensors cross.

Where we depart, and why:
* The backbone is frozen, so that the last exit answers as every other method's model does.
* Splits are cut vertices with non-negative outputs (ReLU outputs, block outputs), the raw input,
  and none at all.
* Times of the two devices come from their profiles, as for every method, so the load of either is
  known and not tracked.
* Quantising and compressing cost no device time, for SPINN as for all methods without an online
  part.
* A task that would answer by no exit gets the last layer's answer.
* What the raw input loses on its way is not counted against a split, as for no other method.
* A limit on the latency (`t_max_ms`) binds tasks that no exit answers, and no task whose link is
  lost.
* Without trained weights there is nothing to exit by and nothing to compress: what is left is a
  split at 8 bits.
* In the division `same_codec` its tensors go at COACH's widths; on `same_online` COACH's semantic
  cache takes the place of its exits.
"""

from baselines.spinn.method import Spinn

__all__ = ["Spinn"]
