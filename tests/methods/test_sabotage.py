"""Each method on the real model, with its mechanism at work and with it disabled: the evidence must tell them apart."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Protocol

import pytest

from methods.base.home import CACHE, private_folder
from methods.base.interpreter import Interpreter
from methods.catalogue import evidence
from methods.catalogue.catalogue import Catalogue, load_catalogue
from methods.models.models import Model
from tests.methods.runner_process import measure_job, run_in

pytestmark = [pytest.mark.model, pytest.mark.engines]
DYNAMO_OFF = {"TORCHDYNAMO_DISABLE": "1"}


class Judge(Protocol):
    """Run a method with changed options or variables, and judge what it left."""

    def __call__(
        self, method: str, options: Mapping[str, object] | None = None, environ: Mapping[str, str] | None = None
    ) -> evidence.Judgement: ...


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory: pytest.TempPathFactory) -> Catalogue:
    return load_catalogue(tmp_path_factory.mktemp("config"))


@pytest.fixture(scope="module")
def judge(
    catalogue: Catalogue,
    assets: Path,
    torch_interpreter: Interpreter,
    default_model: Model,
    tmp_path_factory: pytest.TempPathFactory,
) -> Judge:
    compiled = private_folder(private_folder(assets / CACHE) / "inductor")  # kept: it takes a minute to fill

    @cache
    def facts(options: str, environ: tuple[tuple[str, str], ...]) -> Mapping[str, object]:
        job = measure_job("transformers", options=json.loads(options), model_folder=str(default_model.folder))
        variables = {"TORCHINDUCTOR_CACHE_DIR": str(compiled), **dict(environ)}
        outcome = run_in(torch_interpreter, job, tmp_path_factory.mktemp("run"), variables)
        assert outcome.status == 0, outcome.log
        found = outcome.one("evidence")["evidence"]
        assert isinstance(found, dict)
        return found

    def judged(
        method: str, options: Mapping[str, object] | None = None, environ: Mapping[str, str] | None = None
    ) -> evidence.Judgement:
        row = catalogue.methods[method]
        changed = {**row.options, **(options or {})}
        given = {name: value for name, value in changed.items() if value is not None}
        return evidence.judge(row.must_show, facts(json.dumps(given, sort_keys=True), tuple((environ or {}).items())))

    return judged


@pytest.mark.parametrize(
    ("method", "shows"),
    [
        ("baseline", "aten::bmm ran"),
        ("library-default", "Attention resolved to sdpa"),
        ("flash-attention-2", "aten::_scaled_dot_product_flash_attention_for_cpu ran"),
        ("torch-compile", "1 frame was compiled"),
        ("static-cache", "the cache was static; 0 frames were compiled"),
        ("continuous-batching", "the cache was paged; 0 prompt tokens were reused"),
    ],
)
def test_a_method_at_work_is_in_effect(judge: Judge, method: str, shows: str) -> None:
    judgement = judge(method)

    assert judgement.in_effect is True, judgement.reason
    assert shows in judgement.reason


def test_the_wrapper_alone_is_never_in_effect(judge: Judge) -> None:
    judgement = judge("torch-compile-wrapper")

    assert judgement.in_effect is False
    assert "0 frames were compiled: generate() belongs to the model inside the wrapper" in judgement.reason
    assert "not wrapped" not in judgement.reason


@pytest.mark.parametrize(
    ("method", "options", "environ", "says"),
    [
        ("baseline", {"attn_implementation": "sdpa"}, {}, "Attention resolved to sdpa, not eager"),
        (
            "library-default",
            {"attn_implementation": "eager", "cache": "dynamic"},
            {},
            "this is then identical to the baseline",
        ),
        ("flash-attention-2", {"sdpa_backends": ["math"]}, {}, "no scaled_dot_product_flash_attention ran"),
        ("torch-compile", {}, DYNAMO_OFF, "0 frames were compiled"),
        ("torch-compile", {"compile": "none", "cache": "static"}, {}, "0 frames were compiled"),
        ("torch-compile-max-autotune", {"compile_options": None}, {}, "0 kernels were chosen by timing them: this is"),
        ("static-cache", {"cache": "dynamic"}, {}, "the cache was dynamic, not static"),
        ("static-cache", {"attn_implementation": "sdpa", "compile": "decode"}, {}, "1 frame was compiled"),
        ("cudnn-attention", {"sdpa_backends": ["flash"]}, {}, "no cudnn_attention ran"),
        (
            "flash-attn",
            {"attn_implementation": "sdpa", "sdpa_backends": ["flash"]},
            {},
            "Attention resolved to sdpa, not flash_attention_2",
        ),
        ("continuous-batching", {"batching": None}, {}, "the cache was dynamic, not paged"),
        ("torch-compile-wrapper", {"compile": "none"}, {}, "not wrapped in OptimizedModule"),
    ],
)
def test_a_method_whose_mechanism_is_disabled_is_not_in_effect(
    judge: Judge, method: str, options: Mapping[str, object], environ: Mapping[str, str], says: str
) -> None:
    judgement = judge(method, options, environ)

    assert judgement.in_effect is False
    assert says.casefold() in judgement.reason.casefold()
