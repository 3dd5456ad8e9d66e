"""Suites: what a mistake in a file or on the command line is told."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from sdbench import assembly, plugins
from sdbench.conditions.base import names, resolve
from sdbench.config import Suite, listed, load_suite, project_folder, suite_names
from sdbench.critics.model import ModelCritic
from sdbench.errors import ConfigError
from sdbench.models import Model
from sdbench.plugins import Kind

TINY = (project_folder("baselines") / "tiny.toml").read_text(encoding="utf-8")


def written(tmp_path: Path, text: str) -> str:
    path = tmp_path / "mine.toml"
    path.write_text(text, encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("name", suite_names())
def test_every_suite_that_ships_loads_and_all_its_arms_resolve(name: str) -> None:
    suite = load_suite(name)
    assert suite.name == name
    assert suite.title
    assert {"grpo", "reference", "critique"} <= set(names(suite))
    for arm in names(suite):
        assert assembly.loss(suite, resolve(suite, arm))


def test_the_embedded_suite_is_the_default(tiny: Suite) -> None:
    assert load_suite() == tiny


def test_a_file_names_its_suite(tmp_path: Path) -> None:
    assert load_suite(written(tmp_path, TINY)).name == "mine"
    assert load_suite(written(tmp_path, f'name = "other"\n{TINY}')).name == "other"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[data]", "[data]\ntest_problem = 1", r"unknown key in .*mine.toml 'data.test_problem'; "
         r"allowed: .*data.test_problems, .*\(hint: did you mean 'data.test_problems'\?\)"),
        ("title =", "titel = 1\ntitle =", r"unknown key .*'titel'; allowed: .*mean 'title'"),
        ("k = 12", "", r"mine.toml: the key 'evaluation.k' is missing"),
        ("updates = 60", "updates = 0", r"mine.toml: train.updates = 0: .*greater than 0"),
        ("updates = 60", 'updates = "many"', r"train.updates = 'many': .*integer"),
        ("updates = 60", "updates = 1.5", r"train.updates = 1.5: .*integer"),
        ("[data]", "[data", r"mine.toml is not valid TOML: .*line"),
        ("betas = [0.9, 0.95]", "betas = [0.9]", r"train.betas.*at least 2"),
        ('prompts = "organism"', 'prompts = "chat"', r"prompts = 'chat': .*'organism'"),
        ("temperature = 1.0 ", "temperature = -1.0 ", r"sampling.temperature = -1.0"),
    ],
)  # fmt: skip
def test_a_fault_in_a_file_is_named(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in TINY
    with pytest.raises(ConfigError, match=message):
        load_suite(written(tmp_path, TINY.replace(old, new, 1)))


@pytest.mark.parametrize(("key", "typo"), [("updates = 60", "updats = 60"), ("title =", "titel =")])
def test_a_misspelt_required_key_is_named(tmp_path: Path, key: str, typo: str) -> None:
    """An unknown key is refused by name, also where its misspelling leaves another one missing."""
    with pytest.raises(ConfigError, match="unknown key"):
        load_suite(written(tmp_path, TINY.replace(key, typo, 1)))


def test_a_file_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_bytes(b'title = "\xff"')
    with pytest.raises(ConfigError, match="not valid TOML"):
        load_suite(str(path))


def test_an_unknown_suite_lists_those_that_ship(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"unknown suite 'tinny'.*tiny.*did you mean 'tiny'"):
        load_suite("tinny")
    with pytest.raises(ConfigError, match="no such suite file"):
        load_suite(str(tmp_path / "none.toml"))


def test_overrides_are_read_as_toml() -> None:
    suite = load_suite(
        "tiny",
        [
            "train.updates=20",
            " train.learning_rate = 3e-4 ",
            "train.betas=[0.8, 0.9]",
            'title="a = b"',
            "model=./some/folder",
            "engine.options.batch_rows=7",
            "condition.grpo.group_size=4",
            "condition.mine.uses=critique",
            "loss.jsd.beta=0.3",
        ],
    )
    assert (suite.train.updates, suite.train.learning_rate) == (20, 3e-4)
    assert suite.train.betas == [0.8, 0.9]
    assert (suite.title, suite.model) == ("a = b", "./some/folder")
    assert suite.engine.options == {"batch_rows": 7}
    assert resolve(suite, "grpo").config.group_size == 4
    assert resolve(suite, "mine").plugin == "critique"
    assert suite.loss["jsd"] == {"beta": 0.3}


def test_the_last_override_wins_and_the_file_stays(tiny: Suite) -> None:
    assert load_suite("tiny", ["train.updates=2", "train.updates=3"]).train.updates == 3
    assert load_suite("tiny") == tiny


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.updates", r"cannot read --set 'train.updates'; allowed: key=value"),
        ("=3", "cannot read --set"),
        ("train..updates=3", "cannot read --set"),
        ("title.deep=3", r"'title' is a value, not a table"),
        ("train.updats=3", r"did you mean 'train.updates'"),
        ("train.updates=many", r"train.updates = 'many'"),
        ("nothing.at.all=1", r"unknown key .*'nothing'"),
        ("critic=3", r"critic = 3"),
    ],
)
def test_a_fault_in_an_override_is_named(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_suite("tiny", [override])


def test_options_of_plugins_are_checked_by_the_plugin(tiny: Suite) -> None:
    wrong = load_suite("tiny", ["loss.policy_gradient.clip_hi=0.3"])
    with pytest.raises(ConfigError, match=r"loss.policy_gradient.*did you mean 'clip_high'"):
        assembly.loss(wrong, resolve(wrong, "grpo"))
    missing = load_suite("tiny", ["condition.grpo.loss=policy_gradiant"])
    with pytest.raises(ConfigError, match=r"unknown loss 'policy_gradiant'.*did you mean"):
        assembly.loss(missing, resolve(missing, "grpo"))


CRITIC = (
    'critic={name="model", options={model="some/critic", sees_solution=false, retries=3,'
    ' dtype="float32", audit={verbatim=0.5}, engine={name="fake"}}}'
)
OWN = 'condition.mine={uses="critique", critic={name="model", options=%s}}'


def test_an_arms_own_critic_has_the_suites_options_too() -> None:
    """Its model is its own, and the dtype of another model is not the solver's."""
    suite = load_suite("tiny", [CRITIC, OWN % '{model="solver"}'])
    assert assembly.critic_of(suite, None) == suite.critic
    assert assembly.critic_of(suite, resolve(suite, "critique")) == suite.critic
    found = assembly.critic_of(suite, resolve(suite, "mine"))
    options = {k: v for k, v in suite.critic.options.items() if k != "dtype"}
    assert (found.name, found.options) == ("model", {**options, "model": "solver"})


