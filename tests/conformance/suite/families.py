"""The mixins of transformers bound to the three families, each with several settings of its knobs."""

import unittest
from typing import Any, ClassVar

import tests.test_fsdp_mixin as fsdp_mixin
import tests.test_modeling_common as modeling_common
import tests.test_tensor_parallel_mixin as tensor_parallel_mixin
from tests.generation.test_utils import GenerationTesterMixin
from tests.test_configuration_common import ConfigTester
from tests.test_modeling_common import ModelTesterMixin
from tests.test_training_mixin import TrainingTesterMixin
from tests.testers import DecoderTester, EncoderTester, FamilyTester, Seq2SeqTester
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForMaskedLM, AutoModelForSeq2SeqLM, PreTrainedModel

import vanilla_transformers as vanilla

# The tests look class names up in these tables, which know only the models inside transformers, and leave out in
# silence what they do not find. The test module gets copies that know ours; transformers itself stays as it is.
NAMES = {
    "MODEL_MAPPING_NAMES": {
        "vanilla_seq2seq": "VanillaSeq2SeqModel",
        "vanilla_encoder": "VanillaEncoderModel",
        "vanilla_decoder": "VanillaDecoderModel",
    },
    "MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES": {"vanilla_seq2seq": "VanillaSeq2SeqForConditionalGeneration"},
    "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES": {"vanilla_decoder": "VanillaDecoderForCausalLM"},
    "MODEL_FOR_MASKED_LM_MAPPING_NAMES": {"vanilla_encoder": "VanillaEncoderForMaskedLM"},
    "MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES": {
        "vanilla_encoder": "VanillaEncoderForSequenceClassification",
        "vanilla_decoder": "VanillaDecoderForSequenceClassification",
    },
    "MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES": {
        "vanilla_encoder": "VanillaEncoderForTokenClassification",
        "vanilla_decoder": "VanillaDecoderForTokenClassification",
    },
    "MODEL_FOR_QUESTION_ANSWERING_MAPPING_NAMES": {"vanilla_encoder": "VanillaEncoderForQuestionAnswering"},
    "MODEL_FOR_MULTIPLE_CHOICE_MAPPING_NAMES": {"vanilla_encoder": "VanillaEncoderForMultipleChoice"},
}
for table, names in NAMES.items():
    setattr(modeling_common, table, {**getattr(modeling_common, table), **names})

# Lists of the model types whose distributed tests run; None means each that has a plan.
tensor_parallel_mixin.TP_DISTRIBUTED_TEST_MODEL_TYPES = None
fsdp_mixin.FSDP_DISTRIBUTED_TEST_MODEL_TYPES = None


class AutoLanguageModel:
    """The FSDP mixin makes each model as a causal one; this makes the language model that the family has."""

    CLASSES: ClassVar[dict[str, Any]] = {
        "vanilla_seq2seq": AutoModelForSeq2SeqLM,
        "vanilla_encoder": AutoModelForMaskedLM,
        "vanilla_decoder": AutoModelForCausalLM,
    }

    @classmethod
    def from_config(cls, config: vanilla.VanillaConfig) -> PreTrainedModel:
        return cls.CLASSES[config.model_type].from_config(config)

    @classmethod
    def from_pretrained(cls, folder: str, **kwargs: Any) -> PreTrainedModel:
        return cls.CLASSES[AutoConfig.from_pretrained(folder).model_type].from_pretrained(folder, **kwargs)


fsdp_mixin.AutoModelForCausalLM = AutoLanguageModel

# The distributed tests compare training steps of two setups. Dropout would draw other random numbers in each; and where
# a rounding error takes ReLU over its kink, Adam makes a whole step of it.
COMPARABLE = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "hidden_act": "gelu"}


class Common(
    ModelTesterMixin,
    TrainingTesterMixin,
    tensor_parallel_mixin.TensorParallelTesterMixin,
    fsdp_mixin.FSDPTesterMixin,
):
    """What is the same for every family. A subclass names its family's tester, its classes, and the knobs it turns."""

    family: ClassVar[type[FamilyTester]]
    knobs: ClassVar[dict[str, Any]] = {}

    def setUp(self) -> None:
        self.model_tester = self.family(self.knobs)
        self.config_tester = ConfigTester(
            self, config_class=self.family.config_class, hidden_size=32, num_attention_heads=4
        )

    def test_config(self) -> None:
        self.config_tester.run_common_tests()

    def _get_tp_config(self, tie_word_embeddings: bool | None = None) -> vanilla.VanillaConfig:
        config = super()._get_tp_config(tie_word_embeddings)
        config.update(COMPARABLE)
        return config

    def _get_tiny_config(self) -> tuple[type[vanilla.VanillaConfig], dict[str, Any]]:
        config_class, settings = super()._get_tiny_config()
        return config_class, {**settings, **COMPARABLE}


class Seq2Seq(Common, GenerationTesterMixin, unittest.TestCase):
    family = Seq2SeqTester
    all_model_classes = (vanilla.VanillaSeq2SeqModel, vanilla.VanillaSeq2SeqForConditionalGeneration)
    is_encoder_decoder = True

    test_training_overfit = None  # prompts `generate` with the first target token, as if it were a source
    test_tp_forward_0 = test_tp_forward_1 = None  # calls the model with `input_ids` alone


class Seq2SeqSwitched(Seq2Seq):
    knobs: ClassVar = {
        "norm_position": "pre",
        "position_embedding_type": "learned",
        "tie_word_embeddings": False,
        "lm_head_bias": True,
    }


class Seq2SeqWithoutPositions(Seq2Seq):
    knobs: ClassVar = {"position_embedding_type": "none", "embedding_norm": True}


class Encoder(Common, unittest.TestCase):
    family = EncoderTester
    all_model_classes = (
        vanilla.VanillaEncoderModel,
        vanilla.VanillaEncoderForMaskedLM,
        vanilla.VanillaEncoderForSequenceClassification,
        vanilla.VanillaEncoderForTokenClassification,
        vanilla.VanillaEncoderForQuestionAnswering,
        vanilla.VanillaEncoderForMultipleChoice,
    )

    test_tp_generation = test_tp_generation_quantized = None  # calls `generate`


class EncoderSwitched(Encoder):
    knobs: ClassVar = {
        "norm_position": "pre",
        "position_embedding_type": "sinusoidal",
        "tie_word_embeddings": False,
        "classifier_pooling": "mean",
    }


class EncoderWithoutPositions(Encoder):
    knobs: ClassVar = {"position_embedding_type": "none", "pooler": False, "embedding_norm": False}


class Decoder(Common, GenerationTesterMixin, unittest.TestCase):
    family = DecoderTester
    all_model_classes = (
        vanilla.VanillaDecoderModel,
        vanilla.VanillaDecoderForCausalLM,
        vanilla.VanillaDecoderForSequenceClassification,
        vanilla.VanillaDecoderForTokenClassification,
    )


class DecoderSwitched(Decoder):
    knobs: ClassVar = {
        "norm_position": "post",
        "position_embedding_type": "sinusoidal",
        "tie_word_embeddings": False,
        "lm_head_bias": True,
    }


class DecoderWithoutPositions(Decoder):
    knobs: ClassVar = {"position_embedding_type": "none", "scale_embeddings": True}
