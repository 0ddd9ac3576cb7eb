"""`python -m support.fake_repl [words]`: P8 as it is, but for models that echo: `fake`, and `other` to hand over to."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import p8.app
from p8.cli import main
from p8.config import load_config
from p8.testing import FakeAssistant


def make_app(config=None, directory=None, background=True):
    delay = float(os.environ.get("FAKE_DELAY_S", "0"))
    assistant = FakeAssistant(*filter(None, [os.environ.get("FAKE_SAYS", "")]), delay_s=delay)
    other = FakeAssistant(name="other")
    settings = config or load_config()
    settings = settings if settings.model else settings._replace(model="fake")
    settings = settings._replace(container=os.environ.get("FAKE_CONTAINER", "never"))
    assistants = {"fake": lambda: assistant, "other": lambda: other}
    return p8.app.App(settings, directory or Path.cwd(), assistants, background)


p8.app.make_app = make_app
sys.exit(main())