def test_an_arms_critic_says_what_differs_and_tables_are_its_own_as_a_whole() -> None:
    options = '{model="solver", dtype="bfloat16", retries=0, audit={refuse=[]}}'
    suite = load_suite("tiny", [CRITIC, OWN % options])
    found = assembly.critic_of(suite, resolve(suite, "mine")).options
    assert (found["dtype"], found["retries"], found["audit"]) == ("bfloat16", 0, {"refuse": []})
    assert found["sees_solution"] is False
    suite = load_suite("tiny", [CRITIC, OWN % '{model="other/model"}'])
    found = assembly.critic_of(suite, resolve(suite, "mine")).options
    assert (found["dtype"], found["audit"]) == ("float32", {"verbatim": 0.5})


def test_an_arms_critic_of_another_kind_has_nothing_of_the_suites() -> None:
    suite = load_suite("tiny", ['condition.critique.critic={name="oracle"}', CRITIC])
    found = assembly.critic_of(suite, resolve(suite, "critique"))
    assert (found.name, found.options) == ("oracle", {})


def test_self_critique_has_a_critic_that_sees_what_the_suites_would(organism: Model) -> None:
    """Not told the solution; the tries and the engine are the suite's too."""
    suite = load_suite("tiny", [CRITIC])
    made = assembly.surroundings(suite, organism, resolve(suite, "self_critique")).critic
    assert isinstance(made, ModelCritic)
    config = made._config
    assert (config.model, config.dtype) == (suite.model, suite.dtype)
    assert (config.sees_solution, config.retries) == (False, 3)
    assert config.engine is not None and config.engine.name == "fake"


def test_a_suite_is_frozen(tiny: Suite) -> None:
    with pytest.raises(ValidationError, match="frozen"):
        tiny.train.updates = 3


@pytest.mark.parametrize("kind", list(Kind))
def test_plugins_are_modules_and_base_is_none(kind: Kind) -> None:
    found = plugins.names(kind)
    assert found == sorted(found) and "base" not in found
    assert all(not name.startswith("_") for name in found)
    for name in found:
        module = plugins.load(kind, name)
        assert module.__name__ == f"sdbench.{kind}.{name}"
        assert module.Config and module.build


def test_an_unknown_plugin_is_refused_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"unknown condition 'grop'; allowed: .*'grpo'"):
        plugins.load(Kind.CONDITION, "grop")
    with pytest.raises(ConfigError, match=r"unknown loss 'base'"):
        plugins.load(Kind.LOSS, "base")
    with pytest.raises(ConfigError, match=r"unknown engine 'zzz'; allowed: [^(]*$"):
        plugins.load(Kind.ENGINE, "zzz")


