"""The cloud of the pipeline: a server, its queue, what it computes."""
