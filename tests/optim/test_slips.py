# SPDX-License-Identifier: Apache-2.0
"""What would be ignored is an error that says what to write instead."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

import brainopt as bo

optim = bo.optim
Bad = bo.errors.HyperparameterError


def _var(*shape):
    return bo.TrainVar(jnp.ones(shape or (2,)))


# --- nothing to train


EMPTY = {
    "nothing": lambda: None,
    "a node without TrainVars": bo.Node,
    "an empty list": list,
    "an empty group": lambda: [{"params": []}],
}


@pytest.mark.parametrize("kind", EMPTY)
def test_an_optimizer_without_variables_says_so(kind):
    opt, calls = optim.AdamW(0.1, EMPTY[kind]()), bo.Variable(0.0)

    def closure():
        calls.value += 1
        return jnp.ones(())

    for call in (
        lambda: opt.update({}),
        lambda: bo.jit(opt.update)({}),
        lambda: opt.check_grads({}),
        lambda: opt.step(closure),
        lambda: optim.SAM(opt).step(closure),
        lambda: optim.Lookahead(opt).update({}),
    ):
        with pytest.raises(bo.errors.GradientError, match="AdamW has no variables"):
            call()
    assert (int(opt.step), float(calls)) == (0, 0.0)


def test_a_mean_of_nothing_and_lbfgs_of_nothing_say_so():
    with pytest.raises(bo.errors.GradientError, match="EMA has no variables"):
        optim.EMA([]).update()
    with pytest.raises(bo.errors.GradientError, match="LBFGS has no variables"):
        optim.LBFGS().step(lambda: jnp.ones(()))


# --- names of the peers


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("b1", "b1: here it is beta1"),
        ("beta_2", "beta_2: here it is beta2"),
        ("epsilon", "epsilon: here it is eps"),
        ("foreach", "foreach: not needed here"),
        ("fused", "fused: not needed here"),
        ("global_clipnorm", "global_clipnorm: here it is clip_norm"),
        ("gradient_accumulation_steps", "here it is accumulate"),
        ("clipnorm", r"here it is bo\.optim\.clip_by_norm"),
        ("weightdecay", "weightdecay: did you mean weight_decay"),
        ("zzz", "zzz\nhelp: it takes lr, train_vars, beta1"),
    ],
)
def test_unknown_arguments_are_translated(name, says):
    with pytest.raises(TypeError, match=says) as caught:
        optim.AdamW(0.1, _var(), **{name: 1})
    assert "AdamW takes no such arguments" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("learning_rate", "here it is lr"),
        ("weight_deacy", "did you mean weight_decay"),
        ("beta_1", "here it is beta1"),
    ],
)
def test_a_mistyped_attribute_is_not_set(name, says):
    opt = optim.AdamW(0.1, _var())

    with pytest.raises(AttributeError, match=says):
        setattr(opt, name, 0.5)
    opt.epochs_done = 3

    assert name not in vars(opt)


def test_the_order_of_torch_is_explained():
    with pytest.raises(Bad, match=r"the order is AdamW\(lr, train_vars"):
        optim.AdamW([_var(), _var()], 0.1)
    with pytest.raises(Bad, match=r"Optax\(tx, train_vars\)"):
        optim.Optax(0.1, _var())
    with pytest.raises(TypeError, match="wraps an optimizer, not a TrainVar"):
        optim.SAM(_var())
    with pytest.raises(TypeError, match="wraps an optimizer, not a TrainVar"):
        optim.Lookahead(_var())


# --- settings that may change, and settings that are fixed


def test_betas_are_set_and_read_together():
    opt = optim.AdamW(0.1, _var())

    opt.betas = (0.5, 0.6)
    with pytest.raises(Bad, match="beta2=1"):
        opt.betas = (0.1, 1.0)

    assert [float(b) for b in opt.betas] == pytest.approx([0.5, 0.6])
    assert opt.param_groups[0]["betas"] == (0.5, 0.6)


def test_clipping_and_accumulation_are_set_and_read_like_numbers(counted):
    w = _var()
    opt = optim.SGD(0.1, w, clip_norm=1.0, accumulate=1 + 1)
    body = counted(opt.update)
    step = bo.jit(body)
    step(jnp.array([3.0, 4.0]))
    traces = body.traces

    opt.clip_norm, opt.accumulate = 10.0, 1
    step(jnp.array([3.0, 4.0]))

    assert (float(opt.clip_norm), float(opt.accumulate)) == (10.0, 1.0)
    assert body.traces == traces
    np.testing.assert_allclose(w.value, 1 - 0.1 * np.array([3.0, 4.0]), rtol=1e-6)


@pytest.mark.parametrize("name", ["clip_norm", "clip_value", "accumulate"])
def test_a_part_that_was_not_asked_for_cannot_be_set(name):
    opt = optim.SGD(0.1, _var())

    with pytest.raises(Bad, match=f"without {name}"):
        setattr(opt, name, 2)


@pytest.mark.parametrize("name", ["nonfinite", "max_nonfinite", "precision", "seed"])
def test_what_is_fixed_says_so(name):
    with pytest.raises(AttributeError, match=f"{name} of SGD is fixed"):
        setattr(optim.SGD(0.1, _var()), name, 1)


def test_a_mask_may_be_replaced():
    opt = optim.AdamW(0.1, {"a": _var(), "b": _var()}, weight_decay=1.0)
    step, zero = bo.jit(opt.update), {"a": jnp.zeros(2), "b": jnp.zeros(2)}
    step(zero)

    opt.mask = "b"
    step(zero)
    opt.mask = None
    step(zero)

    found = {k: float(v[0]) for k, v in opt.vars_to_train.items()}
    assert found == pytest.approx({"a": 0.9**2, "b": 0.9**3})
    with pytest.raises(bo.errors.PathError, match="chooses no variables"):
        opt.mask = 3


@pytest.mark.parametrize("cls", [optim.SGD, optim.RMSProp, optim.SM3])
def test_momentum_needs_its_buffer(cls):
    variables = {"a": _var(2, 2), "b": _var(2, 2)}
    opt = cls(0.1, variables, groups=[{"match": "a", "momentum": 0.9}])

    with pytest.raises(Bad, match="without momentum"):
        opt.momentum = 0.5
    opt.groups[1].momentum = 0.5
    opt.momentum = 0.0

    kept = {path: len(slots) for path, slots in opt.slots.items()}
    assert kept["a"] == kept["b"] + 1


def test_a_group_refuses_to_be_set_what_it_would_not_use():
    opt = optim.SGD(0.1, {"a": _var(), "b": _var()}, groups=[{"match": "a", "lr": 0.2}])

    for name, value in {"lr": 0.5, "momentun": 0.9}.items():
        with pytest.raises(AttributeError, match=r"param_groups\[i\]\['lr'\]"):
            setattr(opt.groups[1], name, value)
    with pytest.raises(Bad, match="without momentum"):
        opt.groups[1].momentum = 0.9


def test_a_number_set_on_a_group_takes_the_place_of_its_schedule():
    w = _var()
    opt = optim.SGD(0.1, w, groups=[{"match": "*", "weight_decay": lambda t: 7.0}])

    opt.groups[1].weight_decay = 0.5
    opt.update(jnp.zeros(2))

    np.testing.assert_allclose(w.value, 1 - 0.1 * 0.5, rtol=1e-6)


def test_what_stands_around_an_optimizer_sets_its_rate():
    inner = optim.SGD(0.1, _var())

    optim.SAM(inner).lr = 0.5
    assert float(optim.Lookahead(inner).current_lr) == 0.5
    assert float(inner.current_lr) == 0.5


def test_sam_says_that_it_needs_the_loss():
    w = _var()
    opt = optim.SGD(0.1, w)

    for around in optim.SAM(opt), optim.Lookahead(optim.SAM(opt)):
        with pytest.raises(
            bo.errors.GradientError, match=r"sam.step\(closure\).*inside"
        ):
            around.update({"": jnp.ones(2)})
    assert int(opt.step) == 0


# --- groups and options


GROUPS = {
    "no match": ({"lr": 0.1}, "no 'match'"),
    "no dict": ("*", "is a dict, not"),
    "decay_by": ({"decay_by": "x"}, "none of 'lr', 'schedule', 'none'"),
    "dialect": ({"dialect": "x"}, "none of 'document'"),
    "a flag": ({"nesterov": "no"}, "none of False, True"),
    "a dtype": ({"mu_dtype": "floaty"}, "is no dtype"),
    "an int dtype": ({"nu_dtype": jnp.int32}, "int32 is no floating"),
    "bounds": ({"bounds": (2.0, 1.0)}, "low <= high"),
    "one bound": ({"bounds": (2.0,)}, "low <= high"),
    "sign": ({"sign": 2}, "sign: "),
    "shape of sign": ({"sign": jnp.ones(5)}, r"param: sign of shape \(5,\)"),
    "constraint": ({"constraint": 3}, "constraint: a function"),
    "betas": ({"betas": 0.9}, "two numbers"),
    "text": ({"eps": "1"}, "eps of type str"),
}


@pytest.mark.parametrize("kind", GROUPS)
def test_a_bad_rule_is_refused_at_construction(kind):
    rule, says = GROUPS[kind]
    if isinstance(rule, dict) and kind != "no match":
        rule = {"match": "*", **rule}

    with pytest.raises(Bad, match=says):
        optim.AdamW(0.1, _var(), groups=[rule])


def test_signs_of_rows_are_told_how_to_stand():
    w, sign = bo.TrainVar(jnp.ones((3, 2))), jnp.array([1.0, -1.0, 1.0])
    rule = {"match": "w", "sign": sign}

    with pytest.raises(Bad, match=r"sign\[:, None\] has one for each index of axis 0"):
        optim.SGD(0.1, {"w": w}, groups=[rule])
    opt = optim.SGD(0.1, {"w": w}, groups=[rule | {"sign": sign[:, None]}])
    opt.update({"w": jnp.zeros((3, 2))})

    assert w.value.tolist() == [[1, 1], [0, 0], [1, 1]]


def test_a_decay_by_schedule_may_hold_for_a_group():
    half = optim.LambdaLR(0.2, lambda t: 0.5)
    a, b = _var(), _var()
    rule = {"match": "a", "decay_by": "schedule"}
    opt = optim.AdamW(half, {"a": a, "b": b}, weight_decay=0.2, groups=[rule])

    opt.update({"a": jnp.zeros(2), "b": jnp.zeros(2)})

    np.testing.assert_allclose([a[0], b[0]], [0.9, 0.98], rtol=1e-6)


BAD = [
    dict(amsgrad="my optimizer"),
    dict(mu_dtype="floaty"),
    dict(nu_dtype=int),
    dict(betas=(0.9, 0.99, 0.999)),
    dict(betas=0.9),
    dict(groups={"match": "*"}),
    dict(groups="*"),
    dict(lr=None),
    dict(clip_norm="1"),
    dict(clip_value=float("nan")),
    dict(accumulate=2.5),
    dict(max_nonfinite=3),
    dict(nonfinite="skip", max_nonfinite=2.5),
]


@pytest.mark.parametrize("settings", BAD, ids=str)
def test_bad_settings_are_refused_at_construction(settings):
    with pytest.raises(Bad):
        optim.AdamW(**{"lr": 0.1, **settings})


def test_a_hook_is_a_function():
    with pytest.raises(TypeError, match="not 3"):
        optim.SGD(0.1, _var()).before_update(3)  # type: ignore[arg-type]


def test_a_rule_that_fits_no_variable_is_warned_of():
    rules = {"groups": [{"match": "wieght", "lr": 0.2}], "mask": ["baas", "re:bis"]}
    text = "(?s)no variable of this SGD:.*wieght.*baas.*its variables are param"

    with pytest.warns(UserWarning, match=text) as seen:
        opt = optim.SGD(0.1, _var(), **rules)
    assert str(opt.summary()).count("variables: 0") == 1
    with pytest.warns(UserWarning, match=text) as again:
        optim.SGD(0.1, **rules).init({"param": jnp.ones(2)})
    assert seen[0].filename == again[0].filename == __file__


def test_rules_that_are_no_names_may_fit_nothing():
    rules = [{"match": lambda path, value: False}, {"match": "matrices"}]

    optim.SGD(0.1, _var(2), groups=rules, mask="matrices")
    late = optim.SGD(0.1, groups=[{"match": "later"}])
    late.register_train_vars({"sooner": _var()})


def test_a_failed_registration_leaves_nothing_behind():
    class Picky(optim.SGD):
        def init_slots(self, param, hyper):
            if param.ndim > 1:
                raise ValueError("vectors only")
            return {}

    opt = Picky(0.1, {"a": _var()})
    before = opt.state_dict().keys()

    for register in (
        lambda v: opt.register_train_vars(v),
        lambda v: opt.add_param_group({"params": v}),
        lambda v: opt.register_train_vars([{"params": _var()}, {"params": v}]),
    ):
        with pytest.raises(ValueError, match="vectors only"):
            register({"b": _var(), "c": _var(2, 2)})

    assert (list(opt.vars_to_train), len(opt.groups)) == (["a"], 1)
    assert opt.state_dict().keys() == before
    opt.update({"a": jnp.ones(2)})


def test_settings_are_saved_by_plain_names():
    def half(t):
        return 0.5

    meta = optim.AdamW(half, mu_dtype=jnp.bfloat16)._checkpoint_meta()
    again = optim.AdamW(half, mu_dtype="bfloat16")._checkpoint_meta()

    assert meta == again
    assert meta["groups"]["default"]["options"]["mu_dtype"] == "bfloat16"
    assert "0x" not in str(meta) and "<" not in str(meta)


def test_functions_among_options_are_saved_by_name():
    class Shaped(optim.SGD):
        shape: Any = optim.option(None)
        kind: Any = optim.option(np.float16)

    meta = Shaped(0.1, shape=jnp.tanh)._checkpoint_meta()

    named = {
        name: meta["groups"]["default"]["options"][name] for name in ("shape", "kind")
    }
    assert named == {"shape": "tanh", "kind": "float16"}
