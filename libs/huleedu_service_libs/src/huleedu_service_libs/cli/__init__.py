"""The command line, ``huleedu``: looks at running services and mends what is stuck.

A package of rooms: ``main`` is the program, ``groups`` lists the groups of commands, ``output`` prints,
``errors`` names the exit codes. Each group is a module of its own that is imported when it is called,
so that a missing driver keeps only its own commands from working.
"""
