"""COACH's command line; see `coach_exp.__main__`."""

from coach_exp.__main__ import main

if __name__ == "__main__":
    main()
