"""The site as an ASGI application, with its static files: behind a real site a proxy would serve those."""

import os

from django.contrib.staticfiles.handlers import ASGIStaticFilesHandler
from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "frontdesk.settings")

application = ASGIStaticFilesHandler(get_asgi_application())
