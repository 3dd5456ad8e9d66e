"""The losses against TRL's own code: one tiny model, one batch, the same loss and gradients.

`GRPOTrainer` scores canned rollouts (old and reference log-probabilities, importance ratios,
advantages) and computes its loss; only its sampling is replaced. Here the same rollouts are packed,
each token gets its loss from the plugin, and `token_weights` make one number of them. TRL's names
for the divergences are those of its SDFT, SDPO and GKD trainers.

TRL 1.16.0; skipped where it is not installed. vLLM is hidden from it, which would only be imported.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import pytest
import torch

from sdbench.conditions import grpo
from sdbench.conditions.base import Group
from sdbench.config import Normalisation
from sdbench.losses import forward_kl, jsd, policy_gradient, reverse_kl, token_policy_gradient
from sdbench.losses.base import Loss, LossInputs
from sdbench.models import completion_logits, student_view
from sdbench.records import Attempt, FinishReason, Problem, Rollout, Verdict, VerdictStatus
from sdbench.train.anchor import anchor_loss
from sdbench.train.normalise import token_weights

pytest.importorskip("trl")

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Batch = dict[str, torch.Tensor]

VOCABULARY, MAX_TOKENS, GROUP, TEMPERATURE, CAP = 24, 9, 4, 1.3, 1.05
PROBLEM = Problem("p", "arithmetic", "train", "1+1", "2")
PROMPTS = ["t1 t2 t3", "t4"]
LENGTHS = [3, 9, 1, 5, 7, 2, 9, 4]
REWARDS = [1.0, 0.0, 0.0, 0.0, 1.0, 1.0, 0.0, 1.0]


@pytest.fixture(scope="module")
def trl() -> Iterator[ModuleType]:
    """TRL without vLLM, and without its notice that experimental parts may change."""
    import trl

    with (
        patch("trl.import_utils.is_vllm_available", return_value=False),
        patch.dict("os.environ", {"TRL_EXPERIMENTAL_SILENCE": "1"}),
    ):
        import trl.experimental.gkd.gkd_trainer
        import trl.experimental.sdft.loss_utils
        import trl.experimental.sdpo.loss_utils
        import trl.trainer.grpo_trainer
    yield trl


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Qwen3 of 3,000 weights with a tokenizer of 24 words, in transformers layout."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

    words = ["<pad>", "<eos>", "<unk>", *(f"t{number}" for number in range(VOCABULARY - 3))]
    tokenizer = Tokenizer(
        models.WordLevel({word: place for place, word in enumerate(words)}, unk_token="<unk>")
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    path = tmp_path_factory.mktemp("qwen3")
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>"
    ).save_pretrained(path)
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=VOCABULARY,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        max_position_embeddings=64,
        initializer_range=0.3,
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=None,
    )
    Qwen3ForCausalLM(config).save_pretrained(path)
    return path


@dataclass(frozen=True)
class Rollouts:
    """Canned rollouts, [B] each, in two groups of four."""

    prompt_ids: list[list[int]]
    completion_ids: list[list[int]]
    sampling_logprobs: list[list[float]]

    @property
    def packed_ids(self) -> torch.Tensor:
        return torch.tensor([token for ids in self.completion_ids for token in ids])

    def packed(self, values_B: torch.Tensor) -> torch.Tensor:
        return values_B.repeat_interleave(torch.tensor(LENGTHS))

    def inputs(self, network: PreTrainedModel, old_logprobs: torch.Tensor | None) -> LossInputs:
        """What a loss reads, with the logits of the network as it stands."""
        views = [
            student_view(prompt, completion)
            for prompt, completion in zip(self.prompt_ids, self.completion_ids, strict=True)
        ]
        return LossInputs(
            completion_ids_N=self.packed_ids,
            policy_logits_NV=completion_logits(network, views),
            sampling_logprobs_N=torch.tensor([v for row in self.sampling_logprobs for v in row]),
            temperature=TEMPERATURE,
            old_logprobs_N=old_logprobs,
        )


def logprobs(rollouts: Rollouts, network: PreTrainedModel) -> torch.Tensor:
    with torch.no_grad():
        return rollouts.inputs(network, None).policy_logprobs_N


def unpadded(values_BT: torch.Tensor) -> torch.Tensor:
    """TRL pads completions on the right; this packs them."""
    return torch.cat([row[:length] for row, length in zip(values_BT, LENGTHS, strict=True)])


def shaken(network: PreTrainedModel, seed: int) -> None:
    """Moves all weights, as some updates would."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in network.parameters():
            weight.add_(torch.randn(weight.shape, generator=generator), alpha=0.02)


