"""What depends on the task, one object per head: how the model is called, its losses, its scores."""

from collections.abc import Sequence

from torch import nn
from transformers import PreTrainedConfig

from api_schemas.enums import Head
from checkpoints.config.sentences import MEAN
from worker.engine.data.featurizers.normalizers import Normalize
from worker.engine.data.questions import Questions
from worker.engine.tasks.base import Decode, Loss, MetricAccumulator, Task
from worker.engine.tasks.causal import CausalLm
from worker.engine.tasks.classification import Classification
from worker.engine.tasks.ctc import Ctc
from worker.engine.tasks.dense_layers import Layers
from worker.engine.tasks.embedding import Embedding
from worker.engine.tasks.hidden_states import HiddenStates
from worker.engine.tasks.masked import MaskedLm
from worker.engine.tasks.question_answering import QuestionAnswering
from worker.engine.tasks.sequences import SequenceToSequence
from worker.engine.tasks.tokens import TokenClassification

__all__ = ["Classification", "Decode", "Loss", "MetricAccumulator", "Task", "task_for"]


def task_for(
    head: Head,
    config: PreTrainedConfig,
    *,
    multi_label: bool = False,
    decode: Decode | None = None,
    normalize: Normalize | None = None,
    original: nn.Module | None = None,
    pooling: Sequence[str] = (MEAN,),
    dense: Layers = (),
    questions: Questions | None = None,
) -> Task:
    """The task of a model with this head and configuration.

    `multi_label`: several labels a sample, in classification. `decode`: needed where the answer is a text. `normalize`: makes two
    texts alike before they are compared, where a decoder writes them. `original`: the model as it came, in eval mode; needed
    where its hidden states are what is wanted. `pooling`: what makes an embedding of a text's tokens, and `dense` what comes
    after that. `questions`: needed where the answer is looked for in a context.
    """
    if head is Head.CLASSIFICATION:
        return Classification(several=multi_label)
    if head is Head.TOKEN_CLASSIFICATION:
        return TokenClassification()
    if head is Head.EMBEDDING:
        return Embedding(pooling, dense)
    if head is Head.MASKED_LM:
        return MaskedLm()
    if head is Head.CAUSAL_LM:
        return CausalLm()
    if head is Head.HIDDEN_STATES:
        if original is None:
            raise ValueError("hidden states are compared with the original's, which requires the original model")
        return HiddenStates(original)
    if head is Head.QUESTION_ANSWERING:
        if questions is None:
            raise ValueError("answers are extracted from contexts, which come with the data")
        return QuestionAnswering(questions)
    if decode is None:
        raise ValueError(f"{head.value} is scored by texts, which requires a tokenizer")
    if head is Head.CTC:
        return Ctc(blank=int(config.pad_token_id), decode=decode)
    return SequenceToSequence(decode=decode, normalize=normalize)