def test_a_suite_that_extends_another_holds_only_what_it_changes(tmp_path: Path) -> None:
    """Tables are merged key by key, values replaced; the name and the rest are its own or below's."""
    text = 'extends = "tiny"\n[train]\nupdates = 7\n[condition.mine]\nuses = "grpo"\n'
    suite, tiny = load_suite(written(tmp_path, text)), load_suite("tiny")
    assert suite.name == "mine"
    assert set(suite.condition) == {*tiny.condition, "mine"}
    assert suite.train == tiny.train.model_copy(update={"updates": 7})
    assert (suite.model, suite.evaluation) == (tiny.model, tiny.evaluation)


def test_a_suite_may_extend_a_file_beside_it_and_that_another(tmp_path: Path) -> None:
    """Not beside where the command was started."""
    folder = tmp_path / "suites"
    folder.mkdir()
    (folder / "below.toml").write_text('extends = "tiny"\ntitle = "Below"\n', encoding="utf-8")
    above = folder / "above.toml"
    above.write_text('extends = "below.toml"\n[train]\nupdates = 7\n', encoding="utf-8")
    suite = load_suite(str(above), ["train.save_every=7"])
    assert (suite.title, suite.train.updates, suite.train.save_every) == ("Below", 7, 7)


BELOW = """
extends = "tiny"
[engine]
name = "vllm"
options = { max_model_len = 512 }
[critic]
name = "model"
[critic.options]
model = "solver"
retries = 3
engine = { name = "vllm", options = { max_model_len = 1024 } }
"""


@pytest.mark.parametrize(
    ("text", "engine", "critic", "critics_engine"),
    [
        ("", {"max_model_len": 512}, "model", {"max_model_len": 1024}),
        ('[engine]\nname = "hf"', {}, "model", {"max_model_len": 1024}),
        ("[engine.options]\nmax_num_seqs = 4", {"max_model_len": 512, "max_num_seqs": 4}, "model",
         {"max_model_len": 1024}),
        ('[engine]\nname = "hf"\noptions = { batch_rows = 4 }', {"batch_rows": 4}, "model",
         {"max_model_len": 1024}),
        ('[critic.options.engine]\nname = "hf"', {"max_model_len": 512}, "model", {}),
        ('[critic]\nname = "oracle"', {"max_model_len": 512}, "oracle", None),
    ],
)  # fmt: skip
def test_another_plugin_does_not_inherit_the_options_of_the_one_it_replaces(
    tmp_path: Path, text: str, engine: object, critic: str, critics_engine: object
) -> None:
    """The same plugin does, also where it is named once more; so do the critic's other options."""
    (tmp_path / "below.toml").write_text(BELOW, encoding="utf-8")
    suite = load_suite(written(tmp_path, f'extends = "below.toml"\n{text}'))
    assert suite.engine.options == engine
    assert suite.critic.name == critic
    if critics_engine is None:
        assert suite.critic.options == {}
    else:
        found = suite.critic.options["engine"]
        assert isinstance(found, dict) and found.get("options", {}) == critics_engine
        assert suite.critic.options["retries"] == 3


def test_a_suite_with_a_name_of_its_own_still_extends_another(tmp_path: Path) -> None:
    """Though it holds nothing else: a suite is no plugin's table."""
    (tmp_path / "below.toml").write_text(f'name = "below"\n{TINY}', encoding="utf-8")
    suite = load_suite(written(tmp_path, 'extends = "below.toml"\nname = "above"\n'))
    assert (suite.name, suite.train) == ("above", load_suite("tiny").train)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        (None, []),
        ("", []),
        ("a", ["a"]),
        ("a,b", ["a", "b"]),
        (" a , b c", ["a", "b c"]),
        ("a,", ["a", ""]),
    ],
)
def test_blanks_beside_commas_are_no_part_of_names(text: str | None, names: list[str]) -> None:
    assert listed(text) == names


def test_suites_that_extend_each_other_by_roundabout_paths_are_refused(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "other.toml").write_text('extends = "in/../mine.toml"\n', encoding="utf-8")
    with pytest.raises(ConfigError, match="extends itself"):
        load_suite(written(tmp_path, 'extends = "in/../other.toml"\n'))


@pytest.mark.parametrize(
    ("extends", "message"),
    [("mine.toml", "extends itself"), ("tinny", "did you mean 'tiny'"), ("no.toml", "no such")],
)
def test_a_suite_that_extends_nothing_that_is_there_is_refused(
    tmp_path: Path, extends: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        load_suite(written(tmp_path, f'extends = "{extends}"\n'))