def make_rollouts(network: PreTrainedModel) -> Rollouts:
    """Drawn uniformly; "sampled" with log-probabilities that are off by up to about 0.2 nats."""
    generator = torch.Generator().manual_seed(1)
    tokens = [
        torch.randint(1, VOCABULARY, (length,), generator=generator).tolist() for length in LENGTHS
    ]
    prompts = [[4, 5, 6]] * GROUP + [[7]] * GROUP
    blank = Rollouts(prompts, tokens, [[0.0] * length for length in LENGTHS])
    exact = logprobs(blank, network)
    off = exact + 0.1 * torch.randn(exact.shape, generator=generator)
    return replace(blank, sampling_logprobs=[part.tolist() for part in off.split(LENGTHS)])


@dataclass(frozen=True)
class Scored:
    """TRL's trainer after it has scored a batch, and what is ours at the same moments."""

    trainer: Any
    batch: Batch
    rollouts: Rollouts
    old_logprobs: torch.Tensor
    initial: LossInputs

    def theirs(self) -> tuple[float, dict[str, torch.Tensor]]:
        """TRL's loss, and its gradients by weight."""
        network = self.trainer.model
        loss = self.trainer._compute_loss(network, self.batch)
        return loss.item(), gradients(network, loss)

    def ours(
        self, loss: Loss, normalisation: Normalisation,
        *, first_pass: bool = False, cap: float | None = None, anchor_weight: float = 0.0,
    ) -> tuple[float, dict[str, torch.Tensor]]:  # fmt: skip
        """The same from the plugin, as the loop weights and adds up its tokens' losses."""
        network = self.trainer.model
        inputs = self.rollouts.inputs(network, None if first_pass else self.old_logprobs)
        inputs = replace(inputs, advantages_N=self.rollouts.packed(self.batch["advantages"]))
        losses = loss(inputs)
        if anchor_weight:
            losses = losses + anchor_weight * anchor_loss(
                inputs, self.initial.policy_logits_NV.detach()
            )
        weights = token_weights(LENGTHS, normalisation, MAX_TOKENS)
        weights_N = self.rollouts.packed(torch.tensor(weights))
        if cap is not None:
            assert inputs.sampling_logprobs_N is not None
            ratios = (self.old_logprobs - inputs.sampling_logprobs_N).exp()
            assert ((ratios > cap).any()) and (ratios < cap).any()
            weights_N = weights_N * ratios.clamp(max=cap)
        total = (losses * weights_N).sum()
        return total.item(), gradients(network, total)


