"""The app and the API in one process, served by `usage-explore app`."""

from collections.abc import Callable
from pathlib import Path

from starlette.middleware import Middleware
from starlette.routing import BaseRoute, Mount
from streamlit import App
from streamlit import config as streamlit_config
from streamlit.config_option import ConfigOption
from streamlit.web import bootstrap

import usage_explore.app
from usage_explore import config
from usage_explore.api import PREFIX
from usage_explore.app import metrics
from usage_explore.app.middleware import Guard, LinkLimits, SignInRedirect, base_path
from usage_explore.app.unfurl import Unfurl
from usage_explore.cli import uvicorn_server
from usage_explore.config import Settings
from usage_explore.query.limits import MAX_UPLOAD_MEGABYTES
from usage_explore.web import routes as web_routes

MIDDLEWARE = (Middleware(Guard), Middleware(LinkLimits), Middleware(SignInRedirect), Middleware(Unfurl))

_APP = Path(usage_explore.app.__file__).parent
_MAX_MESSAGE_BYTES = 2**19
"""Bytes of a WebSocket message from a browser, which its session keeps; a link has up to 64 KiB."""

_PING_SECONDS = 30


def routes() -> list[BaseRoute]:
    """The routes beside Streamlit's: the API, short links and embedded charts, on one store."""
    api = uvicorn_server.api()
    metrics.register(api.state.service.requests.registry)
    return [Mount(PREFIX, app=api), *web_routes(api.state.service, base_path)]


def launch(settings: Settings, port: int | None, say: Callable[[str], object], host: str = uvicorn_server.HOST) -> None:
    """Serve the app until SIGTERM or Ctrl-C; `say` gets its URL once it answers.

    `port` None: 8501 or the next free one. The caller checks whether other machines may reach `host`.
    Raises `ConfigurationError` if the port is in use.
    """
    port = uvicorn_server.free_port(port, host=host)
    if not settings.has_app_url:
        settings = settings.model_copy(update={"app_url": uvicorn_server.address(host, port)})
    config.put_in_force(settings)  # read by the pages, which Streamlit runs
    run(host, port, lambda: say(f"usage-explore is at {settings.app_url}  (Ctrl-C ends it)"))


def run(host: str, port: int, started: Callable[[], object]) -> None:
    """Serve both until SIGTERM or Ctrl-C, with the settings in force; `started` is called once they answer."""
    app = App(
        _APP / "main.py",
        routes=routes(),
        middleware=MIDDLEWARE,
    )
    # only after an App is constructed does Streamlit read the .streamlit/config.toml beside its script
    options = {
        "server.address": host,
        "server.port": port,
        "server.maxUploadSize": MAX_UPLOAD_MEGABYTES,
        "server.maxWidgetStateSize": 1,
        "logger.level": "warning",
    }
    bootstrap.load_config_options(options)
    _only_our_theme()
    uvicorn_server.serve(
        app,
        host,
        port,
        started,
        ws=uvicorn_server.WebSocketConnection,
        ws_max_size=_MAX_MESSAGE_BYTES,
        ws_ping_interval=_PING_SECONDS,
        ws_ping_timeout=_PING_SECONDS,
        ws_per_message_deflate=False,
    )


def _only_our_theme() -> None:
    """Reset theme options from another config.toml, of the home folder or the working directory."""
    ours = str(_APP.resolve() / ".streamlit" / "config.toml")
    for name, option in streamlit_config.get_config_options().items():
        if name.startswith("theme.") and option.where_defined != ours:
            option.set_value(option.default_val, ConfigOption.DEFAULT_DEFINITION)
