"""What can be known of a checkpoint and its data without torch: families, shapes, sizes, costs, feasibility.

Imports api_schemas, and no library but pydantic.
"""
