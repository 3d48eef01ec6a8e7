"""The `fartrack` command: one file per subcommand."""
