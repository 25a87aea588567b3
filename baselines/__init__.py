"""The systems COACH is compared with, one file per method."""
