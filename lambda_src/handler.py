"""The serving function: the frame around `application.py`."""

import application
from shared import frame

lambda_handler = frame.start(application).handle
