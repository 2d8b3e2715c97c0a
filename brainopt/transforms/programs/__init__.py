# SPDX-License-Identifier: Apache-2.0
"""Programs: the compiled forms of a function, and the road of the values through them.

**How it works.** A program is `jax.jit` of a pure function
``(donated, kept, args, kwargs) -> (values, out)``. ``donated`` are the values of the
Variables that it writes and that are one array of fixed shape; ``kept`` those of all
others it knows; ``values`` the new ones. While JAX traces it, the function of the user
runs in a sealed frame. A Variable that the program does not know ends the trace
(`UnknownVariables`), and the caller goes on with a program that knows it. `Static`
decides which arguments are inputs and which belong to the key of a program.

A call takes one of three roads:

1. `Program.launch`, where nothing else is traced. The usual call is one call into C,
   from the inputs to the storage, and the values stay resident for the next one. With
   other threads it runs under the lock of the storage.
2. `Program.keep`, without donation. It commits if its inputs are still the values of
   their Variables, and runs again if another thread was faster.
3. `Program.inline`, inside another trace, which the values leave through its frame.

A program is valid as long as what its trace read is the same: attributes of Nodes
(`Facts`), settings (`Revision`), the places of its Variables. One number counts every
such change, so a call compares that number alone, and asks `Program.stale` only where
it differs or where lists and dicts, which change uncounted, were read.

**What must never happen.** A signal handler between a donating computation and the
storing of its results: the state would be lost. So no bytecode runs there, or handlers
are deferred. A donated array that somebody else holds: it would be deleted under its
holder, so references are counted and such an array is copied. A program that threads a
Variable of a trace that has ended. Compilation under the lock: every other thread would
wait for the compiler.

The rooms:

* static: arguments that are compiled in, and arguments that are inputs;
* program: one compiled form of a function, its dependencies, and its roads;
* encoding: keys and custom trees as plain arrays, which C can hand out;
* placement: the shardings of inputs and results;
* compilations: counts of compilations, and limits on them;
* retrace: the exceptions that make a trace start over.
"""
