"""The main job by the Python client, with nothing replaced: live objects in, a model of transformers out."""

import pytest
import torch
from transformers import AutoFeatureExtractor

from secateur import Progress, Secateur, errors, load
from tests.support.checkpoints.tiny import tiny_data, tiny_model

JOB_SECONDS = 240.0
FAST = {"latency_batch_sizes": [1], "latency_runs": 5, "sensitivity_samples": None}


def test_from_a_live_model_to_a_pruned_one(service, tmp_path):
    dense = load(tiny_model())
    told: list[Progress] = []
    with Secateur(service) as client:
        model = client.upload_model(dense, processor=AutoFeatureExtractor.from_pretrained(tiny_model()))
        data = client.upload_dataset(tiny_data())
        estimate = client.estimate(model, data, sparsity=0.5, pruning={"schedule": {"steps": 1}})
        job = client.submit(
            model, data, sparsity=0.5, finetune=None, evaluate=FAST,
            pruning={"schedule": {"steps": 1}, "calibration": {"samples": 64}},
        )  # fmt: skip
        kinds = {event.body.type for event in job.events()}
        assert {"state", "started", "step", "finished"} <= kinds
        job.wait(timeout=JOB_SECONDS, progress=told.append)
        assert job.result.step == 1
        assert list(job.logs())
        assert "<html" in job.report()
        folder = job.download(tmp_path / "pruned")
    assert told[-1] == Progress("succeeded", 100.0, 100.0, "%")
    with pytest.raises(errors.TrustRequired, match=r"modeling_pruned\.py"):
        load(folder)
    pruned = load(folder, trust_remote_code=True)
    total = sum(parameter.numel() for parameter in pruned.parameters())
    assert total == job.metrics[1].size.total_parameters
    assert total == pytest.approx(estimate.steps[1].total_parameters, rel=0.05)
    inputs = torch.zeros(2, dense.config.max_length, dense.config.num_mel_bins)
    with torch.inference_mode():
        assert pruned.eval()(inputs).logits.shape == dense.eval()(inputs).logits.shape
