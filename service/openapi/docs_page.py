"""/docs without a content delivery network: Swagger UI's files come from the fastapi-offline wheel and are served here."""

from importlib.resources import files

from fastapi import FastAPI, Request
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse
from fastapi.staticfiles import StaticFiles

ASSETS = "/docs/assets"


def install(app: FastAPI) -> None:
    """Serve the page at /docs. `app` must have been made with `docs_url=None`."""
    # Only the wheel's files are wanted; its own way of making an application replaces FastAPI's constructor.
    app.mount(ASSETS, StaticFiles(directory=str(files("fastapi_offline") / "static")), name="docs-assets")
    # A function of the module: FastAPI remembers every endpoint that it has seen, and one made here would keep `app` with it.
    app.add_api_route("/docs", _page, include_in_schema=False, response_class=HTMLResponse)


def _page(request: Request) -> HTMLResponse:
    app: FastAPI = request.app
    return get_swagger_ui_html(
        openapi_url=str(app.openapi_url),
        title=f"{app.title} API",
        swagger_js_url=f"{ASSETS}/swagger-ui-bundle.js",
        swagger_css_url=f"{ASSETS}/swagger-ui.css",
        swagger_favicon_url=f"{ASSETS}/favicon.png",
        swagger_ui_parameters={"docExpansion": "list", "defaultModelsExpandDepth": 0, "displayRequestDuration": True},
    )
