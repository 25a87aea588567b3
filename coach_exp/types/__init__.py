"""The words of the framework as frozen values and protocols. Nothing here imports torch, or
anything above it.
"""
