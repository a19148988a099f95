"""/docs is whole without a network: every file that the page names is served by the service itself."""

import re

from api_schemas.api.resources import JobResource


def test_the_page_and_what_it_loads_come_from_here(client):
    page = client.get("/docs")
    assert page.status_code == 200
    assert page.headers["content-type"].startswith("text/html")
    loaded = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert len(loaded) >= 3
    for url in loaded:
        assert url.startswith("/docs/assets/"), url
        assert client.get(url).status_code == 200, url
    assert "/openapi.json" in page.text
    assert client.get("/openapi.json").status_code == 200


def test_polling_is_shown_by_example(client):
    get_job = client.get("/openapi.json").json()["paths"]["/v1/jobs/{job_id}"]["get"]
    example = JobResource.model_validate(get_job["responses"]["200"]["content"]["application/json"]["example"])
    assert example.progress is not None
    assert [metrics.step for metrics in example.metrics] == [0, 1]