def gradients(network: PreTrainedModel, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    network.zero_grad()
    loss.backward()
    found = {
        name: weight.grad.clone()
        for name, weight in network.named_parameters()
        if weight.grad is not None
    }
    assert len(found) == len(list(network.parameters()))
    return found


def assert_same(
    ours: tuple[float, dict[str, torch.Tensor]], theirs: tuple[float, dict[str, torch.Tensor]]
) -> None:
    assert ours[0] == pytest.approx(theirs[0], abs=1e-5)
    torch.testing.assert_close(ours[1], theirs[1], atol=1e-5, rtol=0)
    largest = max(float(gradient.abs().max()) for gradient in theirs[1].values())
    assert largest > 1e-2, "the tolerance must mean something"


@pytest.fixture
def score(trl: ModuleType, folder: Path, tmp_path: Path) -> Callable[..., Scored]:
    """Builds a trainer with these options, lets it score the rollouts, then moves the weights."""
    from datasets import Dataset

    def build(*, engine_differs: bool = False, move: bool = True, **options: object) -> Scored:
        config = trl.GRPOConfig(
            output_dir=str(tmp_path),
            per_device_train_batch_size=len(LENGTHS),
            num_generations=GROUP,
            num_iterations=2 if move else 1,
            max_completion_length=MAX_TOKENS,
            temperature=TEMPERATURE,
            vllm_importance_sampling_mode="token_truncate",
            vllm_importance_sampling_clip_max=CAP,
            gradient_checkpointing=False,
            report_to="none",
            use_cpu=True,
            bf16=False,
            **options,
        )
        trainer = trl.GRPOTrainer(
            model=str(folder),
            reward_funcs=lambda completions, **_: REWARDS,
            args=config,
            train_dataset=Dataset.from_dict({"prompt": PROMPTS}),
        )
        trainer.model.train()
        trainer.current_gradient_accumulation_steps = 1
        rollouts = make_rollouts(trainer.model)
        initial = rollouts.inputs(trainer.model, None)
        _ = initial.policy_logprobs_N  # of the weights as they are now
        shaken(trainer.model, seed=2)
        old = logprobs(rollouts, trainer.model)
        trainer._generate = lambda prompts: (
            rollouts.prompt_ids,
            rollouts.completion_ids,
            None,
            ["" for _ in prompts],
            rollouts.sampling_logprobs,
            {},
            None,
            None,
        )
        trainer.use_vllm = engine_differs
        rows = [{"prompt": prompt} for prompt in PROMPTS for _ in range(GROUP)]
        batch = trainer._generate_and_score_completions(rows)
        if move:
            shaken(trainer.model, seed=3)
        return Scored(trainer, batch, rollouts, old, initial)

    return build


NORMALISATIONS: list[tuple[str, Normalisation]] = [
    ("grpo", "sequence"),
    ("bnpo", "token"),
    ("dapo", "token"),
    ("dr_grpo", "constant"),
]
every_variant = pytest.mark.parametrize(("loss_type", "normalisation"), NORMALISATIONS)


@every_variant
@pytest.mark.parametrize("bounds", [(0.2, 0.2), (0.2, 0.28), (0.05, 0.1)])
def test_grpo_in_a_later_pass(
    score: Callable[..., Scored],
    loss_type: str,
    normalisation: Normalisation,
    bounds: tuple[float, float],
) -> None:
    """The weights have moved since the rollouts were scored, so the clip binds on some tokens."""
    low, high = bounds
    scored = score(loss_type=loss_type, epsilon=low, epsilon_high=high)
    loss = policy_gradient.build(policy_gradient.Config(clip_low=low, clip_high=high))
    assert_same(scored.ours(loss, normalisation), scored.theirs())
    old = unpadded(scored.batch["old_per_token_logps"])
    torch.testing.assert_close(scored.old_logprobs, old, atol=1e-5, rtol=0)
    ratios = (logprobs(scored.rollouts, scored.trainer.model) - old).exp()
    advantages = scored.rollouts.packed(scored.batch["advantages"])
    for bound in ((ratios > 1 + high) & (advantages > 0), (ratios < 1 - low) & (advantages < 0)):
        assert 0 < bound.sum() < len(bound)


@every_variant
def test_grpo_in_the_first_pass(
    score: Callable[..., Scored],
    loss_type: str,
    normalisation: Normalisation,
) -> None:
    """TRL then has no old log-probabilities and takes the policy's own, and so do we."""
    scored = score(loss_type=loss_type, move=False)
    assert "old_per_token_logps" not in scored.batch
    loss = policy_gradient.build(policy_gradient.Config())
    assert_same(scored.ours(loss, normalisation, first_pass=True), scored.theirs())


@every_variant
def test_grpo_with_the_truncated_importance_ratio(
    score: Callable[..., Scored],
    loss_type: str,
    normalisation: Normalisation,
) -> None:
    """TRL's `token_truncate` with `clip_max`: min(pi_old / pi_sampling, cap) weights each loss."""
    scored = score(loss_type=loss_type, engine_differs=True)
    loss = policy_gradient.build(policy_gradient.Config())
    theirs = scored.theirs()
    assert_same(scored.ours(loss, normalisation, cap=CAP), theirs)
    without = scored.ours(loss, normalisation)
    assert abs(without[0] - theirs[0]) > 1e-4, "the correction must matter"


@every_variant
def test_grpo_with_a_pull_to_the_initial_policy(
    score: Callable[..., Scored],
    loss_type: str,
    normalisation: Normalisation,
) -> None:
    """beta = 0.3 of the k3 estimate. TRL's default weights it by pi / pi_old besides; ours does not."""
    scored = score(loss_type=loss_type, beta=0.3, use_bias_correction_kl=False)
    loss = policy_gradient.build(policy_gradient.Config())
    theirs = scored.theirs()
    reference = unpadded(scored.batch["ref_per_token_logps"])
    torch.testing.assert_close(scored.initial.policy_logprobs_N, reference, atol=1e-5, rtol=0)
    assert_same(scored.ours(loss, normalisation, anchor_weight=0.3), theirs)
    without = scored.ours(loss, normalisation)
    assert abs(without[0] - theirs[0]) > 1e-4, "the pull must matter"


def attempted(reward: float, index: int) -> Attempt:
    """A rollout with this reward; of everything else the advantage is told nothing."""
    rollout = Rollout(f"p#{index}", "p", 1, index, (1,), (1,), (0.0,), "", FinishReason.STOP)
    status = VerdictStatus.CORRECT if reward else VerdictStatus.INCORRECT
    return Attempt(PROBLEM, rollout, Verdict(rollout.id, status, None, "by hand"))


@pytest.mark.parametrize("divide", [True, False])
def test_advantages(score: Callable[..., Scored], divide: bool) -> None:
    """Undivided they are equal. Divided, TRL takes the sample's deviation and adds 1e-4, we take
    the population's and add 1e-6: of 1 or 3 right in a group of four, 1/2 and sqrt(3)/4.
    """
    found = score(scale_rewards="group" if divide else "none").batch["advantages"]
    groups = [
        Group(PROBLEM, tuple(attempted(reward, index) for index, reward in enumerate(rewards)))
        for rewards in (REWARDS[:GROUP], REWARDS[GROUP:])
    ]
    ours = torch.tensor([grpo.advantages(group, divide=divide) for group in groups]).flatten()
    factor = (3**0.5 / 4 + 1e-6) / (0.5 + 1e-4) if divide else 1.0
    torch.testing.assert_close(found, ours * factor, atol=1e-6, rtol=1e-6)


def rows(seed: int, dtype: torch.dtype) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 2 * torch.randn((12, 50), generator=generator, dtype=torch.float64).to(dtype)


def distilled(student: torch.Tensor, teacher: torch.Tensor) -> LossInputs:
    return LossInputs(
        completion_ids_N=torch.arange(len(student)),
        policy_logits_NV=student,
        sampling_logprobs_N=torch.zeros(len(student)),
        temperature=1.0,
        teacher_logits_NV=teacher,
    )


def compare(
    ours: Callable[[torch.Tensor], torch.Tensor],
    theirs: Callable[[torch.Tensor], torch.Tensor],
    student: torch.Tensor,
    *,
    values: bool = True,
) -> None:
    found, expected = (student.clone().requires_grad_() for _ in range(2))
    one, other = ours(found), theirs(expected)
    if values:
        torch.testing.assert_close(one, other, atol=1e-5, rtol=0)
    one.sum().backward()
    other.sum().backward()
    assert found.grad is not None and expected.grad is not None
    torch.testing.assert_close(found.grad, expected.grad, atol=1e-5, rtol=0)
    assert expected.grad.abs().max() > 1e-2


def of_alpha(alpha: float, **options: Any) -> Loss:
    """What TRL's alpha names: 0 is forward KL, 1 is reverse KL, between them JSD's beta."""
    if alpha == 0:
        return forward_kl.build(forward_kl.Config(**options))
    if alpha == 1:
        return reverse_kl.build(reverse_kl.Config(**options))
    return jsd.build(jsd.Config(beta=alpha, **options))


ALPHAS = pytest.mark.parametrize("alpha", [0.0, 1.0, 0.5, 0.2])
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["single", "double"])
TRAINERS = pytest.mark.parametrize("trainer", ["sdft", "sdpo"])


