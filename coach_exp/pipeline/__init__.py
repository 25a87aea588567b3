"""The pipeline: workloads and the simulator that runs tasks through end, link and cloud."""
