"""A broker over TLS: its certificate is verified unless one asks for the contrary, by everything that calls it."""

from pathlib import Path

import pytest

from api_schemas.api.checkup import Verdict
from service.access import rate_limits
from store.checkup.broker import broker
from store.queue.broker import waiting_wakes
from store.settings import Settings
from tests.support.servers.certificates import certificate_for, tls_before
from tests.support.servers.databases import valkey_server


@pytest.mark.parametrize(
    ("query", "taken"),
    [
        ("?ssl_ca_certs={certificate}", True),
        ("?ssl_ca_certs={certificate}&ssl_cert_reqs=required", True),
        ("?ssl_cert_reqs=none", True),
        ("", False),
        ("?ssl_cert_reqs=required", False),
    ],
)
def test_a_certificate_of_an_authority_that_nobody_named_is_refused(tmp_path: Path, query: str, taken: bool) -> None:
    certificate, key = certificate_for(tmp_path, "localhost")
    with valkey_server() as plain, tls_before(plain.removeprefix("redis+socket://"), certificate, key) as port:
        url = f"rediss://localhost:{port}/0{query.format(certificate=certificate)}"
        settings = Settings(data_dir=tmp_path, broker_url=url, rate_storage="broker")
        (finding,) = broker(settings)
        assert rate_limits._storage(settings).check() is taken
        if taken:
            assert finding.verdict is Verdict.OK
            assert waiting_wakes(settings) == 0
            return
        assert finding.verdict is Verdict.WRONG
        assert "certificate verify failed" in finding.found
        with pytest.raises(ConnectionError, match="certificate verify failed"):
            waiting_wakes(settings)
