# SPDX-License-Identifier: Apache-2.0
"""Sixty mistakes of a first day.

Each entry is the code, the class of what comes of it, what the message has to name, and
what it has to say of the mend.
"""

import jax

from brainopt import errors

SETUP = """
import jax, jax.numpy as jnp, numpy as np
import brainopt as bo
class Layer(bo.Node):
    def __init__(self, n=3, m=2):
        self.W = bo.TrainVar(jnp.ones((n, m)))
        self.V = bo.Variable(jnp.zeros(m))
    def __call__(self, x):
        return x @ self.W.value
class Net(bo.Node):
    def __init__(self):
        self.layers = [Layer(), Layer(2, 2)]
net = Net()
x = jnp.ones((4, 3))
W = net.layers[0].W
def loss(x):
    return net.layers[0](x).sum()
opt = bo.optim.SGD(0.1, net)
grads = bo.grad(loss, net.train_vars())(x)
"""

MISTAKES = {
    # gradients
    "a gradient of the wrong shape": (
        "opt.update(grads | {'layers.0.W': jnp.ones((2, 3))})",
        errors.GradientError,
        r"layers\.0\.W: .*\(2, 3\).*\(3, 2\)",
        "the same `train_vars`",
    ),
    "gradients of another model": (
        "opt.update({'a.W': jnp.ones(2)})",
        errors.GradientError,
        r"a\.W",
        "the same `train_vars`",
    ),
    "a gradient function that is not called": (
        "opt.update(bo.grad(loss, net.train_vars()))",
        errors.GradientError,
        "",
        "call",
    ),
    "opt.step() as in torch": (
        "opt.step()",
        errors.GradientError,
        "opt.step",
        "opt.update",
    ),
    "a loss that is no number": (
        "bo.grad(lambda: net.layers[0](x), net.train_vars())()",
        TypeError,
        r"\(4, 2\)",
        "mean",
    ),
    "a loss with more results": (
        "bo.grad(lambda: (loss(x), 1), net.train_vars())()",
        TypeError,
        "",
        "has_aux",
    ),
    "a layer appended after the optimizer": (
        "net.layers.append(Layer(2, 2)); "
        "opt.update(bo.grad(lambda: loss(x), net.train_vars())())",
        errors.GradientError,
        r"layers\.2\.W",
        "register_train_vars",
    ),
    "an integer variable to train": (
        "bo.optim.SGD(0.1, bo.TrainVar([1, 2]))",
        errors.VariableError,
        "int",
        "float",
    ),
    # making an optimizer
    "the order of torch": (
        "bo.optim.AdamW(net, 0.1)",
        errors.HyperparameterError,
        "lr of type Net",
        r"AdamW\(lr, train_vars",
    ),
    "a node first, and lr by name": (
        "bo.optim.AdamW(net, lr=0.1)",
        TypeError,
        "AdamW",
        r"AdamW\(.*lr=",
    ),
    "a misspelt option": (
        "bo.optim.AdamW(0.1, net, weigth_decay=0.1)",
        TypeError,
        "weigth_decay",
        "weight_decay",
    ),
    "the name of another library": (
        "opt.learning_rate = 0.1",
        AttributeError,
        "learning_rate",
        "lr",
    ),
    "a misspelt path to freeze": (
        "opt.freeze('layers.0.w')",
        errors.PathError,
        r"layers\.0\.w",
        r"layers\.0\.W",
    ),
    "a misspelt mask": (
        "bo.optim.AdamW(0.1, net, mask='layer.*')",
        errors.SelectionWarning,
        r"layer\.\*",
        r"layers\.0\.W",
    ),
    "a negative rate": (
        "bo.optim.SGD(-0.1, net)",
        errors.HyperparameterError,
        "lr",
        r"\[0, inf\)",
    ),
    "an unknown policy": (
        "bo.optim.SGD(0.1, net, nonfinite='skp')",
        errors.HyperparameterError,
        "skp",
        "'skip'",
    ),
    "a limit that nothing counts": (
        "bo.optim.SGD(0.1, net, max_nonfinite=3)",
        errors.HyperparameterError,
        "max_nonfinite",
        "nonfinite='skip'",
    ),
    "a weight without micro-batches": (
        "opt.update(grads, weight=2.0)",
        errors.HyperparameterError,
        "weight",
        "accumulate=",
    ),
    "the schedule of another library": (
        "bo.optim.CosineAnnealingLR(0.1, decay_steps=10)",
        TypeError,
        "decay_steps",
        "T_max",
    ),
    "an optimizer of nothing": (
        "node = bo.Node(); node.v = bo.Variable([1.0]); bo.optim.SGD(0.1, node)",
        errors.TrainingWarning,
        "SGD trains nothing",
        "TrainVar",
    ),
    "a pytree that is not attached": (
        "bo.optim.SGD(0.1, jax.tree_util.Partial(jnp.add, jnp.ones(2)))",
        TypeError,
        "a Partial has no Variables",
        r"net = bo\.attach\(model\)",
    ),
    "an array to train": (
        "bo.optim.SGD(0.1, jnp.ones(2))",
        TypeError,
        "Array",
        r"bo\.TrainVar\(array\)",
    ),
    "two optimizers of one variable": (
        "other = bo.optim.Adam(0.1, net)\nfor o in (opt, other, opt): o.update(grads)",
        errors.TrainingWarning,
        r"layers\.0\.W: Adam",
        "groups",
    ),
    "weights that are no longer finite": (
        "step = bo.jit(opt.update)\n"
        "for _ in range(3): step({path: g * np.nan for path, g in grads.items()})",
        errors.TrainingWarning,
        r"layers\.0\.W: 6 of 6",
        "nonfinite='skip'",
    ),
    "epochs that nobody counts": (
        "opt = bo.optim.SGD(bo.optim.StepLR(0.1, 2), net)\nstep = bo.jit(opt.update)\n"
        "for _ in range(1100): step(grads)",
        errors.TrainingWarning,
        "StepLR of this SGD",
        r"step_epoch\(\).*clock='step'",
    ),
    # names that are not there
    "a misspelt optimizer": ("bo.optim.Adamw", AttributeError, "Adamw", "AdamW"),
    "a misspelt class": ("bo.Varible", AttributeError, "Varible", "Variable"),
    "save at the top": ("bo.save", AttributeError, "save", "bo.checkpoint.save"),
    "load at the top": ("bo.load", AttributeError, "load", "bo.checkpoint.load"),
    "the Module of others": ("bo.Module", AttributeError, "Module", "bo.Node"),
    "the Parameter of others": ("bo.Param", AttributeError, "Param", "TrainVar"),
    "an optimizer at the top": ("bo.AdamW", AttributeError, "AdamW", "bo.optim.AdamW"),
    "a misspelt function of files": (
        "bo.checkpoint.sav",
        AttributeError,
        "sav",
        "save",
    ),
    # values
    "a value of another shape": (
        "W.value = jnp.ones(3)",
        errors.VariableError,
        r"layers\.0\.W.*shape \(3,\) for shape \(3, 2\)",
        "same shape",
    ),
    "a value of another dtype": (
        "W.value = jnp.ones((3, 2), int)",
        errors.VariableError,
        r"layers\.0\.W.*int",
        "same shape and dtype",
    ),
    "a batch axis that is not there": (
        "bo.Variable([1.0], batch_axis=1)",
        errors.VariableError,
        "batch_axis=1",
        "1 axes",
    ),
    "an index array as data of a shape": (
        "bo.Variable((-1, 2))",
        errors.VariableError,
        r"\(-1, 2\)",
        "wrap data",
    ),
    "a node with slots": (
        "class Bad(bo.Node):\n    __slots__ = ('W',)",
        TypeError,
        "Bad",
        "__slots__",
    ),
    "two variables under one path": (
        "net.a = {'b.c': bo.Variable([1.0]), 'b': {'c': bo.Variable([2.0])}}; "
        "net.vars()",
        errors.PathError,
        r"a\.b\.c",
        "rename",
    ),
    "variables in a set": (
        "net.more = {bo.TrainVar([1.0])}; net.train_vars()",
        errors.StateWarning,
        r"Net\.more",
        "list",
    ),
    # transforms
    "numpy inside jit": (
        "bo.jit(lambda: np.tanh(W.value))()",
        jax.errors.TracerArrayConversionError,
        "",
        "jnp",
    ),
    "a branch of Python on a traced value": (
        "@bo.jit\ndef step(x):\n    return x if x.sum() > 0 else -x\nstep(x)",
        jax.errors.TracerBoolConversionError,
        "step",
        r"bo\.cond",
    ),
    "a Python number of a traced value": (
        "bo.jit(lambda: float(W.value.sum()))()",
        jax.errors.ConcretizationTypeError,
        "",
        "outside",
    ),
    "a string argument": (
        "bo.jit(lambda mode: loss(x))('train')",
        TypeError,
        "train|str",
        "static_argnames",
    ),
    "a list as a static argument": (
        "bo.jit(lambda sizes: loss(x), static_argnums=0)([1, 2])",
        (TypeError, ValueError),
        "",
        "hashable|tuple",
    ),
    "a traced array kept in a list": (
        "kept = []\nbo.jit(lambda y: kept.append(y * 2))(x)\nkept[0] + 1",
        jax.errors.UnexpectedTracerError,
        "",
        "Variable|side effect",
    ),
    "a traced array kept in an attribute": (
        "def step(y):\n    net.last = y * 2\nbo.jit(step)(x)",
        errors.TracingWarning,
        r"Net\.last",
        r"bo\.Variable",
    ),
    "a count in an attribute": (
        "def step(y):\n    net.t = net.t + 1\n    return y\nnet.t = 0\nbo.jit(step)(x)",
        errors.TracingWarning,
        r"Net\.t",
        r"bo\.Variable",
    ),
    "an input of the wrong shape": (
        "bo.jit(net.layers[0])(jnp.ones((4, 5)))",
        TypeError,
        "5.*3",
        "in bo.jit of",
    ),
    "a write inside jax.jit": (
        "def f(x):\n    W.value = W.value * 2\n    return x\njax.jit(f)(x)",
        errors.TraceContextError,
        r"layers\.0\.W",
        r"bo\.jit",
    ),
    "a write inside vmap": (
        "def f(x):\n    W.value = W.value * x\n    return x\nbo.vmap(f)(jnp.ones(3))",
        errors.VariableError,
        r"layers\.0\.W",
        "vmap|batch|axis",
    ),
    "operands of two lengths": (
        "bo.for_loop(lambda a, b: a, (jnp.ones(3), jnp.ones(4)))",
        ValueError,
        r"\(3,\)",
        r"\(length, …\)",
    ),
    "a loop without a length": ("bo.for_loop(lambda: 1.0)", ValueError, "", "length"),
    "a Variable as the carry of a loop of jax.lax": (
        "bo.jit(lambda: jax.lax.fori_loop(0, 2, lambda _, c: c + 1, W))()",
        TypeError,
        "pytree structure",
        r"\.value",
    ),
    "an option of jax.jit that is not for here": (
        "bo.jit(loss, donate_argnums=0)",
        TypeError,
        "donate_argnums",
        "Variable",
    ),
    "no function for jit": ("bo.jit(3)", TypeError, "int", "function"),
    # files and devices
    "the state of another model": (
        "net.load_state_dict({'layers.0.W': jnp.ones((3, 2)), 'other': jnp.ones(1)})",
        errors.StateDictError,
        "unexpected: other",
        "strict=False",
    ),
    "the file of another model": (
        "bo.checkpoint.save('f.bo', {'net': Layer()}); "
        "bo.checkpoint.restore('f.bo', {'net': net})",
        errors.CheckpointMismatchError,
        r"layers\.0\.W",
        "",
    ),
    "a lambda in a file": (
        "bo.checkpoint.save('f.bo', {'net': net, 'f': lambda x: x})",
        errors.CheckpointError,
        "f: |'f'",
        "",
    ),
    "a file that is not there": (
        "net.load_states('nosuch.bo')",
        (errors.CheckpointIOError, FileNotFoundError),
        r"nosuch\.bo",
        "",
    ),
    "a device that is not there": (
        "net.to('cuda:7')",
        errors.DeviceError,
        "cuda:7",
        "cpu",
    ),
    "a name that is taken": (
        "a = bo.Node(name='one'); b = bo.Node(name='one')",
        errors.UniqueNameError,
        "one",
        "",
    ),
    "a depth of zero": ("bo.summary(net, depth=0)", ValueError, "depth=0", "1 or more"),
    "a summary of nothing": ("bo.summary(3)", TypeError, "int", "Node"),
}