@ALPHAS
@DTYPES
@TRAINERS
def test_divergences_over_the_whole_vocabulary(
    trl: ModuleType, trainer: str, alpha: float, dtype: torch.dtype
) -> None:
    """`compute_divergence` on both log-softmaxes, and the `full_logits` mode that calls it."""
    code = getattr(trl.experimental, trainer).loss_utils
    student, teacher = rows(0, dtype), rows(1, dtype)
    ours = of_alpha(alpha)
    compare(
        lambda logits: ours(distilled(logits, teacher)),
        lambda logits: code.compute_divergence(
            logits.log_softmax(-1), teacher.log_softmax(-1), alpha
        ),
        student,
    )
    compare(
        lambda logits: ours(distilled(logits, teacher)),
        lambda logits: code.compute_full_logit_self_distillation_loss(
            logits, teacher, distillation_alpha=alpha
        ),
        student,
    )


@ALPHAS
def test_divergences_are_gkds_too(trl: ModuleType, alpha: float) -> None:
    student, teacher = rows(2, torch.float64), rows(3, torch.float64)
    ours, gkd = of_alpha(alpha), trl.experimental.gkd.gkd_trainer.GKDTrainer
    compare(
        lambda logits: ours(distilled(logits, teacher)).sum(),
        lambda logits: gkd.generalized_jsd_loss(logits, teacher, beta=alpha, reduction="sum"),
        student,
    )


