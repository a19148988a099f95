"""What people do every day with a model that they have loaded, done to a folder by somebody who has transformers and peft.

Run by its path in an isolated interpreter: `python -I everyday.py APART PUSHED`, with a line of JSON on standard input for each:
the folder, the original's folder, the auto class. APART is where torchao lies, PUSHED where the hub at HF_ENDPOINT puts what it
gets. Each folder has a `probe.safetensors` of inputs. Prints a line of JSON for each: the folder, and by thing done what came of
it ("right", or what went wrong). Who asks a question on the terminal finds nobody there.
"""

import copy
import functools
import io
import json
import multiprocessing
import pickle
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

# A process that was spawned imports this file, without arguments.
sys.path += sys.argv[1:2]

import onnxruntime
import torch
import transformers
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file

MAKERS = ("AutoTokenizer", "AutoImageProcessor", "AutoFeatureExtractor", "AutoProcessor")
OUTPUTS = ("logits", "audio_embeds", "text_embeds", "last_hidden_state")
NAMES = frozenset(transformers.__all__)
"""Not dir(transformers), which compares each of some thousand names with all of them."""
ENDS = ("start_logits", "end_logits")
"""What answers to questions are read off, both together."""


def main() -> None:
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    warnings.simplefilter("ignore")
    pushed = Path(sys.argv[2])
    for line in sys.stdin.read().splitlines():
        folder, original, auto_class = json.loads(line)
        print(json.dumps([folder, Everyday(Path(folder), Path(original), auto_class, pushed).everything()]), flush=True)


@functools.cache
def other_process() -> Any:
    """One that was spawned once code of a folder was loaded, for all of them: it has to import everything itself."""
    return multiprocessing.get_context("spawn").Pool(1)


