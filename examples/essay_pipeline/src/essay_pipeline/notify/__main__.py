"""``python -m essay_pipeline.notify``: run the service."""

from functools import partial

from essay_pipeline.notify.app import create_app
from essay_pipeline.notify.settings import NotifySettings
from essay_pipeline.runtime import run_service, serve_fastapi

if __name__ == "__main__":
    settings = NotifySettings()
    run_service(settings, partial(serve_fastapi, create_app(settings), settings))
