# SPDX-License-Identifier: Apache-2.0
"""Compiled programs: what a call is compiled for, and the road of its values.

* static: which arguments are compiled in, and which are inputs;
* program: one compiled form of a function, what it depends on, and how it is run;
* encoding: how keys and custom trees pass the computation as plain arrays;
* placement: where inputs and results stand among the devices;
* compilations: how often a function was compiled, and limits on that;
* retrace: what makes a trace start over.
"""
