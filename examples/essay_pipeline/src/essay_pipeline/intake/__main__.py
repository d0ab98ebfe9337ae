"""``python -m essay_pipeline.intake``: run the service."""

from functools import partial

from essay_pipeline.intake.app import create_app
from essay_pipeline.intake.settings import IntakeSettings
from essay_pipeline.runtime import run_service, serve_quart

if __name__ == "__main__":
    settings = IntakeSettings()
    run_service(settings, partial(serve_quart, create_app(settings), settings))
