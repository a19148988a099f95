"""The page: the API's own answers, drawn. Server-rendered templates, no state that the address does not carry.

It reads what the API would give the same caller, through the same functions, and changes things by calling /v1 from the browser.
"""
