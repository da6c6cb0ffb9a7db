"""The command line.

    main            the group `rrqd`: finds commands, runs the daemon when none is given, turns errors into exit codes
    invocation      what all commands share: which configuration file, and the `--config` and `--json` options
    output          how commands print: JSON or text for people, colour only where it is wanted
    init_command    `rrqd init`
    config_command  `rrqd config check | show | schema`

Each command is a module `<name>_command`, imported when it is called and not before: `rrqd --help` and shell
completion import neither redis nor pydantic nor rich.
"""
