"""What the `rs5m` command can do: a module a subcommand, each with `add` (its options) and `run`.

Chapter: setup.
"""
