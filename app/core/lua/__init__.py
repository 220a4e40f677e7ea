"""Lua scripts: changes that Redis makes in one atomic step. Each is a `.lua` file near the module that runs it."""
