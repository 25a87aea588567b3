"""The cloud, for ends on other machines or in other processes."""

from dataclasses import dataclass

from coach_exp.jobs.job import Job


@dataclass(frozen=True)
class Serve:
    """Be the cloud until Ctrl-C. Ends need the same model, weights, codec and, where it has exit
    heads, method."""

    def __call__(self, job: Job) -> None:
        """Nothing is kept of it."""
        builder = job.builder()
        builder.sockets().refuse_useless()
        if job.config.compute == "profile":
            builder.sockets().serve(builder.problem(builder.trace()))
            return
        world = builder.world()
        builder.sockets().serve(job.config.built_method().view(world.problem))
