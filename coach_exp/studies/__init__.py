"""Studies of the framework itself: figures and tables that are not one run of one stream.

Each module has `study(settings, directory, display, parts) -> float`: it writes its files into the
directory, says what it found, and returns the number that sums it up. `conf/experiment` names them.
"""
