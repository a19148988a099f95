"""The main job in containers, through the proxy with a key, while everything happens to them that happens to containers."""

import httpx

from tests.containers import engine
from tests.containers.conftest import NEXT, TAG, Stack, wait_for

SERVICES = ("api", "maintenance", "beat", "valkey", "proxy", "postgres", "worker-cpu")
CAGE = {"environment", "resource_limits", "no_new_privileges", "seccomp"}


def test_the_job_ran_in_its_cage(stack: Stack) -> None:
    job = stack.client.job(stack.reference_job)
    for metrics in job["metrics"]:
        assert set(metrics["isolation"]) >= CAGE, metrics["isolation"]
    assert sorted(stack.reference) == [1, 2]


def test_nobody_gets_in_without_a_key(stack: Stack) -> None:
    answer = httpx.get(f"{stack.client.url}/v1/jobs", verify=stack.client.options["verify"])
    assert answer.status_code == 401


def test_secrets_are_in_no_environment(stack: Stack) -> None:
    """Nor in what the engine knows of a container."""
    secrets = [path.read_text().split()[-1] for path in (stack.compose.folder / "docker" / "secrets").iterdir()]
    for service in SERVICES:
        known = str(stack.compose.state(service)["Config"])
        assert not [secret for secret in secrets if secret in known], service


def test_every_container_is_killed_in_the_middle_of_a_job(stack: Stack) -> None:
    jobs, losses = [stack.submit()], 0
    for service in SERVICES:
        # It has gone on since the last one was killed; where it has ended, the next takes its place.
        losses = stack.training(jobs[-1], losses + 1)
        if losses < 0:
            jobs.append(stack.submit())
            losses = stack.training(jobs[-1])
            assert losses > 0
        stack.compose.kill(service)
    for job_id in jobs:
        stack.judge(job_id)


def test_a_process_that_stands_still_is_ended_and_started_again(stack: Stack) -> None:
    """By the health check and the restart policy; its container is not unhealthy for ever."""
    before = stack.compose.state("api")["RestartCount"]
    stack.compose("exec", "-T", "api", "bash", "-c", "kill -STOP $(</tmp/secateur.pid)")
    wait_for(lambda: stack.compose.state("api")["RestartCount"] > before or None, "a restart")
    assert stack.client.job(stack.reference_job)["state"] == "succeeded"


def test_an_upgrade_in_the_middle_of_a_job(stack: Stack) -> None:
    """As docs/deploy.md says: other images, and `up` again. The migration runs first; the job is handed back and goes on."""
    job_id = stack.submit()
    assert stack.training(job_id) > 0
    for image in engine.IMAGES:
        engine.done(stack.compose.engine, "tag", f"{image}:{TAG}", f"{image}:{NEXT}")
    stack.compose.environment["SECATEUR_VERSION"] = NEXT
    migrated = stack.compose.state("migrate")["Created"]
    stack.compose.up()
    for service in ("api", "worker-cpu", "maintenance", "beat", "migrate"):
        assert stack.compose.state(service)["Config"]["Image"].endswith(f":{NEXT}")
    migrate = stack.compose.state("migrate")
    assert migrate["Created"] > migrated
    assert migrate["State"]["ExitCode"] == 0
    assert migrate["State"]["FinishedAt"] <= stack.compose.state("api")["State"]["StartedAt"]
    stack.judge(job_id)
