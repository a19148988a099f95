"""Everything about a checkpoint and its data that can be computed without torch: families, shapes, sizes, costs, feasibility.

Imports api_schemas, and no library but pydantic.
"""
