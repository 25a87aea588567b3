"""Studies of the framework itself: figures and tables that are not one run of one stream.

A study is a component: its class names it, its fields are its settings. Called with the parts of a
config and a display, it returns its findings and writes nothing. `conf/experiment` names them.
"""
