"""Drawing: pictures of numbers that others computed."""
