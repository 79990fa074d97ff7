"""The subcommands of `hnv`: they read the command line, call the library, and print."""
