"""The link: bandwidth traces and estimators, the wire protocol, the shaped socket."""
