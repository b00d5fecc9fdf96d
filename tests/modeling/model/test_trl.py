"""TRL's `SFTTrainer` on the decoder, padded and packed."""

import pytest
import torch
import trl
from datasets import Dataset
from tiny import DECODERS, random_ids, tiny_model

SETTINGS = {
    "per_device_train_batch_size": 4,
    "learning_rate": 5e-3,
    "max_steps": 12,
    "lr_scheduler_type": "constant",
    "use_cpu": True,
    "report_to": [],
    "logging_steps": 1,
    "save_strategy": "no",
    "disable_tqdm": True,
    "max_length": 16,
    "bf16": False,
}


def rows() -> Dataset:
    texts = [" ".join(f"w{token}" for token in random_ids(4 + index % 6, seed=index).tolist()) for index in range(16)]
    return Dataset.from_dict({"text": texts})


def sft_trainer(model, tokenizer, folder, **settings):
    arguments = trl.SFTConfig(str(folder), **SETTINGS | settings)
    return trl.SFTTrainer(model, args=arguments, train_dataset=rows(), processing_class=tokenizer)


@pytest.mark.parametrize("settings", [{}, {"packing": True}, {"packing": True, "packing_strategy": "wrapped"}], ids=str)
def test_loss_falls(settings, tokenizer, tmp_path):
    trainer = sft_trainer(tiny_model(DECODERS[1], initializer_range=0.05), tokenizer, tmp_path, **settings)
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert losses[-1] < 0.9 * losses[0]


def test_packed_batch_has_the_loss_of_its_rows(tokenizer, tmp_path):
    model = tiny_model(DECODERS[1])
    trainer = sft_trainer(model, tokenizer, tmp_path, packing=True, max_length=64)
    batch = trainer.data_collator([trainer.train_dataset[0]])
    starts = batch["position_ids"].eq(0).nonzero()[:, 1].tolist()
    assert len(starts) > 1
    packed = trainer.compute_loss(model, dict(batch))
    ends = [*starts[1:], batch["input_ids"].shape[1]]
    losses, count = 0.0, 0
    with torch.no_grad():
        for start, end in zip(starts, ends, strict=True):
            ids = batch["input_ids"][:, start:end]
            losses += model(ids, labels=ids).loss * (end - start - 1)
            count += end - start - 1
    torch.testing.assert_close(packed, losses / count, rtol=1e-5, atol=1e-5)