@ALPHAS
@TRAINERS
@pytest.mark.parametrize(
    ("dtype", "top_k"),
    [(torch.float32, 1), (torch.float32, 7), (torch.float64, 7), (torch.float64, 49)],
)
def test_divergences_over_the_students_top_k_and_a_tail(
    trl: ModuleType, trainer: str, alpha: float, dtype: torch.dtype, top_k: int
) -> None:
    """The mode `topk_logits` with `add_tail`.

    In float32 TRL's tail, 1 minus the other mass, is wrong where it is small; so 49 of 50 tokens
    are compared in float64.
    """
    code = getattr(trl.experimental, trainer).loss_utils
    student, teacher = rows(4, dtype), rows(5, dtype)
    ours = of_alpha(alpha, top_k=top_k, top_k_of="student")
    compare(
        lambda logits: ours(distilled(logits, teacher)),
        lambda logits: code.compute_topk_self_distillation_loss(
            logits,
            teacher,
            distillation_topk=top_k,
            distillation_alpha=alpha,
            distillation_add_tail=True,
        ),
        student,
    )


@ALPHAS
@pytest.mark.parametrize("top_k", [1, 7, 49])
def test_divergences_over_the_teachers_top_k_and_a_tail(
    trl: ModuleType, alpha: float, top_k: int
) -> None:
    """As with a teacher on a server, which can name its own top k alone."""
    code = trl.experimental.sdft.loss_utils
    student, teacher = rows(6, torch.float64), rows(7, torch.float64)
    top = teacher.topk(top_k, -1).indices

    def theirs(logits: torch.Tensor) -> torch.Tensor:
        both = (it.log_softmax(-1).gather(-1, top) for it in (logits, teacher))
        found: torch.Tensor = code.compute_divergence(
            *(code.add_tail_bucket(logps) for logps in both), alpha
        )
        return found

    ours = of_alpha(alpha, top_k=top_k)
    compare(lambda logits: ours(distilled(logits, teacher)), theirs, student)


@TRAINERS
def test_token_policy_gradient_is_the_sampled_token_mode(trl: ModuleType, trainer: str) -> None:
    """The same gradient in the first pass. TRL's value, -A_t log pi(y_t), means nothing by itself."""
    code = getattr(trl.experimental, trainer).loss_utils
    student, teacher = rows(8, torch.float64), rows(9, torch.float64)
    ours = token_policy_gradient.build(token_policy_gradient.Config())
    ids = distilled(student, teacher).completion_ids_N
    compare(
        lambda logits: ours(distilled(logits, teacher)),
        lambda logits: code.compute_sampled_token_self_distillation_loss(
            logits, teacher, ids, distillation_alpha=1.0
        ),
        student,
        values=False,
    )
