"""``python -m essay_pipeline.spellcheck``: run the service."""

from functools import partial

from essay_pipeline.runtime import run_service, serve_fastapi
from essay_pipeline.spellcheck.app import create_app
from essay_pipeline.spellcheck.settings import SpellcheckSettings

if __name__ == "__main__":
    settings = SpellcheckSettings()
    run_service(settings, partial(serve_fastapi, create_app(settings), settings))
