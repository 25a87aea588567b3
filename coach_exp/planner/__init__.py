"""The offline component: what a cut costs, and which cut to take."""
