"""COACH's online component (paper, Section III-C): semantic cache, thresholds, adaptive widths."""
