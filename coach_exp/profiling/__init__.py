"""From a torch module to a layer graph that can be cut, and to the seconds each layer takes on a
device.
"""
