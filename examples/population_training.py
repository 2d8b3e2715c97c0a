# SPDX-License-Identifier: Apache-2.0
"""Train 16 networks at once, each with its own learning rate, and take the best.

``bo.vmap`` makes a population out of the constructor of one member, and trains all of
them by the step of one: one compiled call. The program then trains the same members one
after the other, from the state dict of the population, and compares the weights at the
end. The member with the best validation gives the test accuracy.

    python examples/population_training.py        # draws population_training.png
    XLA_FLAGS=--xla_force_host_platform_device_count=2 \\
        python examples/population_training.py    # sharded over two devices

Source: Jaderberg et al. 2017, Population based training of neural networks, without
the exchange of weights between members; the task is that of yinyang_snn.py.
"""

import time

import jax
import jax.numpy as jnp
import numpy as np
import program
from yinyang_snn import BATCH, Network, sample, spike_times

import brainopt as bo

MEMBERS = 16
RATES = np.geomspace(1e-3, 1.0, MEMBERS).astype(np.float32)  # highest learning rates


class Member(bo.Node):
    """One network, its optimizer and its random state."""

    def __init__(self, seed, rate, updates):
        self.rng = bo.RandomState(seed)
        self.net = Network(60, self.rng, learn_tau=False)
        schedule = bo.optim.CosineAnnealingLR(rate, updates, clock="step")
        # XLA rounds Adam otherwise in a population than alone; see docs/results.md.
        self.opt = bo.optim.RMSProp(schedule, self.net)

    def epoch(self, times, classes):
        """Train on every sample once; return the mean loss."""

        def update(picked):
            def loss():
                logp = jax.nn.log_softmax(self.net.logits(times[picked]))
                return -jnp.take_along_axis(logp, classes[picked][:, None], 1).mean()

            grads, value = bo.grad(loss, self.net.train_vars(), return_value=True)()
            self.opt.update(grads)
            return value

        order = self.rng.permutation(len(times)).reshape(-1, BATCH)
        return bo.for_loop(update, order).mean()

    def accuracy(self, times, classes):
        """Return the fraction of samples whose class is found."""
        right = self.net.logits(times).argmax(1) == classes
        self.net.reset(BATCH)  # the batch that the next epoch was traced for
        return right.mean()


def compiled(function):
    """Compile so that a member gets the same bits alone and in a population.

    On CPU XLA gives some loops to the library YNNPACK, depending on their shape, and
    its exponential and its sums of rows round otherwise than XLA's own. A compiler that
    does not know the option has no such library.
    """
    options = {"xla_cpu_experimental_ynn_fusion_type": ""}
    try:
        jax.jit(lambda: 0, compiler_options=options)()
    except jax.errors.JaxRuntimeError:
        options = {}
    return bo.jit(function, compiler_options=options)


class Population(bo.Node):
    """All members: every Variable of a member with an axis in front."""

    def __init__(self, seed, updates):
        seeds = seed + jnp.arange(MEMBERS)
        make = bo.vmap(lambda s, rate: Member(s, rate, updates))
        self.members = make(seeds, jnp.asarray(RATES))
        self.shards = shard(self.members)
        axes = {"in_axes": None, "axis_size": MEMBERS, "axes": {self.members: 0}}
        self.epoch = compiled(bo.vmap(self.members.epoch, **axes))
        self.accuracy = compiled(bo.vmap(self.members.accuracy, **axes))


def shard(members):
    """Spread the members over all devices, if their number allows; return how many."""
    devices = jax.devices()
    if len(devices) == 1 or MEMBERS % len(devices):
        return 1
    auto = (jax.sharding.AxisType.Auto,)
    mesh = jax.make_mesh((len(devices),), ("members",), axis_types=auto)
    place = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("members"))
    members.to(place)
    return len(devices)


def one_by_one(start, seed, steps, train):
    """Train each member alone; return its weights, and the seconds of all epochs."""
    updates = steps * (len(train[0]) // BATCH)
    member = Member(jnp.asarray(seed), jnp.asarray(RATES[0]), updates)
    epoch, found, seconds = compiled(member.epoch), [], 0.0
    for k in range(MEMBERS):
        member.load_state_dict({path: value[k] for path, value in start.items()})
        epoch(*train)
        begin = time.perf_counter()
        for _ in range(steps - 1):
            jax.block_until_ready(epoch(*train))
        seconds += time.perf_counter() - begin
        found.append(weights(member))
    return found, seconds


def main(argv=None):
    """Train both ways, compare, take the best, draw; return the results."""
    parser = program.options(
        __doc__, "population_training", 40, "one epoch of 10 updates of every member"
    )
    args = program.parse(parser, argv)
    data = [sample(n, seed) for n, seed in ((1000, 42), (1000, 41), (10_000, 40))]
    train, valid, test = [(spike_times(x), jnp.asarray(y)) for x, y in data]
    run = Population(args.seed, args.steps * (len(train[0]) // BATCH))
    start, together = run.members.state_dict(), []

    def advance():
        begin = time.perf_counter()
        losses = np.asarray(run.epoch(*train))
        together.append(time.perf_counter() - begin)
        return {f"loss of {k}": losses[k] for k in (0, MEMBERS // 2, MEMBERS - 1)}

    program.train(args, run, advance, every=min(5, args.steps))
    last = weights(run.members)
    alone, apart = one_by_one(start, args.seed, args.steps, train)
    off = [
        max(jnp.abs(alone[k][path] - value[k]).max() for path, value in last.items())
        for k in range(MEMBERS)
    ]
    scores, tests = np.asarray(run.accuracy(*valid)), np.asarray(run.accuracy(*test))
    best = int(scores.argmax())
    results = {
        "devices": run.shards,
        "best learning rate": float(RATES[best]),
        "test accuracy of the best": float(tests[best]),
        "test accuracy, median": float(np.median(tests)),
        "members equal to the bit": int(np.sum(np.equal(off, 0))),
        "largest difference of weights": float(max(off)),
    }
    if len(together) > 1:  # the first call compiles; a resumed run has fewer
        epoch = apart / (args.steps - 1)
        results["time / 16 single runs"] = float(np.mean(together[1:]) / epoch)
    program.report(args, run, results)
    if args.figure:
        draw(scores, tests, best, results, args.figure)
    return results


def weights(node):
    """Return the trained variables of ``node``, ``{path: array}``."""
    return {path: v.value for path, v in node.net.train_vars().items()}


def draw(scores, tests, best, results, filename):
    """Draw the accuracy of each member over its learning rate."""
    plt = program.pyplot()
    figure, axes = plt.subplots(figsize=(5.5, 3.5), layout="constrained")
    axes.semilogx(RATES, scores, "o", color="tab:blue", label="validation")
    axes.semilogx(RATES, tests, "x", color="0.4", label="test")
    axes.plot(RATES[best], scores[best], "o", ms=12, mfc="none", color="tab:red",
              label="best by validation")  # fmt: skip
    axes.set(xlabel="highest learning rate", ylabel="accuracy")
    title = "16 networks in one call"
    if (ratio := results.get("time / 16 single runs")) is not None:
        title += f": {ratio:.2f} × the time of 16 calls"
    axes.set_title(title)
    axes.legend(frameon=False, loc="lower right")
    program.save_figure(figure, filename)


if __name__ == "__main__":
    main()