class Everyday:
    """One folder."""

    def __init__(self, folder: Path, original: Path, auto_class: str, pushed: Path) -> None:
        self.folder, self.original, self.auto = folder, original, getattr(transformers, auto_class)
        self.pushed = pushed
        self.config = json.loads((folder / "config.json").read_text())
        self.own = "auto_map" in self.config
        # transformers' own WavLM hands weights on as plain tensors.
        self.apart = not self.own and self.config["model_type"] == "wavlm"
        self.inputs = load_file(folder / "probe.safetensors")
        self.model = self.load()
        self.normed = any(torch.nn.utils.parametrize.is_parametrized(module) for module in self.model.modules())
        self.expected = self.answer(self.model)

    def everything(self) -> dict[str, str]:
        """By thing done, "right" or what went wrong."""
        done: dict[str, Callable[[], Any]] = {
            "saved and loaded again, twice": self.save_twice,
            "pickled": self.pickle,
            "torch.save": self.torch_save,
            "in a spawned process": self.spawn,
            "copied": lambda: self.same(copy.deepcopy(self.model)),
            "compiled": lambda: self.same(torch.compile(self.load(), backend="aot_eager")),
            "in bfloat16": self.bfloat16,
            "device_map": lambda: self.same(self.load(device_map="auto")),
            "LoRA": self.lora,
            "a step with checkpoints of activations": self.train,
            "a Trainer's step": self.trainer,
            "eight bits by torchao": self.torchao,
            "eight bits by torch": self.dynamic,
            "ONNX": self.onnx,
            "pushed to a hub": self.push,
            "attention weights": self.attention,
            "every auto class": self.auto_classes,
            "without trust": self.without_trust,
            "its input's maker": self.makers,
        }
        found = {}
        for name, do in done.items():
            try:
                do()
                found[name] = "right"
            except Exception as error:
                found[name] = "".join(traceback.format_exception_only(error))[:300]
        return found

    def load(self, folder: Path | None = None, auto: Any = None, **options: Any) -> Any:
        """As the model card says, with every warning of a folder that does not fit an error."""
        where = self.folder if folder is None else folder
        loader = self.auto if auto is None else auto
        return loader.from_pretrained(where, trust_remote_code=self.own, local_files_only=True, **options).eval()

    def answer(self, model: Any, **more: Any) -> torch.Tensor:
        with torch.no_grad():
            return answer_of(model(**self.inputs, **more))

    def same(self, model: Any) -> None:
        self.near((self.answer(model).float() - self.expected).abs().max().item())

    def near(self, error: float) -> None:
        assert error <= 1e-5 * max(1.0, self.expected.abs().max().item()), f"other answers: {error}"

    def pickle(self) -> None:
        """torch itself pickles no model with a weight norm; of such a one, every module of ours."""
        if not self.normed:
            self.same(pickle.loads(pickle.dumps(self.model)))
            return
        ours = [module for module in self.load().modules() if type(module).__name__.startswith("Pruned")]
        for module in ours[1:]:
            again = pickle.loads(pickle.dumps(module))
            assert type(again) is type(module), type(again)
            assert again.state_dict().keys() == module.state_dict().keys()

    def save_twice(self) -> None:
        with tempfile.TemporaryDirectory() as scratch:
            model = self.model
            for name in ("first", "second"):
                model.save_pretrained(Path(scratch) / name)
                model = self.load(Path(scratch) / name)
                self.same(model)

    def torch_save(self) -> None:
        if self.normed:
            return
        file = io.BytesIO()
        torch.save(self.model, file)
        self.same(torch.load(io.BytesIO(file.getvalue()), weights_only=False))

    def spawn(self) -> None:
        if self.normed or not self.own:
            return  # A stock class is anywhere.
        given = pickle.dumps((self.model, self.inputs))
        self.near((other_process().apply(answered, (given,)) - self.expected).abs().max().item())

    def bfloat16(self) -> None:
        model = self.load(dtype="bfloat16")
        assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
        inputs = {key: value.bfloat16() if value.is_floating_point() else value for key, value in self.inputs.items()}
        with torch.no_grad():
            assert torch.isfinite(answer_of(model(**inputs))).all()

    def lora(self) -> None:
        model = self.load()
        linear = {
            name
            for name, module in model.named_modules()
            if isinstance(module, torch.nn.Linear) and min(module.weight.shape) > 0
        }
        tuned = get_peft_model(model, LoraConfig(r=2, target_modules=sorted(linear)))
        self.same(tuned)
        self.same(tuned.merge_and_unload())

    def train(self) -> None:
        model = self.load().train()
        if model.supports_gradient_checkpointing:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        answer_of(model(**self.inputs)).float().square().mean().backward()
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        assert gradients, "nothing was trained"
        assert all(torch.isfinite(gradient).all() for gradient in gradients)
        torch.optim.AdamW(model.parameters(), 1e-3).step()

    def trainer(self) -> None:
        """A loss of the answers' size, which every head has; the checkpoint that it writes loads, with what it learnt."""

        class Trainer(transformers.Trainer):
            def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **_: Any) -> Any:
                output = model(**inputs)
                loss = answer_of(output).float().square().mean()
                return (loss, output) if return_outputs else loss

        rows = [{key: value[row] for key, value in self.inputs.items()} for row in range(2)]
        with tempfile.TemporaryDirectory() as scratch:
            settings = transformers.TrainingArguments(
                scratch,
                max_steps=1,
                per_device_train_batch_size=2,
                learning_rate=1e-3,
                save_steps=1,
                report_to="none",
                use_cpu=True,
                disable_tqdm=True,
                remove_unused_columns=False,
            )
            model = self.load()
            assert Trainer(model, settings, train_dataset=rows).train().global_step == 1
            learnt, again = self.answer(model.eval()), self.answer(self.load(Path(scratch) / "checkpoint-1"))
        self.near((learnt - again).abs().max().item())
        assert (learnt - self.expected).abs().max() > 0, "nothing was learnt"

    def torchao(self) -> None:
        from torchao.quantization import Int8WeightOnlyConfig, quantize_

        if self.apart:
            return
        model = self.load()
        quantize_(model, Int8WeightOnlyConfig())
        self.roughly(
            model, {type(module.weight).__name__ for module in model.modules() if isinstance(module, torch.nn.Linear)}
        )

    def dynamic(self) -> None:
        if self.apart:
            return
        model = torch.ao.quantization.quantize_dynamic(self.load(), {torch.nn.Linear}, torch.qint8)
        self.roughly(model, {f"{type(module).__module__}.{type(module).__name__}" for module in model.modules()})

    def roughly(self, model: Any, kinds: set[str]) -> None:
        """Of eight bits, and near."""
        assert any("Int8" in kind or "quantized" in kind for kind in kinds), kinds
        error = ((self.answer(model).float() - self.expected).abs().max() / self.expected.abs().max()).item()
        assert 0 < error < 0.1, f"other answers: {error}"

    def onnx(self) -> None:
        """As torch exports it by itself; a stock class is transformers' own affair."""
        if not self.own:
            return
        # The exporter knows no object that holds keys and values, of a stock class neither.
        without = {"use_cache": False} if self.auto is transformers.AutoModelForCausalLM else {}
        with tempfile.TemporaryDirectory() as scratch:
            path = f"{scratch}/model.onnx"
            torch.onnx.export(self.load(), (), path, kwargs={**self.inputs, **without}, dynamo=True, verbose=False)
            session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
            answers = session.run(None, {key: value.numpy() for key, value in self.inputs.items()})
            told = [torch.from_numpy(answer) for answer in answers]
        if self.expected.shape == (*told[0].shape, len(ENDS)):
            told = [torch.stack(told[: len(ENDS)], dim=-1)]
        alike = [answer for answer in told if answer.shape == self.expected.shape]
        self.near(min((answer - self.expected).abs().max().item() for answer in alike))

    def push(self) -> None:
        """What comes to lie there is whole: it loads as this folder does, with its code and what makes its inputs."""
        repository = f"me/{self.folder.parent.name}-{self.folder.name}"
        received = self.pushed / repository
        self.load().push_to_hub(repository, token="hf_" + "a" * 34)
        makers = [name for name in MAKERS if self.maker(name, self.folder) in NAMES]
        for name in makers:
            maker = getattr(transformers, name).from_pretrained(self.folder, local_files_only=True)
            maker.push_to_hub(repository, token="hf_" + "a" * 34)
        self.same(self.load(received))
        for name in makers:
            found = self.maker(name, received)
            assert found in NAMES, f"{name}: {found}"
        ours = sorted(path.name for path in self.folder.glob("*.py"))
        assert sorted(path.name for path in received.glob("*.py")) == ours
        for name in ours:
            assert (received / name).read_bytes() == (self.folder / name).read_bytes(), name
        said = json.loads((received / "config.json").read_text())
        for key in ("auto_map", "pruned_attention", "pruned_feed_forward", "model_type"):
            assert said.get(key) == self.config.get(key), f"{key}: {said.get(key)}"

    def attention(self) -> None:
        model = self.load(attn_implementation="eager")
        with torch.no_grad():
            output = model(**self.inputs, output_attentions=True)
        names = ["attentions"]
        if model.config.is_encoder_decoder:
            names = ["encoder_attentions", "decoder_attentions", "cross_attentions"]
        for name in names:
            assert output[name], f"{name} is empty"
            for weights in output[name]:
                sums = weights.sum(-1)
                assert torch.allclose(sums, torch.ones_like(sums), atol=1e-4), f"{name} do not sum to one"

    def auto_classes(self) -> None:
        if not self.own:
            return
        found = {name for name in self.config["auto_map"] if name.startswith("AutoModel")}
        assert self.dense_auto_classes() <= found, f"not found by {sorted(self.dense_auto_classes() - found)}"
        for name in sorted(found):
            model = self.load(auto=getattr(transformers, name), ignore_mismatched_sizes=True, num_labels=2)
            assert type(model).__name__.startswith("Pruned"), type(model)

    def dense_auto_classes(self) -> set[str]:
        """Those that the original answers to."""
        stock = type(self.model.config).__mro__[1]
        names = [name for name in NAMES if name.startswith("AutoModel")]
        return {name for name in names if stock in getattr(getattr(transformers, name), "_model_mapping", {})}

    def without_trust(self) -> None:
        """A sentence, and never other layers in place of those that were cut, also where sizes may differ."""
        if not self.own or not self.dense_auto_classes():
            return  # No stock class could be taken for it: transformers asks for trust by itself.
        for options in ({}, {"ignore_mismatched_sizes": True}):
            try:
                self.auto.from_pretrained(self.folder, local_files_only=True, **options)
            except Exception as error:
                said = str(error)
            else:
                said = "it loads as something else"
            assert "trust_remote_code=True" in said, said

    def makers(self) -> None:
        """What makes inputs is found as in the original's folder: nobody is asked whether code may run."""
        for name in MAKERS:
            found, right = (self.maker(name, folder) for folder in (self.folder, self.original))
            assert found == right, f"{name}: {found}, of the original {right}"

    @staticmethod
    def maker(name: str, folder: Path) -> str:
        """The class that an auto class finds in a folder, or the kind of error that it ends in."""
        try:
            return type(getattr(transformers, name).from_pretrained(folder, local_files_only=True)).__name__
        except Exception as error:
            return type(error).__name__


def answer_of(output: Any) -> torch.Tensor:
    """What a model is asked for, of what it gives."""
    if ENDS[0] in output:
        return torch.stack([output[name] for name in ENDS], dim=-1)
    found: torch.Tensor = next(output[name] for name in OUTPUTS if name in output)
    return found


def answered(given: bytes) -> torch.Tensor:
    """In a process of its own: what a pickled model says."""
    model, inputs = pickle.loads(given)
    with torch.no_grad():
        return answer_of(model(**inputs))


if __name__ == "__main__":
    main()
