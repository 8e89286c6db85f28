"""What the `rs5m` command can do: a module for each subcommand, with `add` (its options) and `run`.

Chapter: setup.
"""
