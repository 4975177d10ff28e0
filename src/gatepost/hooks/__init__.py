"""What plugins are asked and may say: stages, verdicts, edits, bindings, rules, and the dispatcher that asks.

Everything is a value or a plain `async def`; time, tasks, content and the trace are ports (`ports`).
"""
