"""Who answers in a walk: each fold's two models, and what all of them are called together."""

from collections.abc import Sequence

import polars as pl

from candletune.artifacts import JudgedModel
from candletune.decide import Model
from candletune.engines import base_gguf
from candletune.errors import InputError
from candletune.evaluation.stand_in import BASE, NOBODY, Fitted
from candletune.experiments.walk.folds import Fold
from candletune.hashes import fingerprint, sha256_path
from candletune.journal import Role
from candletune.live.models import candidate_model, compared_incumbent
from candletune.prompts.template import load_template
from candletune.stages.boosting import boosting_rows
from candletune.stages.replay_inputs import unseen_rows

Models = dict[Role, JudgedModel]


def fold_models(fold: Fold) -> Models:
    """A trained fold's candidate and incumbent, before its replay.

    Raises:
        InputError: a model is missing or was changed.
    """
    if fold.boosting:
        rival = fold.rival_fit()
        incumbent = NOBODY if rival is None else rival.judged(fold.config)
        return {Role.CANDIDATE: Fitted(fold.run).judged(fold.config), Role.INCUMBENT: incumbent}
    candidate = candidate_model(fold.run)
    return {Role.CANDIDATE: _judged(candidate), Role.INCUMBENT: _judged(compared_incumbent(fold.config, candidate)[0])}


def asked_rows(fold: Fold) -> pl.DataFrame:
    """What a trained fold's replay will ask: `timestamp`, `ticker`, `template_sha256` and `base_sha256`.

    Raises:
        InputError: the period reaches into what one of the models was trained on, or holds no candles.
    """
    if fold.boosting:
        rows, base = boosting_rows(fold.config, fold.run)[0], BASE
    else:
        candidate = candidate_model(fold.run)
        incumbent, _ = compared_incumbent(fold.config, candidate)
        rows = unseen_rows(fold.config, fold.run, candidate, incumbent)[0]
        base = sha256_path(base_gguf(fold.config, fold.run))
    return rows.select(
        timestamp="decision_time",
        ticker="asset",
        template_sha256=pl.lit(load_template(fold.config.prompt.template).sha256),
        base_sha256=pl.lit(base),
    )


def together(models: Sequence[Models]) -> Models:
    """What a verdict over all folds is about: one model where it is the same in every fold, else all of them."""
    return {role: _one(role, [each[role] for each in models]) for role in Role}


def _one(role: Role, models: Sequence[JudgedModel]) -> JudgedModel:
    hashes = [model.adapter_sha256 for model in models]
    if len(set(hashes)) == 1:
        return models[-1]
    name = f"walk of {len(models)} trainings"
    return JudgedModel(
        name=name if role is Role.CANDIDATE else f"{name}, each a period earlier", adapter_sha256=fingerprint(hashes)
    )


def _judged(model: Model) -> JudgedModel:
    return JudgedModel(name=model.name, adapter_sha256=model.sha256)


def check_one_incumbent(models: Sequence[Models], mode: str) -> None:
    """Refuse a walk whose fixed incumbent was replaced while it went on.

    Raises:
        InputError: it was.
    """
    names = {each[Role.INCUMBENT].adapter_sha256: each[Role.INCUMBENT].name for each in models}
    if mode != "previous" and len(names) > 1:
        raise InputError(
            f"walk: the periods were replayed against different incumbents ({', '.join(names.values())}), since "
            "another one acts now; run the same command again, and they are all replayed against it"
        )
