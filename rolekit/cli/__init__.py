"""The command line: one file for each family of commands.

    main      the commands together, and the one place where errors become exit codes
    up        up, run: start instances
    fleet     ps, scale, stop: talk to a supervisor that runs
    app       check, graph, config, migrate: look at an app and its settings
    dead      dead list, show, replay, drop
    send      send

Exit codes: 0 done, 1 the thing itself failed, 2 wrong use or nothing to talk to.
"""
