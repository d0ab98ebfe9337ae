"""What a log call runs through: logger, line, renderer, standard output.

`logging_utils` puts these together. Nothing here knows when or by whom logging
is configured. Its rule: a log call never raises and never stops the service;
what went wrong is counted (`swallowed_failures`, and the metric of the same meaning).

`logger` has the methods that services call, `standard` takes the records of the
standard library; both hand an event to a `line`, which puts it together
(`places` say where, `ambient` in which request and trace, `cleaning` takes secrets out, `splicing` does all of it at
once for a line with nothing to hide), has it drawn by `rendering` or `console` and written by `sink`. Only `logging_utils` and these know structlog.
"""
