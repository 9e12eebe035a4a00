"""The article's recipes in the article's own stack, on the real model: the evidence tells them from sabotage."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path

import pytest

from methods.catalogue import evidence
from methods.catalogue.catalogue import Catalogue, load_catalogue
from methods.models.models import Model
from tests.conftest import MakeEnvironment
from tests.methods.runner_process import Outcome, measure_job, run_in

pytestmark = [pytest.mark.model, pytest.mark.timeout(1800)]
ARTICLES_SAMPLING = {"temperature": 0.8, "top_p": 0.95, "top_k": 50, "repetition_penalty": 1.10}
RECIPES = (
    "article-none",
    "article-torch-compile",
    "article-flash-attention-1",
    "article-flash-attention-1-compile",
    "article-none-torch-2.2",
    "article-flash-attention-2",
)


class Recipes:
    """Runs rows of the catalogue in their environments, each combination once."""

    def __init__(
        self, catalogue: Catalogue, made: MakeEnvironment, model: Model, folders: pytest.TempPathFactory
    ) -> None:
        self._catalogue, self._made, self._model, self._folders = catalogue, made, model, folders
        self.outcome = cache(self._outcome)

    def _outcome(self, method: str, changes: tuple[tuple[str, object], ...] = (), greedy: bool = True) -> Outcome:
        row = self._catalogue.methods[method]
        interpreter = self._made(row.environments["cpu"])
        options = {**row.options, **{key: list(value) if isinstance(value, tuple) else value for key, value in changes}}
        job = measure_job(row.engine, options=options, model_folder=str(self._model.folder))
        if not greedy:
            job["sampling"] = {"max_new_tokens": 4, "stop_token_ids": [], **ARTICLES_SAMPLING}
        outcome = run_in(interpreter, job, self._folders.mktemp("run"))
        assert outcome.status == 0, outcome.log
        return outcome

    def facts(self, method: str, **changes: object) -> Mapping[str, object]:
        found = self.outcome(method, tuple(changes.items())).one("evidence")["evidence"]
        assert isinstance(found, dict)
        return found

    def judge(self, method: str, **changes: object) -> evidence.Judgement:
        return evidence.judge(self._catalogue.methods[method].must_show, self.facts(method, **changes))


@pytest.fixture(scope="module")
def recipes(
    made_environment: MakeEnvironment, default_model: Model, tmp_path_factory: pytest.TempPathFactory
) -> Recipes:
    catalogue = load_catalogue(tmp_path_factory.mktemp("config"))
    return Recipes(catalogue, made_environment, default_model, tmp_path_factory)


@pytest.mark.parametrize(
    ("method", "shows"),
    [
        ("article-none", "aten::bmm ran"),
        ("article-flash-attention-1", "aten::_scaled_dot_product_flash_attention ran"),
        ("article-none-torch-2.2", "aten::bmm ran"),
        ("article-flash-attention-2", "aten::_scaled_dot_product_flash_attention ran"),
    ],
)
def test_a_recipe_that_does_what_it_says_is_in_effect(recipes: Recipes, method: str, shows: str) -> None:
    judgement = recipes.judge(method)

    assert judgement.in_effect is True, judgement.reason
    assert shows in judgement.reason


@pytest.mark.parametrize("method", ["article-torch-compile", "article-flash-attention-1-compile"])
def test_the_articles_compilation_compiles_nothing(recipes: Recipes, method: str) -> None:
    judgement = recipes.judge(method)

    assert judgement.in_effect is False
    assert "0 frames were compiled" in judgement.reason
    assert recipes.facts(method)["wrapper"] == "OptimizedModule"


@pytest.mark.parametrize(
    ("method", "changes", "says"),
    [
        ("article-none", {"bettertransformer": True}, "30 modules were converted"),
        ("article-torch-compile", {"compile": "none"}, "not wrapped in OptimizedModule"),
        ("article-flash-attention-1", {"bettertransformer": False}, "0 modules were converted"),
        ("article-flash-attention-1", {"sdpa_backends": ("math",)}, "no _scaled_dot_product_flash_attention ran"),
        ("article-flash-attention-1-compile", {"bettertransformer": False}, "0 modules were converted"),
        ("article-none-torch-2.2", {"bettertransformer": True}, "30 modules were converted"),
        ("article-flash-attention-2", {"sdpa_backends": ("math",)}, "no _scaled_dot_product_flash_attention ran"),
    ],
)
def test_a_recipe_whose_mechanism_is_disabled_is_not_in_effect(
    recipes: Recipes, method: str, changes: Mapping[str, object], says: str
) -> None:
    judgement = recipes.judge(method, **changes)

    assert judgement.in_effect is False
    assert says.casefold() in judgement.reason.casefold()


def test_each_recipe_runs_in_the_versions_that_the_article_had(recipes: Recipes) -> None:
    versions = {method: recipes.outcome(method).one("loaded")["versions"] for method in RECIPES}

    for method, found in versions.items():
        assert isinstance(found, dict)
        assert found["transformers"] == "4.35.2"
        newer = method in ("article-none-torch-2.2", "article-flash-attention-2")
        assert str(found["torch"]).split("+")[0] == ("2.2.2" if newer else "2.1.2")


def test_converting_and_wrapping_keep_the_greedy_tokens(recipes: Recipes) -> None:
    plain = recipes.outcome("article-none").tokens(1)[1]

    assert len(plain) == 4
    for method in RECIPES:
        assert recipes.outcome(method).tokens(1)[1] == plain, method


def test_the_articles_sampling_is_what_was_applied(recipes: Recipes) -> None:
    sampling = recipes.outcome("article-none", (), False).one("evidence")["evidence"]["sampling"]  # type: ignore[index]

    assert sampling["choice"] == "sampled"
    applied = {key: value for entry in sampling["processors"] for key, value in entry.items() if key != "name"}
    assert applied == {"penalty": 1.1, "temperature": 0.8, "top_k": 50, "top_p": 0.95}


def test_switching_the_cache_off_at_load_is_overridden_and_the_evidence_says_so(recipes: Recipes) -> None:
    facts = recipes.facts("article-none")

    assert facts["use_cache"] == {"config": False, "generation_config": True}
    assert facts["cache"] == "dynamic"


def test_a_model_that_bettertransformer_does_not_know_is_unsupported_in_a_sentence(
    made_environment: MakeEnvironment, default_model: Model, tmp_path: Path
) -> None:
    copy = tmp_path / "model"
    copy.mkdir()
    for file in default_model.folder.iterdir():
        (copy / file.name).symlink_to(file)
    config = (default_model.folder / "config.json").read_text()
    (copy / "config.json").unlink()
    (copy / "config.json").write_text(config.replace('"llama"', '"mistral"').replace("LlamaFor", "MistralFor"))
    job = measure_job("transformers", options={"bettertransformer": True}, model_folder=str(copy))

    outcome = run_in(made_environment("article-2024"), job, tmp_path)

    assert outcome.status == 1
    assert outcome.one("error")["kind"] == "unsupported"
    assert "BetterTransformer cannot convert this model: " in str(outcome.one("error")["message"])


@pytest.mark.parametrize("environment", ["torch", "article-2024"])
@pytest.mark.parametrize("kind", ["nobodys", "t5"])
def test_a_model_that_transformers_does_not_know_is_unsupported_in_a_sentence(
    made_environment: MakeEnvironment, tmp_path: Path, environment: str, kind: str
) -> None:
    (tmp_path / "config.json").write_text(f'{{"model_type": "{kind}"}}')

    job = measure_job("transformers", model_folder=str(tmp_path))
    outcome = run_in(made_environment(environment), job, tmp_path)

    assert outcome.status == 1
    assert outcome.one("error")["kind"] == "unsupported"
    assert f"has no language model of type '{kind}'." in str(outcome.one("error")["message"])


def test_a_dtype_that_this_torch_cannot_compute_in_is_unsupported_in_a_sentence(
    made_environment: MakeEnvironment, default_model: Model, tmp_path: Path
) -> None:
    job = measure_job("transformers", model_folder=str(default_model.folder), dtype="float16")

    outcome = run_in(made_environment("article-2024"), job, tmp_path)

    assert outcome.status == 1
    assert outcome.one("error")["kind"] == "unsupported"
    assert "cannot compute in float16 on the CPU; use another --dtype." in str(outcome.one("error")["message"])
